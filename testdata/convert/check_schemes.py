"""timm's and transformers' networks with random weights and statistics, saved as they save, through `cnnkit convert`.

check_schemes.py CNNKIT [NAME...]. The answers must be equal within 1e-4 of the largest.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import save_file

import schemes


def check(cnnkit, name, arch, side, config, folder):
    torch.manual_seed(0)
    net = schemes.network(name, side, config)
    with torch.no_grad():
        schemes.fill(net.state_dict())
        x = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, side, side)).astype(np.float32))
    want = schemes.answer(net, x)
    if name.startswith('hub-'):
        net.save_pretrained(folder)
    else:
        save_file(net.state_dict(), os.path.join(folder, 'model.safetensors'))
        with open(os.path.join(folder, 'config.json'), 'w') as f:
            json.dump(config, f)
    onnx = os.path.join(folder, 'model.onnx')
    np.save(os.path.join(folder, 'x.npy'), x.numpy())
    r = subprocess.run([cnnkit, 'convert', os.path.join(folder, 'model.safetensors'), onnx, '--arch', arch, '--classes',
                        str(schemes.CLASSES), '--input', f'3x{side}x{side}'], capture_output=True, text=True)
    if r.returncode:
        return r.stderr[:500], False
    subprocess.run([cnnkit, 'run', onnx, '--input', os.path.join(folder, 'x.npy'), '--out', folder], check=True, capture_output=True)
    got = np.load(os.path.join(folder, 'output.npy'))
    far = np.abs(got - want).max() / np.abs(want).max()
    ok = bool(far <= 1e-4)
    return f'answers differ by {far:.2g} of the largest' + ('' if ok else f': TOO MUCH; {r.stderr}'), ok


if __name__ == '__main__':
    wrong = 0
    for case in [c for c in schemes.CASES + schemes.LARGE if c[0] in sys.argv[2:] or not sys.argv[2:]]:
        with tempfile.TemporaryDirectory() as folder:
            said, ok = check(sys.argv[1], *case, folder)
        print(case[0], 'as', case[1] + ':', said, flush=True)
        wrong += not ok
    sys.exit(wrong > 0)
