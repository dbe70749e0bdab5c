"""Trains the network of models/airbench-cifar10 in PyTorch by the same recipe: float32, channels_last.

    python testdata/race/peer_airbench.py --data ../shared/data/cifar10 --threads 2 --seeds 0,1,2,3,4

The folder has CIFAR-10's data_batch_1.bin to data_batch_5.bin and test_batch.bin, or the same with .xz. A line of JSON for each
seed: the accuracy with one view and with six, and the seconds from reading the files to the last step, views apart; then
the medians. --one-view leaves the six out, --steps 3 times as many steps on random images instead.
"""
import argparse
import json
import lzma
import os
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.BatchNorm2d):
    """BatchNorm2d without a learned scale."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


def block(inputs, outputs):
    conv = dict(kernel_size=3, padding=1, bias=False)
    return nn.Sequential(nn.Conv2d(inputs, outputs, **conv), nn.MaxPool2d(2), Norm(outputs), nn.GELU(),
                         nn.Conv2d(outputs, outputs, **conv), Norm(outputs), nn.GELU())


def network():
    whiten = nn.Conv2d(3, 24, 2)
    whiten.weight.requires_grad = False
    return nn.Sequential(whiten, nn.GELU(), block(24, 64), block(64, 256), block(256, 256), nn.MaxPool2d(3), nn.Flatten(),
                         nn.Linear(256, 10, bias=False))


def orthogonal(g, steps=3):
    """Newton and Schulz's quintic iteration on filters as a matrix."""
    x = g.flatten(1)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).reshape(g.shape)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.24, momentum=0.6):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group['params']:
                v = self.state[p].setdefault('velocity', torch.zeros_like(p))
                v.mul_(group['momentum']).add_(p.grad)
                p.mul_(len(p) ** 0.5 / p.norm())
                p.sub_(orthogonal(p.grad + group['momentum'] * v), alpha=group['lr'])


def initialize(model):
    """The 3x3 convolutions begin as identities of their first channels, the first one's bias as zeros."""
    nn.init.zeros_(model[0].bias)
    for m in model.modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            nn.init.dirac_(m.weight.data[:m.in_channels])


def whiten(conv, images, eps=5e-4):
    """Filters that whiten the patches of images, and their opposites."""
    patches = F.unfold(images, conv.kernel_size).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + eps).sqrt()).T.reshape(-1, *conv.weight.shape[1:])
    conv.weight.data.copy_(torch.cat((filters, -filters)))


def optimizers(model):
    """Muon for the convolutions, SGD for the rest, and how many epochs each group's rate takes to fall to zero."""
    head = model[-1].weight
    norms = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() == 1 and n != '0.bias']
    sgd = torch.optim.SGD([
        dict(params=[model[0].bias], lr=106, weight_decay=3.77e-5, epochs=3),
        dict(params=norms, lr=106, weight_decay=3.77e-5),
        dict(params=[head], lr=1.656, weight_decay=2.41e-3)], momentum=0.85, nesterov=True)
    muon = Muon([p for p in model.parameters() if p.requires_grad and p.dim() == 4])
    for group in sgd.param_groups + muon.param_groups:
        group['initial_lr'] = group['lr']
    return sgd, muon


def step(model, sgd, muon, x, y):
    F.cross_entropy(model(x) / 9, y, label_smoothing=0.2).backward()
    muon.step()
    sgd.step()
    model.zero_grad(set_to_none=True)


def read(folder, names):
    """Records of a byte for the class and 3x32x32 for the image."""
    data = bytearray()
    for name in names:
        path = os.path.join(folder, name + '.bin')
        with lzma.open(path + '.xz') if os.path.exists(path + '.xz') else open(path, 'rb') as f:
            data += f.read()
    records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, 1 + 3 * 32 * 32)
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    x = records[:, 1:].reshape(-1, 3, 32, 32).float().div_(255)
    x = x.sub_(mean[:, None, None]).div_(std[:, None, None])
    return x.contiguous(memory_format=torch.channels_last), records[:, 0].long()


