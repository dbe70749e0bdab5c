"""Records 100 steps of PyTorch's optimisers, for train/optim_test.go: python optimisers.py

Parameters and gradients come from noise(), which the Go test repeats. Recorded with PyTorch 2.15.0.
"""
import json, pathlib
import numpy as np
import torch
from torch import nn

from averages import warmed

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


class Paper(torch.optim.Optimizer):
    """Rules that torch.optim lacks, written down from their papers, in float64."""

    def __init__(self, params, rule, **defaults):
        super().__init__(params, defaults)
        self.rule = rule

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                s = self.state[p]
                if not s:
                    s['w'], s['t'] = p.detach().double().clone(), 0
                    s['m'], s['v'] = torch.zeros_like(s['w']), torch.zeros_like(s['w'])
                s['t'] += 1
                self.rule(s, p.grad.double(), **{k: v for k, v in group.items() if k != 'params'})
                p.copy_(s['w'])


def lion(s, g, lr, betas=(0.9, 0.99), decay=0):
    """arXiv:2302.06675, Algorithm 2."""
    c = betas[0] * s['m'] + (1 - betas[0]) * g
    s['w'] -= lr * (c.sign() + decay * s['w'])
    s['m'] = betas[1] * s['m'] + (1 - betas[1]) * g


def lars(s, g, lr, momentum=0.9, decay=0, trust=0.001):
    """arXiv:1708.03888, Algorithm 1."""
    w = s['w'].norm()
    local = trust * w / (g.norm() + decay * w)
    s['m'] = momentum * s['m'] + lr * local * (g + decay * s['w'])
    s['w'] -= s['m']


def lamb(s, g, lr, betas=(0.9, 0.999), eps=1e-6, decay=0):
    """arXiv:1904.00962, Algorithm 2."""
    s['m'] = betas[0] * s['m'] + (1 - betas[0]) * g
    s['v'] = betas[1] * s['v'] + (1 - betas[1]) * g * g
    m, v = s['m'] / (1 - betas[0] ** s['t']), s['v'] / (1 - betas[1] ** s['t'])
    r = m / (v.sqrt() + eps) + decay * s['w']
    s['w'] -= lr * s['w'].norm() / r.norm() * r


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
        'rmsprop': lambda p: torch.optim.RMSprop(p, lr=0.01),
        'rmsprop-all': lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-4, weight_decay=0.01, momentum=0.5, centered=True),
        'adagrad': lambda p: torch.optim.Adagrad(p, lr=0.1),
        'adagrad-all': lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.01, weight_decay=0.01, initial_accumulator_value=0.1),
        'lion': lambda p: Paper(p, lion, lr=0.001),
        'lion-decay': lambda p: Paper(p, lion, lr=0.001, betas=(0.95, 0.98), decay=1.0),
        'lars': lambda p: Paper(p, lars, lr=1.0, decay=0.01),
        'lamb': lambda p: Paper(p, lamb, lr=0.01, decay=0.1),
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
    p = nn.Parameter(torch.from_numpy(uniform(64, 7)))
    opt, rows = torch.optim.SGD([p], lr=0.1), []
    ema = torch.optim.swa_utils.AveragedModel(nn.ParameterList([p]), multi_avg_fn=warmed(0.95))
    for step in range(1, 101):
        p.grad = torch.from_numpy(uniform(64, 100 + step)) + p.detach() * 0.1
        opt.step()
        ema.update_parameters(nn.ParameterList([p]))
        if step in (1, 2, 10, 100):
            rows.append([step, next(ema.parameters()).detach().tolist()])
    out['ema'] = rows
    (HERE / 'optimisers.json').write_text(json.dumps(out) + '\n')


optimisers()
