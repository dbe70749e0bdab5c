#!/usr/bin/env python3
"""Writes families.json: for each network of torchvision that the builders know, the SHA-256 of its state dict's keys and
shapes in their order, how many there are, and its parameters; and for some, what PyTorch computes with the weights of
gen_outputs.fill for a small image, in a few numbers.

The digest is of lines "key d0,d1,...", without num_batches_tracked. Recorded with PyTorch 2.15.0 and torchvision 0.29.2.
"""
import hashlib
import json
import pathlib
import sys
import warnings

import numpy as np
import torch

from detectors import DETECTORS
from families import EXECUTED, FAMILIES, GAIN, network, state
from gen_outputs import fill, uniform

warnings.simplefilter('ignore')


def digest(net):
    lines = [f'{k} {",".join(map(str, v.shape))}\n' for k, v in state(net).items()]
    return {'tensors': len(lines), 'parameters': sum(p.numel() for p in net.parameters()),
            'digest': hashlib.sha256(''.join(lines).encode()).hexdigest()}


def skeleton(name):
    """The network without numbers. RegNet computes its widths with tensors, which have to have some; its weights need none."""
    if not name.startswith('regnet'):
        with torch.device('meta'):
            return network(name)
    init, kept = torch.nn.init, (torch.nn.init.kaiming_uniform_, torch.nn.init.normal_)
    init.kaiming_uniform_ = init.normal_ = lambda t, *a, **k: t
    net = network(name)
    init.kaiming_uniform_, init.normal_ = kept
    return net


def outputs(name, side):
    """The output for an image of that side: its size, sum, sum of magnitudes, largest magnitude, and every n-th number."""
    net = network(name, side).eval()
    with torch.no_grad():
        fill(net, GAIN.get(name, 6))
        x = torch.from_numpy(uniform(3 * side * side, 1000).reshape(1, 3, side, side))
        y = net(x)
        y = (y['out'] if isinstance(y, dict) else y).double().flatten()
    picked = y[::max(1, len(y) // 8)][:8]
    return {'side': side, 'gain': GAIN.get(name, 6), 'size': len(y), 'sum': y.sum().item(), 'magnitudes': y.abs().sum().item(),
            'largest': y.abs().max().item(), 'step': max(1, len(y) // 8), 'picked': [round(v, 9 - int(np.log10(abs(v) + 1e-9))) for v in picked.tolist()]}


def main():
    """Without names all digests are made again; `gen_families.py NAME...` makes the outputs of these, `all` of EXECUTED."""
    torch.set_num_threads(1)
    path = pathlib.Path(__file__).with_name('families.json')
    out = json.loads(path.read_text()) if path.exists() else {}
    wanted = list(EXECUTED) if sys.argv[1:] == ['all'] else sys.argv[1:]
    if not wanted:
        out = {name: {**out.get(name, {}), **digest(skeleton(name))} for name in FAMILIES + DETECTORS}
    for name in wanted:
        out[name]['output'] = outputs(name, EXECUTED[name])
        print(name, out[name]['output'], flush=True)
        save(path, out)
    save(path, out)


def save(path, out):
    text = ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in out.items())
    path.write_text('{\n' + text + '\n}\n')


if __name__ == '__main__':
    main()
