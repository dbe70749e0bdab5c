#!/usr/bin/env python3
"""Writes onnxio/spec/published.json: the published weights of the networks that the builders know, torchvision's but for Lite's.

Of each: where the file is, its license where its authors gave one of its own, how images are prepared for it, and multiply-adds
in thousands of millions, parameters and the size of the file in MiB as torchvision states them. torchvision feeds GoogLeNet and
Inception v3 through a change of scale, from ImageNet's mean and deviation to 0.5; it is part of the preparation here.
torchvision 0.29.2.
"""
import json
import pathlib

import timm
import torch
import torchvision.models as models
from torch.utils.flop_counter import FlopCounterMode

from detectors import DETECTORS
from families import CLASSIFIERS, LITES, SEGMENTERS, network

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def rows(arch):
    for w in models.get_model_weights(arch):
        t = w.transforms()
        row = {'arch': arch, 'name': w.name, 'url': w.url}
        if 'license' in w.meta:
            row['license'] = 'CC-BY-NC-4.0'
        resize = t.resize_size[0]
        if hasattr(t, 'crop_size'):
            row['size'], row['shorter'] = t.crop_size[0], resize
        else:
            row['shorter'] = resize
        row['resize'] = t.interpolation.value
        mean, std = list(t.mean), list(t.std)
        if arch in ('googlenet', 'inception_v3'):
            mean = std = [0.5] * 3
        if (mean, std) != (MEAN, STD):
            row['mean'], row['std'] = mean, std
        row['gmacs'], row['parameters'], row['mib'] = w.meta['_ops'], w.meta['num_params'], w.meta['_file_size']
        yield row


def lite(arch):
    """EfficientNet-Lite's, which timm publishes: TensorFlow's weights. Google prepares for it by (x - 127) / 128, and states
    multiply-adds with those of norms; here they are PyTorch's count of convolutions and matrix products."""
    t = timm.create_model('tf_' + arch).pretrained_cfg
    side = {0: 224, 1: 240, 2: 260, 3: 280, 4: 300}[int(arch[-1])]
    with torch.device('meta'):
        net = network(arch, side).eval()
        with FlopCounterMode(display=False) as count:
            net(torch.empty(1, 3, side, side))
    return {'arch': arch, 'name': 'IMAGENET1K_V1', 'url': t['url'], 'license': 'Apache-2.0', 'size': side, 'shorter': side + 32,
            'resize': 'bicubic', 'mean': [127 / 255] * 3, 'std': [128 / 255] * 3,
            'gmacs': round(count.get_total_flops() / 2e9, 3), 'parameters': sum(p.numel() for p in net.parameters())}


def boxes(arch):
    """Detectors resize and normalize inside. Figures are for images of the side that they resize to."""
    side = 300 if arch.startswith('ssd300') else 320 if '320' in arch else 800
    for w in models.get_model_weights(arch):
        yield {'arch': arch, 'name': w.name, 'url': w.url, 'shorter': side, 'resize': 'bilinear', 'mean': [0] * 3, 'std': [1] * 3,
               'gmacs': w.meta['_ops'], 'parameters': w.meta['num_params'], 'mib': w.meta['_file_size']}


out = [row for arch in CLASSIFIERS + SEGMENTERS for row in rows(arch)] + [lite(arch) for arch in LITES]
out += [row for arch in DETECTORS for row in boxes(arch)]
path = pathlib.Path(__file__).parents[2] / 'onnxio' / 'spec' / 'published.json'
path.write_text('[\n' + ',\n'.join(json.dumps(r) for r in out) + '\n]\n')
