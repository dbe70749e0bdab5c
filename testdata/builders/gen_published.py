#!/usr/bin/env python3
"""Writes onnxio/spec/published.json: torchvision's published weights of the networks that the builders know.

Of each: where the file is, its license where its authors gave one of its own, how images are prepared for it, multiply-adds
in thousands of millions and parameters as torchvision states them. torchvision feeds GoogLeNet and Inception v3 through a
change of scale, from ImageNet's mean and deviation to 0.5; it is part of the preparation here. torchvision 0.29.2.
"""
import json
import pathlib

import torchvision.models as models

from families import FAMILIES

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
        row['gmacs'], row['parameters'] = w.meta['_ops'], w.meta['num_params']
        yield row


out = [row for arch in FAMILIES for row in rows(arch)]
path = pathlib.Path(__file__).parents[2] / 'onnxio' / 'spec' / 'published.json'
path.write_text('[\n' + ',\n'.join(json.dumps(r) for r in out) + '\n]\n')
