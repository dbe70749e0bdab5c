#!/usr/bin/env python3
"""Writes timm.json: the keys and shapes of timm's networks that are torchvision's under other names (timm 1.0.31)."""
import json
import pathlib

import timm
import torch

NAMES = {'mobilenetv2_100': 'mobilenet_v2', 'efficientnet_b0': 'efficientnet_b0', 'convnext_tiny': 'convnext_tiny',
         'swin_tiny_patch4_window7_224': 'swin_t', 'vit_base_patch16_224': 'vit_b_16', 'vgg11': 'vgg11', 'tf_efficientnet_lite0': 'efficientnet_lite0', 'tf_efficientnet_lite2': 'efficientnet_lite2',
         'tf_efficientnet_lite4': 'efficientnet_lite4'}
out = []
for name, arch in NAMES.items():
    with torch.device('meta'):
        state = timm.create_model(name).state_dict()
    keys = {k: list(v.shape) for k, v in state.items() if not k.endswith('num_batches_tracked')}
    out.append(f'{{"timm": "{name}", "arch": "{arch}", "keys": {json.dumps(keys, separators=(",", ":"))}}}')
pathlib.Path(__file__).with_name('timm.json').write_text('[\n' + ',\n'.join(out) + '\n]\n')