def crops(x, pad=2):
    """Each image moved by up to pad pixels, what comes in being mirrored."""
    size = x.shape[-1]
    padded = F.pad(x, (pad,) * 4, 'reflect')
    by, out = torch.randint(2 * pad + 1, (len(x), 2)), torch.empty_like(x)
    for dy in range(2 * pad + 1):
        for dx in range(2 * pad + 1):
            some = (by[:, 0] == dy) & (by[:, 1] == dx)
            out[some] = padded[some, :, dy:dy + size, dx:dx + size]
    return out


@torch.no_grad()
def accuracy(model, x, y, views):
    model.eval()
    right = 0
    for a, b in zip(x.split(1000), y.split(1000)):
        logits = model(a)
        if views:
            padded = F.pad(a, (1,) * 4, 'reflect')
            moved = [a, padded[..., :32, :32], padded[..., 2:, 2:]]
            logits = sum(w * (model(m) + model(m.flip(-1))) for w, m in zip((0.5, 0.25, 0.25), moved))
        right += (logits.argmax(1) == b).sum().item()
    model.train()
    return 100 * right / len(y)


def train(args, seed):
    start = time.perf_counter()
    torch.manual_seed(seed)
    x, y = read(args.data, [f'data_batch_{i}' for i in range(1, 6)])
    test = read(args.data, ['test_batch'])
    model = network().to(memory_format=torch.channels_last)
    initialize(model)
    whiten(model[0], x[:5000])
    sgd, muon = optimizers(model)
    flipped, done, per = torch.rand(len(x)) < 0.5, 0, len(x) // args.batch
    for epoch in range(args.epochs):
        flipped = ~flipped
        for part in torch.randperm(len(x))[:per * args.batch].split(args.batch):
            for group in sgd.param_groups + muon.param_groups:
                left = 1 - done / (per * group.get('epochs', args.epochs))
                group['lr'] = group['initial_lr'] * max(0, left)
            model[0].bias.requires_grad = epoch < 3
            images = crops(torch.where(flipped[part, None, None, None], x[part].flip(-1), x[part]))
            step(model, sgd, muon, images, y[part])
            done += 1
    one = accuracy(model, *test, views=False)
    seconds = time.perf_counter() - start
    line = dict(seed=seed, accuracy=one, seconds=round(seconds, 1), threads=args.threads, torch=torch.__version__)
    if not args.one_view:
        line['six_views'] = accuracy(model, *test, views=True)
    print(json.dumps(line), flush=True)
    return one, seconds


def rate(args):
    """Images a second of training steps on random images."""
    model = network().to(memory_format=torch.channels_last)
    sgd, muon = optimizers(model)
    x = torch.randn(args.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(10, (args.batch,))
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        step(model, sgd, muon, x, y)
        seconds.append(time.perf_counter() - start)
    return args.batch / statistics.median(seconds[1:])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data')
    p.add_argument('--seeds', default='0')
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--steps', type=int, default=0)
    p.add_argument('--epochs', type=int, default=8)
    p.add_argument('--batch', type=int, default=2000)
    p.add_argument('--one-view', action='store_true')
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    if args.steps:
        r = rate(args)
        print(f"torch {torch.__version__}, {args.threads} threads: {r:.0f} images/s, "
              f"{args.epochs} epochs in {args.epochs * 50000 / r / 60:.1f} min")
        return
    if not args.data:
        p.error('--data FOLDER is wanted, or --steps')
    runs = [train(args, int(seed)) for seed in args.seeds.split(',')]
    accuracies, seconds = zip(*runs)
    print(json.dumps(dict(median_accuracy=statistics.median(accuracies), median_seconds=statistics.median(seconds))))


if __name__ == '__main__':
    main()
