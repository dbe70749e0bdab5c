#!/usr/bin/env python3
"""torchvision's families, and others' kin, for the race, and their exports: families.py FOLDER [NAME...] [NAME-train...]

NAME.onnx is for inference: normalizations folded, the batch free and named N. NAME-train.onnx is for training: torch.onnx's
training mode, in which they stay nodes. TorchScript exporter, opset 17. Weights are the constructors' own, and nothing is downloaded.
"""
import os
import sys
import warnings
from collections import namedtuple

# No PyTorch up here: race.py reads the table, and what a process holds counts in the peak of those that it starts.
# size: of the square image; batch: images a training step, 0 where the network is raced in inference alone.
Family = namedtuple('Family', 'size batch optimiser', defaults=(224, 0, 'sgd'))

FAMILIES = {
    'alexnet': Family(),
    'vgg16': Family(),
    'resnet18': Family(),
    'resnet50': Family(batch=8),
    'resnext50_32x4d': Family(),
    'wide_resnet50_2': Family(batch=4),
    'fcn_resnet50': Family(),
    'densenet121': Family(batch=8),
    'googlenet': Family(batch=8),
    'inception_v3': Family(size=299),
    'squeezenet1_1': Family(),
    'mobilenet_v2': Family(batch=16),
    'mobilenet_v3_small': Family(batch=16),
    'mobilenet_v3_large': Family(),
    'mnasnet1_0': Family(),
    'shufflenet_v2_x1_0': Family(batch=16),
    'efficientnet_b0': Family(batch=8),
    'efficientnet_v2_s': Family(),
    'regnet_y_400mf': Family(),
    'lraspp_mobilenet_v3_large': Family(),
    'deeplabv3_mobilenet_v3_large': Family(),
    'convnext_tiny': Family(batch=4, optimiser='adamw'),
    'vit_b_16': Family(),
    'swin_t': Family(),
    'efficientnet_lite0': Family(),
    'smp-unet-resnet34': Family(batch=4),
    'vit_small_patch16_224': Family(batch=8, optimiser='adamw'),
}

TIMM = {'vit_small_patch16_224': 'vit_small_patch16_224', 'efficientnet_lite0': 'tf_efficientnet_lite0'}


def network(name):
    """The network by torchvision, without the classifiers that help training alone, by segmentation_models_pytorch or timm."""
    if name.startswith('smp-'):
        import segmentation_models_pytorch as smp
        return smp.Unet(name.removeprefix('smp-unet-'), encoder_weights=None)
    if name in TIMM:
        import timm
        return timm.create_model(TIMM[name])
    import torchvision
    more = {}
    if name in ('googlenet', 'inception_v3'):
        more = {'init_weights': False, 'aux_logits': False}
    elif name.startswith(('fcn', 'lraspp', 'deeplab')):
        more = {'weights_backbone': None}
    return torchvision.models.get_model(name, weights=None, **more)


def case(name):
    """The family as peer_torch.py trains it."""
    from networks import Case
    f = FAMILIES[name]
    classes, loss = (0, 'bce') if name.startswith('smp-') else (1000, 'ce')
    return Case(lambda: network(name), (3, f.size, f.size), f.batch, classes, loss, f.optimiser)


def export(file, path):
    """Writes the network of the file NAME or NAME-train to path, unless it is there."""
    if os.path.exists(path):
        return
    import torch
    warnings.filterwarnings('ignore')
    torch.manual_seed(0)
    name, train = file.removesuffix('-train'), file.endswith('-train')
    net = network(name).train(train)
    x = torch.randn(2, 3, FAMILIES[name].size, FAMILIES[name].size)
    mode = torch.onnx.TrainingMode.TRAINING if train else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(net, (x,), path + '.part', dynamo=False, opset_version=17, training=mode, do_constant_folding=not train,
                      input_names=['x'], output_names=['y'], dynamic_axes={'x': {0: 'N'}, 'y': {0: 'N'}})
    os.rename(path + '.part', path)


def main():
    trained = [name + '-train' for name, f in FAMILIES.items() if f.batch]
    for file in sys.argv[2:] or [*FAMILIES, *trained]:
        export(file, f'{sys.argv[1]}/{file}.onnx')


if __name__ == '__main__':
    main()
