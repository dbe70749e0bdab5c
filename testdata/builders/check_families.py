#!/usr/bin/env python3
"""Compares the families live with their peers: check_families.py [NETWORK...], all that families.py knows by default but the
largest, and timm's.

A randomly initialised PyTorch model with random running statistics becomes a .pth file, `cnnkit convert` ($CNNKIT) makes it
ONNX at opsets 17 and 21, the onnx package checks these in full, and ONNX Runtime must answer as PyTorch, to 1e-4 of the
output's scale. torchvision's come back as .pt and .safetensors, load strictly, and answer alike.
"""
import collections
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from safetensors.torch import load_file

from detectors import DETECTORS, apart, calmed, detector, drawn, found, size, tuned
from families import EXECUTED, FAMILIES, network

# timm's names of the same architectures.
TIMM = {'mobilenetv2_100': 'mobilenet_v2', 'efficientnet_b0': 'efficientnet_b0', 'resnet18': 'resnet18', 'resnet50': 'resnet50',
        'convnext_tiny': 'convnext_tiny', 'swin_tiny_patch4_window7_224': 'swin_t', 'vit_base_patch16_224': 'vit_b_16',
        'vgg11': 'vgg11', 'tf_efficientnet_lite0': 'efficientnet_lite0', 'tf_efficientnet_lite3': 'efficientnet_lite3'}
LARGE = 2e8


def shaken(net):
    """Random running statistics, scales and biases, so that nothing is the identity."""
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if name.endswith('running_var'):
                t.uniform_(0.5, 1.5)
            elif name.endswith('running_mean') or name.endswith('bias'):
                t.normal_(0, 0.1)
            elif name.endswith('layer_scale') or name.endswith('gamma'):
                t.uniform_(0.5, 1)
            elif t.is_floating_point() and not t.any():
                t.normal_(0, 0.02)
    return net.eval()


def cnnkit(*args):
    subprocess.run([os.environ['CNNKIT'], *args], check=True, stdout=subprocess.DEVNULL)


def answers(net, x):
    with torch.no_grad():
        y = net(torch.from_numpy(x))
    return (y['out'] if isinstance(y, dict) else y).numpy()


def versioned(tensors, net):
    """Gives tensors the module versions that a .safetensors cannot hold and that MNASNet refuses to load without."""
    given = collections.OrderedDict(tensors)
    given._metadata = net.state_dict()._metadata
    return given


def compare(arch, net, side, back):
    x = np.random.default_rng(1).standard_normal((1, 3, side, side), np.float32)
    want = answers(net, x)
    with tempfile.TemporaryDirectory() as d:
        path, model = os.path.join(d, 'w.pth'), os.path.join(d, 'm.onnx')
        torch.save(net.state_dict(), path)
        worst = 0
        for opset in (17, 21):
            cnnkit('convert', path, model, '--arch', arch, '--input', f'3x{side}x{side}', '--opset', str(opset))
            onnx.checker.check_model(model, full_check=True)
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            got = ort.InferenceSession(model, options, providers=['CPUExecutionProvider']).run(None, {'input': x})[0]
            worst = max(worst, np.abs(got - want).max() / np.abs(want).max())
        for ext in ('pt', 'safetensors') if back else ():
            out = os.path.join(d, 'back.' + ext)
            cnnkit('convert', model, out)
            given = versioned(load_file(out), net) if ext == 'safetensors' else torch.load(out, weights_only=True)
            assert list(given) == list(net.state_dict()) or ext == 'safetensors', 'the order is another one'
            net.load_state_dict(given, strict=True)
            assert np.array_equal(answers(net, x), want), 'the weights came back otherwise'
    return worst


def compare_boxes(name):
    """A detector's finds in three images each."""
    net, (h, w) = drawn(detector(name)), size(name)
    images = [np.random.default_rng(i).random((3, h, w), np.float32) for i in range(3)]
    calmed(name, net, images[0])
    tuned(net, images[0])
    wanted = [found(net, image) for image in images]
    worst = 0
    with tempfile.TemporaryDirectory() as d:
        path, model, out = (os.path.join(d, n) for n in ('w.pth', 'm.onnx', 'back.pt'))
        torch.save(net.state_dict(), path)
        for opset in (17, 21):
            cnnkit('convert', path, model, '--arch', name, '--input', f'3x{h}x{w}', '--opset', str(opset))
            onnx.checker.check_model(model, full_check=True)
            session = ort.InferenceSession(model, providers=['CPUExecutionProvider'])
            for image, want in zip(images, wanted):
                worst = max(worst, apart(session.run(None, {'input': image[None]}), want, max(h, w)))
        cnnkit('convert', model, out)
        given = torch.load(out, weights_only=True)
        assert list(given) == list(net.state_dict()), 'the order is another one'
        net.load_state_dict(given, strict=True)
    print([len(f[0]) for f in wanted], 'boxes', end=' ')
    return worst


def main():
    torch.set_num_threads(1)
    status = 0
    wanted = sys.argv[1:] or FAMILIES + DETECTORS + ['timm/' + n for n in TIMM]
    for name in wanted:
        torch.manual_seed(0)
        if name in DETECTORS:
            worst = compare_boxes(name)
            status |= not worst <= 1e-4
            print(f'{name}: {worst:.1e}', 'ok' if worst <= 1e-4 else 'TOO FAR', flush=True)
            continue
        if name.startswith('timm/'):
            import timm
            net, arch, side = timm.create_model(name[5:]), TIMM[name[5:]], 224
        else:
            side = EXECUTED.get(name, 98 if name == 'vit_h_14' else 96)  # a multiple of the patch
            net, arch = network(name, side), name
        if not sys.argv[1:] and sum(p.numel() for p in net.parameters()) > LARGE:
            print(name, 'left out: large', flush=True)
            continue
        worst = compare(arch, shaken(net), side, not name.startswith('timm/'))
        status |= not worst <= 1e-4
        print(f'{name}: {worst:.1e}', 'ok' if worst <= 1e-4 else 'TOO FAR', flush=True)
    sys.exit(status)


if __name__ == '__main__':
    main()
