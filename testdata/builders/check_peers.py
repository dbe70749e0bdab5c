#!/usr/bin/env python3
"""PyTorch with a built network's weights gives what ONNX Runtime gives for the file: check_peers.py [NETWORK...]

Each network is built with several options at opsets 13, 17 and 21 by `cnnkit build` ($CNNKIT, else go run). The outputs of
a batch of 2 may differ by 1e-5 of the largest: float32 sums in another order.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper

from networks import DEFAULTS, network, state

ROOT = pathlib.Path(__file__).resolve().parents[2]
OPTIONS = {
    'lenet5': [{}, {'input': [3, 32, 40], 'classes': 7}],
    'minivgg': [{}, {'input': [3, 32, 32], 'classes': 100}],
    'resnet': [{}, {'input': [1, 64, 32], 'classes': 5, 'blocks': [3, 4, 5]}],
    'resnet20': [{}, {'input': [1, 21, 30], 'classes': 5, 'blocks': [1, 2, 1], 'width': 7}],
    'resnet9': [{}, {'input': [1, 27, 40], 'classes': 6, 'width': 8}],
    'resnet18': [{}, {'input': [1, 75, 96], 'classes': 6, 'blocks': [3, 4, 6, 3], 'width': 16}],
    'unet': [{'input': [3, 64, 64]}, {'input': [1, 48, 80], 'classes': 3, 'width': 6, 'depth': 3}],
    'vgg16': [{}, {'input': [1, 256, 448], 'classes': 5, 'width': 4}],
}


def build(name, config, opset, out):
    flags = ['--opset', str(opset), '--seed', '3', '--out', out]
    for key, v in config.items():
        flags += ['--' + key, {'input': 'x', 'blocks': ','}[key].join(map(str, v)) if isinstance(v, list) else str(v)]
    command = [os.environ['CNNKIT']] if 'CNNKIT' in os.environ else ['go', 'run', './cmd/cnnkit']
    subprocess.run(command + ['build', name] + flags, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def weights(path):
    tensors = onnx.load(path).graph.initializer
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in tensors if t.dims}


def difference(net, path, x):
    """The largest difference of the outputs, and the largest output."""
    given, wanted = weights(path), state(net)
    assert list(given) == list(wanted), 'the keys are not PyTorch\'s'
    net.load_state_dict({**net.state_dict(), **given}, strict=True)
    got = ort.InferenceSession(path, providers=['CPUExecutionProvider']).run(None, {'input': x})[0]
    with torch.no_grad():
        want = net(torch.from_numpy(x)).numpy()
    assert got.shape == want.shape
    return np.abs(got - want).max(), np.abs(want).max()


status = 0
for name in sys.argv[1:] or DEFAULTS:
    for config in OPTIONS[name]:
        net = network(name, config)
        shape = (2, *config.get('input', DEFAULTS[name]['input']))
        x = np.random.default_rng(1).standard_normal(shape, np.float32)
        # The weights do not depend on the opset: for the big files one is enough.
        for opset in (17,) if name == 'vgg16' and not config else (13, 17, 21):
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, 'model.onnx')
                build(name, config, opset, path)
                worst, largest = difference(net, path, x)
            ok = worst <= 1e-5 * largest
            status |= not ok
            print(f'{name} {config} opset {opset}: {worst:.2g} of {largest:.3g}, {worst / largest:.1e} {"ok" if ok else "TOO FAR"}')
sys.exit(status)
