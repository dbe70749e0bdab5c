"""The networks that export.py exports: torchvision's, timm's and segmentation_models_pytorch's, smallest first."""
import dataclasses
import typing

import torch
from torch import nn

BOTH = ('torchscript', 'dynamo')


class NoWeights(Exception):
    """No random weights give answers that a runtime can be held to: a fault of this file."""


@dataclasses.dataclass
class Case:
    """A network that takes [N,3,size,size]."""
    name: str
    build: typing.Callable
    size: int = 224
    exporters: tuple = BOTH

    def network(self):
        """The network and batches of one and three images, whose answers float64 shares."""
        batches = [self.batch(0, 1), self.batch(1, 3)]
        for seed in range(20):
            torch.manual_seed(seed)
            net = self.build().eval()
            settle(net, lambda: net(self.batch(4, 4)), 0.6 * 0.8 ** (seed // 3))
            if all(steady(net, x) for x in batches):
                return net, batches
        raise NoWeights('no weights for which PyTorch in float32 and in float64 agree')

    def batch(self, first, n):
        """Pictures [n,3,size,size], as normalized for torchvision."""
        return torch.stack([picture(i, (self.size, self.size)) for i in range(first, first + n)]) * 4 - 2


@dataclasses.dataclass
class Detection:
    """A detection network, whose heads are scaled and shifted so that images give some boxes each."""
    name: str
    build: typing.Callable
    heads: tuple  # names of the layers that give the scores of classes
    classes: int  # scores per anchor
    background: bool = True  # the first score is the background's, whom a softmax weighs with the others
    exporters: tuple = ('torchscript',)

    def network(self):
        """The network and three images with different numbers of boxes."""
        images = [picture(i) for i in range(12)]
        for seed in range(10):
            torch.manual_seed(seed)
            net = self.build().eval()
            settle(net, lambda: net([images[0], images[1]]))
            layers = self.calm(net, images[0])
            if self.thin(net, layers, images[:4]):
                found = self.different(net, images)
                if found:
                    return net, found
        raise NoWeights('no weights give different numbers of boxes')

    def calm(self, net, x):
        """Scales the heads: boxes move by a third of an anchor, scores spread by a half. It gives the latter heads."""
        def ending(*names):
            return [m for n, m in net.named_modules() if n.endswith(names) and hasattr(m, 'weight')]

        scale(net, ending('rpn.head.bbox_pred', 'rpn.head.cls_logits'), x, 0.3)
        scale(net, ending('box_predictor.bbox_pred', 'head.bbox_reg'), x, 0.3)
        layers = ending(*self.heads)
        scale(net, layers, x, 0.5)
        return layers

    def thin(self, net, layers, images):
        """Shifts the scores until an image gives 8 to 40 boxes in the mean."""
        low, high = -16.0, 32.0
        plain = [m.bias.clone() for m in layers]
        for _ in range(12):
            shift = (low + high) / 2
            with torch.no_grad():
                for m, bias in zip(layers, plain):
                    m.bias.copy_(bias).view(-1, self.classes)[:, int(self.background):] -= shift
                n = sum(len(y['boxes']) for y in net(images)) / len(images)
            if 8 <= n <= 40:
                return True
            low, high = (shift, high) if n > 40 else (low, shift)
        return False

    def different(self, net, images):
        """Three images with different numbers of boxes whose answer does not hang on rounding."""
        chosen = {}
        for x in images:
            with torch.no_grad():
                y = net([x])[0]
            n = len(y['boxes'])
            if 0 < n <= 60 and n not in chosen and steady_boxes(net, x, y):
                chosen[n] = x
            if len(chosen) == 3:
                return list(chosen.values())
        return None


def steady_boxes(net, x, y):
    """Whether float64 shares the answer y, and a little noise changes neither the boxes' number nor their classes."""
    def shared(x, tolerance):
        with torch.no_grad():
            z = net.double()([x])[0]
        net.float()
        return len(z['boxes']) == len(y['boxes']) and all(near(y[k], z[k], tolerance) for k in y)

    x = x.double()
    return shared(x, 4e-5) and shared(x + 1e-6 * torch.randn_like(x), 2e-3)


def steady(net, x):
    """Whether PyTorch's answers in float32 and in float64 are near each other."""
    def first(y):
        return first(next(iter(y.values()))) if isinstance(y, dict) else y

    with torch.no_grad():
        y, z = first(net(x)), first(net.double()(x.double()))
    net.float()
    return near(y, z)


def near(y, z, tolerance=2e-5):
    """Whether the largest difference is small beside the largest number."""
    return (y - z).abs().max() <= tolerance * z.abs().max()


def picture(i, size=None):
    """A random picture [3,H,W] in 0..1 with blobs; sizes differ."""
    g = torch.Generator().manual_seed(100 + i)
    h, w = size or (160 + 16 * (i % 3), 208 - 16 * (i % 2))
    x = nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=g), (h, w), mode='bicubic')[0]
    x = x + 0.1 * torch.rand(3, h, w, generator=g)
    return (0.5 + 0.2 * (x - x.mean()) / x.std()).clamp(0, 1)


