"""Records searches for a learning rate, for train/find_lr_test.go: python find_lr.py

The network and the images of averages.py, all 12 in a batch. Smoothing, the end at divergence and the suggestion are those
of PyTorch Lightning's Tuner.lr_find, with a tenth of the steps left out at the start and those behind the lowest loss. Recorded with PyTorch 2.15.0, in
float64.
"""
import json
import numpy as np
import torch
from torch.nn import functional as F
from averages import HERE, Net, images


def search(low, high, steps, smooth, momentum):
    x, t = images()
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=low, momentum=momentum)
    rates, losses, smoothed, mean, best = [], [], [], 0, float('inf')
    diverged = False
    for i in range(steps):
        opt.param_groups[0]['lr'] = low * (high / low) ** (i / (steps - 1))
        opt.zero_grad()
        loss = F.cross_entropy(net(x), t)
        loss.backward()
        opt.step()
        mean = smooth * mean + (1 - smooth) * loss.item()
        rates.append(opt.param_groups[0]['lr'])
        losses.append(loss.item())
        smoothed.append(mean / (1 - smooth ** (i + 1)))
        best = min(best, smoothed[-1])
        if i > 0 and smoothed[-1] > 4 * best:
            diverged = True
            break
    used = slice(len(rates) // 10, -1)
    slopes = np.gradient(smoothed[used])[:int(np.argmin(smoothed[used])) + 1]
    suggestion = rates[used][int(slopes.argmin())]
    return {'find': {'Low': low, 'High': high, 'Steps': steps, 'Smooth': smooth}, 'momentum': momentum, 'rates': rates, 'losses': losses,
            'smoothed': smoothed, 'suggestion': suggestion, 'diverged': diverged}


if __name__ == '__main__':
    (HERE / 'find_lr.json').write_text(json.dumps([search(1e-3, 1, 40, 0.9, 0), search(1e-3, 1, 25, 0.5, 0.9), search(0.1, 1e4, 50, 0.3, 0.5)],
                                                  indent=1) + '\n')
