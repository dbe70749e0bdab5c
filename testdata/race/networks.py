"""The networks of the race in PyTorch, layer by layer what `cnnkit build` makes, and how each is trained.

CASES names them; `python networks.py` prints their numbers of parameters.
"""
from collections import namedtuple

import torch
from torch import nn

# make: the network; shape: of one image, [C,H,W]; batch: images a training step; classes: 0 for a mask.
Case = namedtuple('Case', 'make shape batch classes loss optimiser')


def classifier(inputs):
    """The fully connected end of LeNet-5 and MiniVGG: [N,inputs] -> [N,10] log-probabilities."""
    return [nn.Flatten(), nn.Linear(inputs, 120), nn.ReLU(inplace=True), nn.Linear(120, 84), nn.ReLU(inplace=True),
            nn.Linear(84, 10), nn.LogSoftmax(dim=1)]


def lenet5(channels, size):
    side = (size // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        *classifier(16 * side * side))


def minivgg(channels, size):
    side = ((size - 4) // 2 - 2) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3), nn.ReLU(inplace=True), nn.Conv2d(16, 16, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3), nn.ReLU(inplace=True), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        *classifier(32 * side * side))


def conv_bn(cin, cout, stride=1):
    return [nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(cout)]


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, a projection where channels or size change."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.body = nn.Sequential(*conv_bn(cin, cout, stride), nn.ReLU(inplace=True), *conv_bn(cout, cout))
        # As in cnnkit, the projection is 3x3.
        self.shortcut = nn.Sequential(*conv_bn(cin, cout, stride)) if stride > 1 or cin != cout else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.body(x) + self.shortcut(x))


def resnet():
    """The CIFAR ResNet with two blocks in each layer of 16, 32 and 64 channels."""
    layers, cin = [*conv_bn(3, 16), nn.ReLU(inplace=True)], 16
    for cout, stride in (16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1):
        layers.append(Residual(cin, cout, stride))
        cin = cout
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10), nn.LogSoftmax(dim=1))


class UNet(nn.Module):
    """[N,3,H,W] -> [N,1,H,W] logits; H and W are multiples of 16."""

    def __init__(self, width=64, depth=4):
        super().__init__()
        double = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(inplace=True),  # noqa: E731
                                            nn.Conv2d(o, o, 3, padding=1), nn.ReLU(inplace=True))
        widths = [width << k for k in range(depth + 1)]
        self.down = nn.ModuleList(double(i, o) for i, o in zip([3] + widths, widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(w, w // 2, 2, stride=2) for w in widths[:0:-1])
        self.join = nn.ModuleList(double(w, w // 2) for w in widths[:0:-1])
        self.pool, self.final = nn.MaxPool2d(2), nn.Conv2d(width, 1, 1)

    def forward(self, x):
        skips = []
        for level in self.down:
            x = level(self.pool(x) if skips else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join):
            x = join(torch.cat([up(x), skips.pop()], dim=1))
        return self.final(x)


def torchvision_network(name):
    import torchvision
    return getattr(torchvision.models, name)(weights=None)


CASES = {
    'lenet5-28': Case(lambda: lenet5(1, 28), (1, 28, 28), 64, 10, 'nll', 'sgd'),
    'lenet5-32': Case(lambda: lenet5(3, 32), (3, 32, 32), 100, 10, 'nll', 'sgd'),
    'minivgg-28': Case(lambda: minivgg(1, 28), (1, 28, 28), 64, 10, 'nll', 'sgd'),
    'minivgg-32': Case(lambda: minivgg(3, 32), (3, 32, 32), 100, 10, 'nll', 'sgd'),
    'resnet-cifar': Case(resnet, (3, 32, 32), 100, 10, 'nll', 'adam'),
    'unet-128': Case(UNet, (3, 128, 128), 4, 0, 'bce', 'adam'),
    'resnet18-224': Case(lambda: torchvision_network('resnet18'), (3, 224, 224), 8, 1000, 'ce', 'sgd'),
    'vgg16-224': Case(lambda: torchvision_network('vgg16'), (3, 224, 224), 4, 1000, 'ce', 'sgd'),
}


if __name__ == '__main__':
    for name, case in CASES.items():
        print(f'{name:14s} {sum(p.numel() for p in case.make().parameters()):12,d}')