def scale(net, layers, x, spread):
    """Scales the weights of the heads so that their scores spread by a standard deviation."""
    seen = {}
    hooks = [m.register_forward_hook(lambda m, _, y: seen.setdefault(m, []).append(y.std())) for m in layers]
    with torch.no_grad():
        net([x])
        for m in layers:
            m.weight.mul_(spread / torch.stack(seen[m]).mean())
    for h in hooks:
        h.remove()


def settle(net, forward, most=0.6):
    """Makes fresh weights plausible: nothing is left at zero or one, and normalizations have seen data.

    A network as constructed hides its blocks behind zeros. Scales become random, at most most, weights and shifts of zero
    become random, and BatchNorm's running variances are those of images times 0.5..1.5. Shifts as large as the scales
    keep a random network from amplifying rounding errors.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for p in net.parameters():
            if p.numel() > 1 and p.dim() > 1 and not p.any():
                nn.init.normal_(p, std=p[0].numel() ** -0.5)
            elif p.numel() > 1 and (p == p.flatten()[0]).all():
                if p.flatten()[0] == 0:
                    nn.init.normal_(p, std=0.5)
                else:
                    nn.init.uniform_(p, most / 6, most)
        for m in norms:
            m.train()
            m.keep, m.momentum = m.momentum, 1.0
        if norms:
            forward()
        for m in norms:
            m.eval()
            m.momentum = m.keep
            m.running_var.clamp_(min=m.running_var.mean().item() * 0.1 + 1e-5)
            m.running_var.mul_(torch.empty_like(m.running_var).uniform_(0.5, 1.5))
            m.running_mean.add_(torch.randn_like(m.running_mean) * 0.1 * m.running_var.sqrt())


def vision(name, size=224, **settings):
    def build():
        import torchvision
        return torchvision.models.get_model(name, weights=None, **settings)
    return Case(name, build, size)


def segmentation(name):
    def build():
        import torchvision
        return torchvision.models.get_model(name, weights=None, weights_backbone=None)
    return Case(name, build, 128)


def detection(name, heads, background=True, **settings):
    def build():
        import torchvision
        return torchvision.models.get_model(name, weights=None, weights_backbone=None, **settings)
    return Detection(name, build, tuple(heads), 91, background)


def images(name, size=224):
    def build():
        import timm
        return timm.create_model(name, pretrained=False)
    return Case('timm-' + name, build, size)


def smp(name, encoder, size=128):
    def build():
        import segmentation_models_pytorch
        return getattr(segmentation_models_pytorch, name)(encoder, encoder_weights=None, classes=4)
    return Case('smp-%s-%s' % (name.lower(), encoder), build, size)


CASES = [
    vision('squeezenet1_1'),
    vision('shufflenet_v2_x1_0'),
    vision('mobilenet_v3_small'),
    images('mobilenetv4_conv_small'),
    images('edgenext_xx_small'),
    images('regnety_002'),
    images('convnext_atto'),
    vision('squeezenet1_0'),
    vision('mnasnet1_0'),
    vision('mobilenet_v2'),
    vision('mobilenet_v3_large'),
    vision('regnet_x_400mf'),
    vision('regnet_y_400mf'),
    vision('efficientnet_b0'),
    images('efficientnet_b0'),
    segmentation('lraspp_mobilenet_v3_large'),
    segmentation('deeplabv3_mobilenet_v3_large'),
    detection('ssdlite320_mobilenet_v3_large', ('classification_head.module_list.%d.1' % i for i in range(6))),
    vision('resnet18'),
    vision('googlenet', init_weights=True),
    vision('densenet121'),
    smp('Unet', 'resnet18'),
    smp('FPN', 'resnet34'),
    smp('DeepLabV3Plus', 'resnet34'),
    smp('UnetPlusPlus', 'resnet18'),
    smp('UPerNet', 'resnet18', 192),  # the last map has 6 rows, which the pools' 1, 2, 3 and 6 divide
    detection('fasterrcnn_mobilenet_v3_large_320_fpn', ('cls_score',)),
    vision('inception_v3', 299, init_weights=True),
    vision('efficientnet_v2_s'),
    vision('resnext50_32x4d'),
    images('vit_small_patch16_224'),
    images('swin_tiny_patch4_window7_224'),
    vision('swin_t'),
    vision('swin_v2_t', 256),
    vision('convnext_tiny'),
    vision('maxvit_t'),
    segmentation('fcn_resnet50'),
    detection('ssd300_vgg16', ('classification_head.module_list.%d' % i for i in range(6))),
    detection('retinanet_resnet50_fpn', ('cls_logits',), background=False, min_size=160, max_size=224),
    detection('fcos_resnet50_fpn', ('cls_logits',), background=False, min_size=160, max_size=224),
    detection('fasterrcnn_resnet50_fpn', ('cls_score',), min_size=224, max_size=320),
    detection('maskrcnn_resnet50_fpn', ('cls_score',), min_size=224, max_size=320),
    vision('wide_resnet50_2'),
    vision('alexnet'),
    vision('vit_b_16'),
    vision('vgg11_bn'),
]
