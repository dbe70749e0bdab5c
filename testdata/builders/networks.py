"""The builders' networks as PyTorch modules: network(name, config), with a config as builders.Config has it in JSON."""
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

DEFAULTS = {
    'lenet5': dict(input=(1, 28, 28), classes=10),
    'minivgg': dict(input=(1, 28, 28), classes=10),
    'resnet': dict(input=(3, 32, 32), classes=10, blocks=(2, 2, 2), width=16),
    'resnet9': dict(input=(3, 32, 32), classes=10, width=64),
    'resnet20': dict(input=(3, 32, 32), classes=10, blocks=(3, 3, 3), width=16),
    'resnet18': dict(input=(3, 224, 224), classes=1000, blocks=(2, 2, 2, 2), width=64),
    'unet': dict(input=(3, 128, 128), classes=1, width=64, depth=4),
    'vgg16': dict(input=(3, 224, 224), classes=1000, width=64),
}


class Convs(nn.Module):
    """LeNet-5 and MiniVGG: named convolutions, each with its ReLU, pooled after some; three fully connected layers."""

    def __init__(self, channels, classes, convs, pooled):
        super().__init__()
        self.names, self.pooled = list(convs), pooled
        for name, (out, k, pad) in convs.items():
            setattr(self, name, nn.Conv2d(channels, out, k, padding=pad))
            channels = out
        self.fc1, self.fc2, self.fc3 = nn.LazyLinear(120), nn.Linear(120, 84), nn.Linear(84, classes)

    def forward(self, x):
        for name in self.names:
            x = F.relu(getattr(self, name)(x))
            if name in self.pooled:
                x = F.max_pool2d(x, 2)
        return F.log_softmax(self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))), dim=1)


class Residual(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        def conv(i, s):
            return nn.Conv2d(i, out, 3, s, 1, bias=False)
        self.conv1, self.bn1 = conv(channels, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv(out, 1), nn.BatchNorm2d(out)
        change = stride != 1 or channels != out
        self.downsample = nn.Sequential(conv(channels, stride), nn.BatchNorm2d(out)) if change else nn.Identity()

    def forward(self, x):
        return F.relu(self.downsample(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


def layers(net, block, blocks, width):
    """Gives net the modules layer1, layer2, ..., each of twice the channels of the one before, from width on."""
    before = width
    for i, n in enumerate(blocks):
        out = width << i
        setattr(net, f'layer{i + 1}', nn.Sequential(*[block(out if j else before, out, 2 if i and not j else 1) for j in range(n)]))
        before = out


class ResNet(nn.Module):
    def __init__(self, channels, classes, blocks, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        layers(self, Residual, blocks, width)
        self.avg_pool, self.fc = nn.AvgPool2d(8), nn.LazyLinear(classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn(self.conv(x))))))
        return F.log_softmax(self.fc(self.avg_pool(x).flatten(1)), dim=1)


class PlainResidual(nn.Module):
    """A shortcut without weights (option A): every second pixel, zeros for the further channels."""

    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.stride, self.more = stride, out - channels

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)))


