"""Records 100 steps of PyTorch's optimisers, for train/optim_test.go: python optimisers.py

Parameters and gradients come from noise(), which the Go test repeats. Recorded with PyTorch 2.15.0.
"""
import json, pathlib
import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent


def noise(n, key):
    """n unsigned 32-bit numbers, a hash of (index, key)."""
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    return (x ^ (x >> 16)).astype(np.uint32)


def uniform(n, key):
    """In [-1, 1), exact in float32."""
    return ((noise(n, key) >> 8).astype(np.float64) / (1 << 23) - 1).astype(np.float32)


def optimisers():
    """100 steps on 64 numbers; the gradient is noise plus a tenth of the parameter."""
    cases = {
        'sgd': lambda p: torch.optim.SGD(p, lr=0.1),
        'sgd-decay': lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01),
        'sgd-momentum': lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        'sgd-dampening': lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
        'sgd-nesterov': lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        'adam': lambda p: torch.optim.Adam(p, lr=0.01),
        'adam-decay': lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
        'adamw': lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }
    out = {}
    for name, make in cases.items():
        p = nn.Parameter(torch.from_numpy(uniform(64, 7)))
        opt, rows = make([p]), []
        for step in range(1, 101):
            p.grad = torch.from_numpy(uniform(64, 100 + step)) + p.detach() * 0.1
            opt.step()
            if step in (1, 2, 10, 100):
                rows.append([step, p.detach().tolist()])
        out[name] = rows
    (HERE / 'optimisers.json').write_text(json.dumps(out) + '\n')


optimisers()
