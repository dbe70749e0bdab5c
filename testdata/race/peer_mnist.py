#!/usr/bin/env python3
"""PyTorch trains LeNet-5 on MNIST as `cnnkit train lenet5 --data mnist` does, from the same files to a saved state dict.

The images are decoded and scaled once and stay in memory; an epoch gathers its batches by a random permutation. The
last line printed is JSON: the seconds without the start of Python and the imports, and the validation accuracy.
"""
import argparse
import gzip
import json
import os
import time

import torch
from torch.nn import functional as F

from networks import lenet5


def read(folder, name):
    """An IDX file of bytes: two zeros, type 8, the number of dimensions, the dimensions, the data."""
    with gzip.open(os.path.join(folder, name + '-ubyte.gz')) as f:
        data = bytearray(f.read())
    rank = data[3]
    shape = [int.from_bytes(data[4 * i:4 * i + 4], 'big') for i in range(1, rank + 1)]
    return torch.frombuffer(data, dtype=torch.uint8, offset=4 + 4 * rank).reshape(shape)


def read_set(folder, name):
    x = read(folder, name + '-images-idx3').float().div_(255).sub_(0.1307).div_(0.3081)
    return x.unsqueeze(1), read(folder, name + '-labels-idx1').long()


def accuracy(model, x, y):
    model.eval()
    with torch.inference_mode():
        right = sum((model(a).argmax(1) == b).sum().item() for a, b in zip(x.split(500), y.split(500)))
    model.train()
    return right / len(y)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', required=True)
    p.add_argument('--out', required=True)
    p.add_argument('--epochs', type=int, default=5)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--threads', type=int, default=2)
    args = p.parse_args()
    began = time.perf_counter()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    (x, y), validation = read_set(args.data, 'train'), read_set(args.data, 't10k')
    model = lenet5(1, 28).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
    for _ in range(args.epochs):
        for part in torch.randperm(len(y)).split(64):
            optimiser.zero_grad()
            F.nll_loss(model(x[part]), y[part]).backward()
            optimiser.step()
        right = accuracy(model, *validation)
    torch.save(model.state_dict(), args.out)
    print(json.dumps({'without_start': time.perf_counter() - began, 'accuracy': right, 'version': torch.__version__}))


main()
