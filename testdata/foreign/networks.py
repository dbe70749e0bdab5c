"""Exports torchvision's ResNet-18, MobileNet v2 and EfficientNet-B0 by both of PyTorch's exporters, and fine-tunes them.

python networks.py DIR writes NAME.onnx, NAME.pth, batches.pth and losses.json for train.TestForeignNetworks, which takes as many
steps from the same weights. python networks.py DIR CNNKIT then gets the weights back under torchvision's names and loads them
strictly. Noise that PyTorch and others draw otherwise is off: Dropout and stochastic depth are 0. "kept" and "folded" are as in
foreign.py. The images differ in broad patches, and the networks have been trained on them under other labels: where all images are
alike or no layer is trained, BatchNormalization makes so much of rounding that PyTorch does not follow itself in float64. Their
classifiers are a tenth of what was learned: sure of the old labels, they would make steps so large that roundings of 1e-7 grew to 1e-2 in 50 of them.
"""
import json
import os
import subprocess
import sys

import torch
import torchvision
from torch import nn

import foreign

SIDE, LR = 64, 0.005
NETWORKS = {
    'resnet18': lambda: torchvision.models.resnet18(num_classes=foreign.CLASSES),
    'mobilenet_v2': lambda: torchvision.models.mobilenet_v2(num_classes=foreign.CLASSES, dropout=0.0),
    'efficientnet_b0': lambda: torchvision.models.efficientnet_b0(num_classes=foreign.CLASSES, dropout=0.0, stochastic_depth_prob=0.0),
}


def batches(shift):
    """Four batches of images [8,3,SIDE,SIDE] with labels, each class around a pattern of 4x4 patches of its own."""
    random = torch.Generator().manual_seed(3)
    patterns = torch.rand(foreign.CLASSES, 3, 4, 4, generator=random) * 2 - 1
    kinds = torch.arange(foreign.BATCH) * 3 % foreign.CLASSES
    for _ in range(4):
        small = patterns[kinds] + torch.randn(foreign.BATCH, 3, 4, 4, generator=random) * 0.6
        x = nn.functional.interpolate(small, size=(SIDE, SIDE), mode='nearest')
        yield x + torch.randn(x.shape, generator=random) * 0.3, (kinds + shift) % foreign.CLASSES


def train(model, data, steps, lr):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for step in range(steps):
        x, y = data[step % 4]
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def calm(model):
    """Takes most of what it believes off a network, as a fresh classifier would."""
    last = model.fc if hasattr(model, 'fc') else model.classifier[-1]
    with torch.no_grad():
        for p in last.parameters():
            p.mul_(0.1)


def make(folder):
    said, old, new = {}, list(batches(0)), list(batches(1))
    torch.save({f'{k}{i}': t for i, pair in enumerate(new) for k, t in zip('xy', pair)}, os.path.join(folder, 'batches.pth'))
    for name, network in NETWORKS.items():
        torch.manual_seed(7)
        model = network()
        train(model, old, 40, 0.02)
        calm(model)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        torch.save(state, os.path.join(folder, name + '.pth'))
        model.eval()
        with torch.no_grad():
            answer = model(new[0][0]).flatten().tolist()
        losses = train(model, new, foreign.STEPS, LR)
        for dynamo in (False, True):
            for kept in (True, False):
                model.load_state_dict(state)
                case = f"{name}-{'dynamo' if dynamo else 'torchscript'}-{'kept' if kept else 'folded'}"
                foreign.export(model, new[0][0], os.path.join(folder, case + '.onnx'), kept, dynamo)
                said[case] = {'answer': answer, 'losses': losses}
                print(case, 'exported; the loss goes from', losses[0], 'to', losses[-1], flush=True)
    with open(os.path.join(folder, 'losses.json'), 'w') as f:
        json.dump(said, f)


def take_back(folder, cnnkit):
    wrong = 0
    for case in json.load(open(os.path.join(folder, 'losses.json'))):
        arch = case.split('-')[0]
        out = os.path.join(folder, 'back.pth')
        r = subprocess.run([cnnkit, 'convert', os.path.join(folder, case + '.onnx'), out, '--arch', arch, '--classes', str(foreign.CLASSES),
                            '--input', f'3x{SIDE}x{SIDE}'], capture_output=True, text=True)
        if r.returncode:
            print(case, 'is not taken back:', r.stderr)
            wrong += 1
            continue
        x = next(batches(0))[0]
        answers, first = [], torch.load(os.path.join(folder, arch + '.pth'), weights_only=True)
        for path in (os.path.join(folder, arch + '.pth'), out):
            model = NETWORKS[arch]().eval()
            state = torch.load(path, weights_only=True)
            if case.endswith('torchscript-kept'):  # its trace ran in training mode, which moved the running statistics
                state.update((k, v) for k, v in first.items() if '.running_' in '.' + k)
            model.load_state_dict(state, strict=True)
            with torch.no_grad():
                answers.append(model(x))
        far = ((answers[0] - answers[1]).abs().max() / answers[0].abs().max()).item()
        print(f'{case} loads strictly; answers differ by {far:.2g} of the largest')
        wrong += not far <= 1e-4
    return wrong


if __name__ == '__main__':
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        sys.exit(take_back(*sys.argv[1:]) > 0)
    make(sys.argv[1])
