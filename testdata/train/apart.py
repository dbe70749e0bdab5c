"""Records PyTorch's steps with accumulated and clipped gradients and groups, for train/apart_test.go: python apart.py

A linear layer of 6 inputs and 4 classes, 24 batches of 5; numbers come from noise(), as in optimisers.py. Recorded with
PyTorch 2.15.0.
"""
import json, pathlib
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent


def uniform(n, key):
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    x = (x ^ (x >> 16)) & 0xffffffff
    return torch.from_numpy((x >> 8).astype(np.float64) / (1 << 23) - 1)


def run(accumulate=1, clip_norm=0, clip_value=0, lr=0.05, decay=0.1, bias_decay=None, bias_scale=1, optimizer='adamw'):
    w, b = nn.Parameter(uniform(24, 1).reshape(4, 6)), nn.Parameter(uniform(4, 2))
    groups = [{'params': [w], 'weight_decay': decay},
              {'params': [b], 'weight_decay': decay if bias_decay is None else bias_decay, 'lr': lr * bias_scale}]
    opt = torch.optim.AdamW(groups, lr=lr) if optimizer == 'adamw' else torch.optim.SGD(groups, lr=lr, momentum=0.9)
    for batch in range(24):
        x = uniform(30, 100 + batch).reshape(5, 6)
        t = (torch.arange(5) + batch) % 4
        (F.cross_entropy(x @ w.T + b, t) / accumulate).backward()
        if (batch + 1) % accumulate == 0:
            if clip_value:
                nn.utils.clip_grad_value_([w, b], clip_value)
            if clip_norm:
                nn.utils.clip_grad_norm_([w, b], clip_norm)
            opt.step()
            opt.zero_grad()
    config = {'optimizer': optimizer, 'lr': lr, 'momentum': 0.9 if optimizer == 'sgd' else 0, 'weight_decay': decay, 'accumulate': accumulate,
              'clip_norm': clip_norm, 'clip_value': clip_value}
    if bias_decay is not None or bias_scale != 1:
        config['groups'] = [{'params': 'bias', 'weight_decay': bias_decay, 'lr_scale': bias_scale}]
    return {'config': config, 'weight': w.flatten().tolist(), 'bias': b.tolist()}


(HERE / 'apart.json').write_text(json.dumps([
    run(accumulate=4), run(accumulate=3, optimizer='sgd'), run(clip_norm=0.3), run(clip_norm=0.3, optimizer='sgd'),
    run(clip_value=0.05, optimizer='sgd'), run(bias_decay=0), run(bias_decay=0, bias_scale=0.5, optimizer='sgd'),
    run(accumulate=2, clip_norm=0.2, clip_value=0.1, bias_decay=0, bias_scale=2),
]) + '\n')