class ResNet20(nn.Module):
    def __init__(self, channels, classes, blocks, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        layers(self, PlainResidual, blocks, width)
        self.linear = nn.Linear(width << len(blocks) - 1, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class ConvNorm(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Pair(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.res1, self.res2 = ConvNorm(channels, channels), ConvNorm(channels, channels)

    def forward(self, x):
        return x + self.res2(self.res1(x))


class Stage(ConvNorm):
    """Halves the feature map."""

    def __init__(self, channels, out, residual):
        super().__init__(channels, out)
        self.residual = Pair(out) if residual else nn.Identity()

    def forward(self, x):
        return self.residual(F.max_pool2d(super().forward(x), 2))


class ResNet9(nn.Module):
    """The network of David Page's DAWNBench entry for CIFAR-10."""

    def __init__(self, channels, classes, width):
        super().__init__()
        self.prep, self.layer1 = ConvNorm(channels, width), Stage(width, width * 2, True)
        self.layer2, self.layer3 = Stage(width * 2, width * 4, False), Stage(width * 4, width * 8, True)
        self.linear = nn.Linear(width * 8, classes, bias=False)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        return self.linear(F.adaptive_max_pool2d(x, 1).flatten(1)) * 0.125


class UNet(nn.Module):
    def __init__(self, channels, classes, width, depth):
        super().__init__()
        def double(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())
        self.depth = depth
        for k in range(depth):
            setattr(self, f'enc{k + 1}', double(width << k - 1 if k else channels, width << k))
        self.bottleneck = double(width << depth - 1, width << depth)
        for k in range(depth, 0, -1):
            setattr(self, f'upconv{k}', nn.ConvTranspose2d(width << k, width << k - 1, 2, 2))
            setattr(self, f'dec{k}', double(width << k, width << k - 1))
        self.conv_final = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skips = []
        for k in range(1, self.depth + 1):
            x = getattr(self, f'enc{k}')(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for k in range(self.depth, 0, -1):
            x = getattr(self, f'dec{k}')(torch.cat((getattr(self, f'upconv{k}')(x), skips[k - 1]), 1))
        return self.conv_final(x)


def resnet18(channels, classes, blocks, width):
    """torchvision's, rebuilt by its own methods where the width is not 64 or the image not RGB."""
    block = torchvision.models.resnet.BasicBlock
    net = torchvision.models.ResNet(block, list(blocks), num_classes=classes)
    if channels != 3 or width != 64:
        net.conv1, net.bn1, net.inplanes = nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), width
        for i, n in enumerate(blocks):
            setattr(net, f'layer{i + 1}', net._make_layer(block, width << i, n, stride=2 if i else 1))
        net.fc = nn.Linear(width * 8, classes)
    return net


def vgg16(channels, classes, width):
    """torchvision's, likewise."""
    vgg = torchvision.models.vgg
    plan = [v if v == 'M' else v * width // 64 for v in vgg.cfgs['D']]
    net = vgg.VGG(vgg.make_layers(plan), num_classes=classes, init_weights=False)
    if channels != 3:
        net.features[0] = nn.Conv2d(channels, width, 3, padding=1)
    if width != 64:
        full = width * 64
        net.classifier[0], net.classifier[3] = nn.Linear(width * 8 * 49, full), nn.Linear(full, full)
        net.classifier[6] = nn.Linear(full, classes)
    return net


def network(name, config):
    """In evaluation mode."""
    c = {**DEFAULTS[name], **config}
    channels, classes = c['input'][0], c['classes']
    net = {
        'lenet5': lambda: Convs(channels, classes, {'conv1': (6, 5, 2), 'conv2': (16, 5, 0)}, ('conv1', 'conv2')),
        'minivgg': lambda: Convs(channels, classes, {'conv11': (16, 3, 0), 'conv12': (16, 3, 0), 'conv21': (32, 3, 0),
                                                     'conv22': (32, 3, 1)}, ('conv12', 'conv22')),
        'resnet': lambda: ResNet(channels, classes, c['blocks'], c['width']),
        'resnet20': lambda: ResNet20(channels, classes, c['blocks'], c['width']),
        'resnet9': lambda: ResNet9(channels, classes, c['width']),
        'resnet18': lambda: resnet18(channels, classes, c['blocks'], c['width']),
        'unet': lambda: UNet(channels, classes, c['width'], c['depth']),
        'vgg16': lambda: vgg16(channels, classes, c['width']),
    }[name]().eval()
    with torch.no_grad():
        net(torch.zeros(1, *c['input']))  # lets the lazy layers count their features
    return net


def state(net):
    """The state dict without num_batches_tracked, which no ONNX operator has."""
    return {k: v for k, v in net.state_dict().items() if not k.endswith('num_batches_tracked')}
