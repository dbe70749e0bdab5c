#!/usr/bin/env python3
"""Writes keys.json: each network's state-dict keys and shapes in PyTorch's order, and its number of parameters.

torchvision's networks are its own (torchvision 0.29.2 with PyTorch 2.15.0), the others those of networks.py.
"""
import json
import pathlib

import torchvision

from networks import DEFAULTS, network, state

out = {}
for name in DEFAULTS:
    net = getattr(torchvision.models, name)() if name in ('resnet18', 'vgg16') else network(name, {})
    out[name] = {'parameters': sum(p.numel() for p in net.parameters()),
                 'keys': [[k, list(v.shape)] for k, v in state(net).items()]}
text = ',\n'.join('"%s": {"parameters": %d, "keys": [\n%s]}' % (
    name, v['parameters'], ',\n'.join(' ' + json.dumps(k) for k in v['keys'])) for name, v in out.items())
pathlib.Path(__file__).with_name('keys.json').write_text('{\n' + text + '\n}\n')
