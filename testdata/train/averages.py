"""Records averages of weights by torch.optim.swa_utils, for train/average_test.go: python averages.py

A network of a convolution, BatchNormalization and a linear layer learns 12 images of 1x6x6 in batches of 5, 5 and 2 for
six epochs, in the orders that data.Order gives for seed 5. Recorded with PyTorch 2.15.0, in float64.
"""
import copy, json, pathlib
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

HERE = pathlib.Path(__file__).parent
ORDERS = [[7, 2, 8, 4, 1, 9, 5, 0, 10, 6, 3, 11], [9, 2, 10, 5, 1, 6, 8, 0, 7, 3, 4, 11], [10, 9, 5, 1, 2, 0, 8, 11, 6, 3, 4, 7],
          [8, 9, 2, 10, 7, 0, 6, 1, 4, 3, 11, 5], [5, 11, 0, 6, 3, 1, 7, 10, 8, 2, 4, 9], [5, 10, 11, 2, 3, 6, 4, 0, 7, 9, 1, 8]]
BATCH, START = 5, 3


def noise(n, key):
    """n unsigned 32-bit numbers, a hash of (index, key)."""
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    return (x ^ (x >> 16)) & 0xffffffff


def uniform(n, key):
    """In [-1, 1), exact in float32."""
    return (noise(n, key) >> 8).astype(np.float64) / (1 << 23) - 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 3)
        for key, p in enumerate([self.conv.weight, self.fc.weight, self.fc.bias]):
            p.data = torch.from_numpy(uniform(p.numel(), key + 1)).reshape(p.shape)
        self.double()

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


def images():
    """12 images of 8-bit pixels, brought to [-1, 1], and their labels."""
    pixels = torch.from_numpy((noise(12 * 36, 9) >> 24).astype(np.float64)).reshape(12, 1, 6, 6)
    return (pixels / 255 - 0.5) / 0.5, torch.arange(12) % 3


def batches(epoch):
    return [ORDERS[epoch][i:i + BATCH] for i in range(0, 12, BATCH)]


def warmed(decay):
    """An EMA whose decay rises with the number t of updates, min(decay, (1+t)/(10+t)), as TensorFlow's
    ExponentialMovingAverage has it; n counts those before."""
    return lambda means, now, n: get_ema_multi_avg_fn(min(decay, (2 + int(n)) / (11 + int(n))))(means, now, n)


def run(config, swa=None, ema=0.0):
    """Trains by PyTorch's own words; swa is what SWALR takes, {} for none."""
    x, t = images()
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=config['lr'], momentum=config['momentum'])
    gather = config.get('accumulate', 1)
    schedule = CosineAnnealingLR(opt, 6) if config['schedule']['kind'] == 'cosine' else ExponentialLR(opt, 0.8)
    average, anneal = None, None
    if ema:
        average = AveragedModel(net, multi_avg_fn=warmed(ema), use_buffers=True)
    if swa is not None:
        average = AveragedModel(net)
    rates, losses, shown = [], [], net
    for epoch in range(6):
        rates.append(opt.param_groups[0]['lr'])
        parts = batches(epoch)
        for i in range(0, len(parts), gather):
            group = parts[i:i + gather]
            opt.zero_grad()
            for b in group:
                net.train()
                loss = F.cross_entropy(net(x[b]), t[b])
                (loss * len(b) / sum(map(len, group))).backward()
            opt.step()
            if ema:
                average.update_parameters(net)
        if swa is not None and epoch + 1 >= START:
            average.update_parameters(net)
            if swa and anneal is None:
                anneal = SWALR(opt, **swa)
        (anneal or schedule).step()
        shown = net
        if ema:
            shown = average.module
        elif swa is not None and epoch + 1 >= START:
            update_bn([x[b] for b in parts], average)
            shown = average.module
        shown = copy.deepcopy(shown).eval()
        losses.append(F.cross_entropy(shown(x), t).item())
    tensors = {k: v.flatten().tolist() for k, v in shown.state_dict().items() if v.is_floating_point()}
    config |= {'optimizer': 'sgd', 'epochs': 6, 'batch': BATCH, 'seed': 5}
    return {'config': config, 'rates': rates, 'losses': losses, 'tensors': tensors}


def config(kind='exponential', **more):
    return {'lr': 0.05, 'momentum': 0.9, 'schedule': {'kind': kind} | ({'gamma': 0.8} if kind == 'exponential' else {})} | more


if __name__ == '__main__':
    (HERE / 'averages.json').write_text(json.dumps([
        run(config(swa={'start': START}), swa={}),
        run(config(kind='cosine', swa={'start': START, 'lr': 0.02}), swa={'swa_lr': 0.02}),
        run(config(swa={'start': START, 'lr': 0.1, 'anneal': 'linear', 'anneal_epochs': 2}),
            swa={'swa_lr': 0.1, 'anneal_strategy': 'linear', 'anneal_epochs': 2}),
        run(config(swa={'start': START, 'lr': 0.02, 'anneal_epochs': -1}), swa={'swa_lr': 0.02, 'anneal_epochs': 0}),
        run(config(ema=0.8), ema=0.8),
        run(config(ema=0.8, accumulate=2), ema=0.8),
    ], indent=1) + '\n')
