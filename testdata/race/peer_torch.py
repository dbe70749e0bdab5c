#!/usr/bin/env python3
"""PyTorch's training steps: peer_torch.py CASE --variant VARIANT --threads N. float32 or autocast to bf16, four batches in memory.

A variant is joined by dashes: eager or compile (torch.compile), nchw or nhwc (channels_last), foreach or fused (the
optimiser). race.py sets the environment: OMP_NUM_THREADS and the allocator.
"""
import argparse

import torch
from torch.nn import functional as F

from measure import emit, windows
from families import FAMILIES, case as family
from networks import CASES

LOSSES = {'nll': F.nll_loss, 'ce': F.cross_entropy, 'bce': F.binary_cross_entropy_with_logits}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('case', choices=[*CASES, *(name for name, f in FAMILIES.items() if f.batch)])
    p.add_argument('--variant', default='eager-nhwc-fused')
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--precision', choices=['float32', 'bf16'], default='float32')
    p.add_argument('--windows', type=int, default=3)
    p.add_argument('--seconds', type=float, default=1)
    args = p.parse_args()
    mode, layout, update = args.variant.split('-')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    case = CASES.get(args.case) or family(args.case)
    order = torch.channels_last if layout == 'nhwc' else torch.contiguous_format
    model = case.make().train().to(memory_format=order)
    how = {update: True}
    optimiser = {
        'adam': lambda p: torch.optim.Adam(p, lr=1e-3, **how),
        'adamw': lambda p: torch.optim.AdamW(p, lr=1e-3, **how),
        'sgd': lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5, **how),
    }[case.optimiser](model.parameters())
    forward = torch.compile(model) if mode == 'compile' else model
    loss = LOSSES[case.loss]
    batches = []
    for _ in range(4):
        x = torch.randn(case.batch, *case.shape).to(memory_format=order)
        y = torch.randint(case.classes, (case.batch,)) if case.classes else (torch.rand(case.batch, 1, *case.shape[1:]) < .5).float()
        batches.append((x, y))
    turn = 0

    def step():
        nonlocal turn
        x, y = batches[turn]
        turn = (turn + 1) % len(batches)
        optimiser.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=args.precision == 'bf16'):
            out = forward(x)
        loss(out.float(), y).backward()
        optimiser.step()

    times = windows(step, args.seconds, args.windows)
    emit(times, 'train', case.batch, case=args.case, threads=args.threads, engine='torch', variant=args.variant,
         version=torch.__version__, optimiser=case.optimiser)


main()
