#!/usr/bin/env python3
"""Writes outputs.json: what PyTorch computes with each network of networks.py, for builders/outputs_test.go.

Weights and input come from a formula, fill(), that the Go test repeats; the batch is 2. ResNet-18 is torchvision's in
full; VGG-16 is narrow, which leaves the 224x224 pixels that its classifier needs cheap, and is asked with every kind of
window that its adaptive pool has: none at 224x224, 2x2 of step 1 at 256 and of step 2 at 448. Recorded with PyTorch 2.15.0
and torchvision 0.29.2.
"""
import json
import pathlib

import numpy as np
import torch

from networks import DEFAULTS, network, state

CASES = [
    ('lenet5', {}),
    ('lenet5', {'input': [3, 32, 40], 'classes': 7}),
    ('minivgg', {}),
    ('minivgg', {'input': [3, 32, 32], 'classes': 12}),
    ('resnet', {}),
    ('resnet', {'input': [1, 64, 32], 'classes': 5, 'blocks': [1, 2, 3]}),
    ('resnet', {'input': [3, 32, 32], 'blocks': [1, 1, 1], 'width': 20}),
    ('resnet20', {}),
    ('resnet20', {'input': [1, 21, 30], 'classes': 5, 'blocks': [1, 2, 1], 'width': 7}),
    ('resnet9', {}),
    ('resnet9', {'input': [1, 27, 40], 'classes': 6, 'width': 8}),
    ('resnet18', {'input': [3, 64, 64], 'classes': 20}),
    ('resnet18', {'input': [1, 75, 96], 'classes': 6, 'blocks': [1, 3, 2, 1], 'width': 8}),
    ('unet', {'input': [3, 16, 16], 'width': 4}),
    ('unet', {'input': [1, 12, 20], 'classes': 3, 'width': 6, 'depth': 2}),
    ('vgg16', {'classes': 20, 'width': 8}),
    ('vgg16', {'input': [1, 256, 448], 'classes': 5, 'width': 2}),
]


def uniform(n, key):
    """n numbers in [-1, 1), exact in float32: a hash of (index, key)."""
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    x = x ^ (x >> 16)
    return ((x >> 8).astype(np.float64) / (1 << 23) - 1).astype(np.float32)


def fill(net, gain=6):
    """Tensor number key of the state dict: weights u*sqrt(gain/fan_in), so that every layer keeps the size of what passes it;
    norms' weights 1+u/4 and variances 1+u/2; all else u/10. Tables that are buffers stay."""
    for key, (name, t) in enumerate(state(net).items()):
        if not t.is_floating_point() or name.endswith('relative_coords_table'):
            continue
        u = uniform(t.numel(), key).astype(np.float64)
        if t.dim() > 1:
            u *= np.sqrt(gain / np.prod(t.shape[1:]))
        elif name.endswith('running_var'):
            u = 1 + u / 2
        elif name.endswith('weight'):
            u = 1 + u / 4
        else:
            u /= 10
        t.copy_(torch.from_numpy(u.astype(np.float32)).view(t.shape))


def output(name, config):
    net = network(name, config)
    with torch.no_grad():
        fill(net)
        shape = (2, *config.get('input', DEFAULTS[name]['input']))
        return net(torch.from_numpy(uniform(np.prod(shape), 1000)).view(shape)).numpy()


if __name__ == '__main__':
    torch.set_num_threads(1)
    lines = []
    for name, config in CASES:
        y = output(name, config)
        print(name, config, y.shape, np.abs(y).max())
        lines.append('{"network": "%s", "config": %s, "output": [%s]}' % (
            name, json.dumps(config), ', '.join('%.8g' % v for v in y.ravel())))
    pathlib.Path(__file__).with_name('outputs.json').write_text('[\n' + ',\n'.join(lines) + '\n]\n')
