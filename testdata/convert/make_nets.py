#!/usr/bin/env python3
"""State dicts of the four reference networks as PyTorch writes them, with an input and PyTorch's output.

  NEW_PYTHON make_nets.py new FOLDER      # current torch: weights, inputs, outputs, NAME-new.pth (zip), lenet5-new-legacy.pth
  OLD_PYTHON make_nets.py old FOLDER      # torch 1.13: the same weights again as NAME-old-legacy.pth, lenet5-old.pth (zip)

FOLDER holds networks.py, the reference networks in PyTorch. Batch statistics are randomised, so that they count.
"""
import os
import sys

import numpy as np
import torch

sys.path.insert(0, sys.argv[2])
from networks import LeNet5, MiniVGG, ResNet, UNet  # noqa: E402

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'nets')
NETS = {
    'lenet5': (lambda: LeNet5(1, 400), (2, 1, 28, 28)),
    'minivgg': (lambda: MiniVGG(1, 800), (2, 1, 28, 28)),
    'resnet': (ResNet, (2, 3, 32, 32)),
    'unet': (lambda: UNet(3, 1, 4), (2, 3, 16, 16)),
}


def path(name):
    return os.path.join(HERE, name)


def new():
    for name, (build, shape) in NETS.items():
        torch.manual_seed(1)
        net = build().eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.2)
                module.num_batches_tracked.fill_(7)
        x = torch.randn(shape)
        with torch.no_grad():
            y = net(x)
        np.save(path(name + '-input.npy'), x.numpy())
        np.save(path(name + '-output.npy'), y.numpy())
        torch.save(net.state_dict(), path(name + '-new.pth'))
        if name == 'lenet5':
            torch.save(net.state_dict(), path(name + '-new-legacy.pth'), _use_new_zipfile_serialization=False)


def old():
    for name, (build, _) in NETS.items():
        net = build()
        net.load_state_dict(torch.load(path(name + '-new.pth')))
        torch.save(net.state_dict(), path(name + '-old-legacy.pth'), _use_new_zipfile_serialization=False)
        if name == 'lenet5':
            torch.save({'epoch': 3, 'state_dict': net.state_dict()}, path(name + '-old.pth'))


{'new': new, 'old': old}[sys.argv[1]]()
