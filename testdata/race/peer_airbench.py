"""Times training steps of the recipe airbench-cifar10 in PyTorch, on random images.

    python testdata/race/peer_airbench.py --threads 2 --steps 3

prints images a second and the minutes that 8 epochs of 50,000 images take at that rate, without validation. cnnkit's rate is
images_per_s in the history of `cnnkit train --recipe airbench-cifar10`.
"""
import argparse
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


class Muon:
    def __init__(self, params, lr=0.24, momentum=0.6):
        self.params, self.lr, self.momentum = params, lr, momentum
        self.velocity = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self):
        for p, v in zip(self.params, self.velocity):
            v.mul_(self.momentum).add_(p.grad)
            p.mul_(len(p) ** 0.5 / p.norm())
            p.sub_(orthogonal(p.grad + self.momentum * v), alpha=self.lr)


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    args.add_argument("--batch", type=int, default=2000)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = network().to(memory_format=torch.channels_last)
    trained = [p for p in model.parameters() if p.requires_grad]
    muon = Muon([p for p in trained if p.dim() == 4])
    sgd = torch.optim.SGD([p for p in trained if p.dim() != 4], lr=0.01, momentum=0.85, nesterov=True)
    x = torch.randn(args.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(10, (args.batch,))
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        F.cross_entropy(model(x) / 9, y, label_smoothing=0.2).backward()
        muon.step()
        sgd.step()
        model.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    rate = args.batch / statistics.median(seconds[1:])
    print(f"torch {torch.__version__}, {args.threads} threads: {rate:.0f} images/s, 8 epochs in {8 * 50000 / rate / 60:.1f} min")


if __name__ == "__main__":
    main()
