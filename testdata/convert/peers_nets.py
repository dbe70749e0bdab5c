#!/usr/bin/env python3
"""PyTorch loads strictly what cnnkit wrote, and computes the same: peers_nets.py DIR NETWORKS_FOLDER

DIR is what TestWriteNetworksForPeers left in CNNKIT_PEER_OUT; the second folder holds networks.py.
"""
import os
import sys

import numpy as np
import torch

sys.path.insert(0, sys.argv[2])
from networks import LeNet5, MiniVGG, ResNet, UNet  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'nets')
NETS = {'lenet5': lambda: LeNet5(1, 400), 'minivgg': lambda: MiniVGG(1, 800), 'resnet': ResNet, 'unet': lambda: UNet(3, 1, 4)}


def states(name):
    path = os.path.join(sys.argv[1], name)
    yield '.pth', torch.load(path + '.pth', weights_only=True)
    try:
        from safetensors.torch import load_file
    except ImportError:
        return
    yield '.safetensors', load_file(path + '.safetensors')


for name, build in NETS.items():
    x = torch.from_numpy(np.load(os.path.join(HERE, name + '-input.npy')))
    want = np.load(os.path.join(sys.argv[1], name + '-output.npy'))
    for ext, state in states(name):
        net = build().eval()
        net.load_state_dict(state, strict=True)
        with torch.no_grad():
            y = net(x).numpy().ravel()
        worst = float(np.abs(y - want).max() / max(1, np.abs(y).max()))
        print('torch %s %s%s: largest difference %.2g' % (torch.__version__, name, ext, worst))
        assert worst <= 1e-5
