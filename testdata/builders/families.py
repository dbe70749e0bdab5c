"""The networks that PyTorch's packages have under the builders' names."""
import torchvision

import detectors
from networks import state  # noqa: F401

CLASSIFIERS = [n for n in torchvision.models.list_models(module=torchvision.models) if not n.startswith('quantized')]
SEGMENTERS = torchvision.models.list_models(module=torchvision.models.segmentation)
LITES = [f'efficientnet_lite{i}' for i in range(5)]
ENCODERS = ['resnet18', 'resnet34', 'resnet50', 'mobilenet_v2']
SMP = [f'smp-{d}-{e}' for d in ('unet', 'unetplusplus', 'fpn') for e in ENCODERS]
FAMILIES = CLASSIFIERS + SEGMENTERS + LITES + SMP

# The side of the image for which the tests run a network; the others are run by check_families.py.
EXECUTED = {
    'shufflenet_v2_x0_5': 64, 'squeezenet1_0': 64, 'squeezenet1_1': 64, 'mnasnet0_5': 64, 'mobilenet_v3_small': 64,
    'mobilenet_v2': 64, 'regnet_y_400mf': 64, 'regnet_x_400mf': 64, 'efficientnet_b0': 64, 'mobilenet_v3_large': 64,
    'densenet121': 64, 'googlenet': 64, 'efficientnet_v2_s': 64, 'resnet50': 64, 'inception_v3': 107, 'swin_t': 64,
    'swin_v2_t': 72, 'convnext_tiny': 64, 'maxvit_t': 224, 'vit_b_32': 96, 'resnext50_32x4d': 64,
    'fcn_resnet50': 64, 'deeplabv3_resnet50': 64, 'deeplabv3_mobilenet_v3_large': 64, 'lraspp_mobilenet_v3_large': 72,
    'efficientnet_lite0': 75, 'efficientnet_lite2': 64, 'smp-unet-resnet18': 64, 'smp-unet-resnet50': 64, 'smp-unet-mobilenet_v2': 64,
    'smp-unetplusplus-resnet18': 64, 'smp-unetplusplus-mobilenet_v2': 64, 'smp-fpn-resnet18': 64, 'smp-fpn-mobilenet_v2': 96,
}

# Weights of the usual size make these chaotic: rounding grows from layer to layer.
GAIN = {'efficientnet_v2_s': 2}


def network(name, side=None):
    """The peer's, for images of that side where it depends on it; those that have an auxiliary head with it."""
    options = {}
    if name in LITES:
        from efficientnet_lite_pytorch import EfficientNet
        return EfficientNet.from_name(name.replace('_', '-'), image_size=side)
    if name in SMP:
        import segmentation_models_pytorch as smp
        _, decoder, encoder = name.split('-')
        return {'unet': smp.Unet, 'unetplusplus': smp.UnetPlusPlus, 'fpn': smp.FPN}[decoder](encoder, encoder_weights=None)
    if name in detectors.DETECTORS:
        return detectors.detector(name)
    if name in SEGMENTERS:
        aux = {} if name.startswith('lraspp') else {'aux_loss': True}
        return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, **aux)
    if name.startswith('vit') and side:
        options['image_size'] = side
    if name == 'maxvit_t' and side:
        options['input_size'] = (side, side)
    if name in ('googlenet', 'inception_v3'):
        options['init_weights'] = False
    return getattr(torchvision.models, name)(weights=None, **options)
