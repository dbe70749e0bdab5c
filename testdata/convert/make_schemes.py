"""Writes schemes.json: the keys and shapes of timm's and transformers' networks that are torchvision's under other names, as
their files have them, and their answers with the weights of schemes.fill. Of LARGE networks the keys alone.

Recorded with PyTorch 2.15.0, timm 1.0.31 and transformers 5.24.0.
"""
import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file

import schemes


def filled(name, net):
    """The tensors of the network's file and the network, both with schemes.fill's weights."""
    with torch.no_grad():
        if not name.startswith('hub-'):
            schemes.fill(net.state_dict())
            return net.state_dict(), net
        with tempfile.TemporaryDirectory() as folder:
            net.save_pretrained(folder)
            path = pathlib.Path(folder) / 'model.safetensors'
            state = load_file(path)
            schemes.fill(state)
            save_file(state, path, metadata={'format': 'pt'})
            return state, type(net).from_pretrained(folder).eval()


torch.set_num_threads(1)
lines = []
for case in schemes.CASES + schemes.LARGE:
    name, arch, side, config = case
    if case in schemes.LARGE and (name.startswith('hub-') or arch in ('resnet50', 'efficientnet_b5')):
        continue
    row = {'name': name, 'arch': arch, 'side': side, 'config': config}
    if case in schemes.LARGE:
        with torch.device('meta'):
            state = schemes.network(name, side, config).state_dict()
    else:
        state, net = filled(name, schemes.network(name, side, config))
        row['output'] = [float(f'{v:.8g}') for v in schemes.answer(net, schemes.picture(side)).ravel()]
        if name.startswith('hub-'):
            row['config'] = {'model_type': net.config.model_type, **config}
    row['keys'] = {k: list(state[k].shape) for k in sorted(state) if state[k].is_floating_point()}
    print(name, row.get('output'), flush=True)
    lines.append(json.dumps(row, separators=(',', ':')))
pathlib.Path(__file__).with_name('schemes.json').write_text('[\n' + ',\n'.join(lines) + '\n]\n')
