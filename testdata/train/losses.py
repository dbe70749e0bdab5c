"""Records PyTorch's losses and their gradients, for train/loss_test.go: python losses.py

Outputs and targets come from noise(), as in optimisers.py. Everything is float64. Recorded with PyTorch 2.15.0.
"""
import json, math, pathlib
import numpy as np
import torch
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
LABELS, MASKS, GRID = (6, 5), (2, 3, 4, 5), (2, 4, 3, 3)


def uniform(n, key):
    """optimisers.py's: hashed numbers in [-1, 1), exact in float32."""
    x = np.arange(n, dtype=np.uint64) * 2654435761 + key * 40503 + 12345
    for _ in range(2):
        x = x & 0xffffffff
        x = ((x ^ (x >> 16)) * 0x45d9f3b) & 0xffffffff
    x = (x ^ (x >> 16)) & 0xffffffff
    return (x >> 8).astype(np.float64) / (1 << 23) - 1


def outputs(shape):
    return torch.from_numpy(4 * uniform(math.prod(shape), 3)).reshape(shape)


def labels(shape):
    n = shape[0] * math.prod(shape[2:])
    return torch.from_numpy((np.arange(n) * 7 + 3) % shape[1]).reshape(shape[:1] + shape[2:])


def masks(shape):
    return torch.from_numpy((uniform(math.prod(shape), 4) > 0.2).astype(np.float64)).reshape(shape)


def soft(shape):
    """Even mixes of two classes."""
    first, second = labels(shape), (labels(shape) + 1) % shape[1]
    one = lambda t: F.one_hot(t, shape[1]).movedim(-1, 1).double()
    return 0.75 * one(first) + 0.25 * one(second)


def focal(y, t, gamma=2):
    nll = F.cross_entropy(y, t, reduction='none')
    return ((1 - torch.exp(-nll)) ** gamma * nll).mean()


def sigmoid_focal(y, t, gamma=2, alpha=0):
    """torchvision.ops.sigmoid_focal_loss, reduction='mean'."""
    p = torch.sigmoid(y)
    ce = F.binary_cross_entropy_with_logits(y, t, reduction='none')
    p_t = p * t + (1 - p) * (1 - t)
    loss = ce * (1 - p_t) ** gamma
    if alpha > 0:
        loss = (alpha * t + (1 - alpha) * (1 - t)) * loss
    return loss.mean()


def tversky(y, t, a=0.5, b=0.5, smooth=1):
    p = torch.sigmoid(y)
    tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    return 1 - (tp + smooth) / (tp + a * fp + b * fn + smooth)


def dice(y, t, smooth=1):
    p = torch.sigmoid(y)
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def jaccard(y, t, smooth=1):
    p = torch.sigmoid(y)
    both = (p * t).sum()
    return 1 - (both + smooth) / (p.sum() + t.sum() - both + smooth)


def extension(errors, truth):
    """Lovász's extension of the Jaccard loss, one row: errors from the largest, times what each adds."""
    errors, order = torch.sort(errors, descending=True)
    truth = truth[order]
    hits, misses = truth.cumsum(0), (1 - truth).cumsum(0)
    jaccard = 1 - (truth.sum() - hits) / (truth.sum() + misses)
    return (errors * torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])).sum()


def lovasz(y, t):
    p = y.softmax(1).movedim(1, 0).flatten(1)
    present = [c for c in range(y.shape[1]) if (t == c).any()]
    return sum(extension((p[c] - (t.flatten() == c).double()).abs(), (t.flatten() == c).double()) for c in present) / len(present)


def lovasz_hinge(y, t):
    return extension(F.relu(1 - y.flatten() * (2 * t.flatten() - 1)), t.flatten())


bce = F.binary_cross_entropy_with_logits
logs = lambda f: lambda y, t: f(F.log_softmax(y, 1), t)
CASES = []
for shape in (LABELS, GRID):
    CASES += [
        ({'loss': 'nll'}, shape, labels, logs(F.nll_loss)),
        ({'loss': 'cross-entropy'}, shape, labels, F.cross_entropy),
        ({'loss': 'nll', 'label_smoothing': 0.1}, shape, labels, lambda y, t: F.cross_entropy(y, t, label_smoothing=0.1)),
        ({'loss': 'cross-entropy', 'label_smoothing': 0.2}, shape, labels, lambda y, t: F.cross_entropy(y, t, label_smoothing=0.2)),
        ({'loss': 'soft-nll'}, shape, soft, F.cross_entropy),
        ({'loss': 'soft-cross-entropy'}, shape, soft, F.cross_entropy),
        ({'loss': 'soft-cross-entropy', 'label_smoothing': 0.1}, shape, soft, lambda y, t: F.cross_entropy(y, t, label_smoothing=0.1)),
        ({'loss': 'focal'}, shape, labels, focal),
        ({'loss': 'focal', 'gamma': 1.5}, shape, labels, lambda y, t: focal(y, t, 1.5)),
    ]
CASES += [
    ({'loss': 'bce-with-logits'}, MASKS, masks, bce),
    ({'loss': 'sigmoid-focal'}, MASKS, masks, sigmoid_focal),
    ({'loss': 'sigmoid-focal', 'gamma': 3, 'balance': 0.25}, MASKS, masks, lambda y, t: sigmoid_focal(y, t, 3, 0.25)),
    ({'loss': 'dice'}, MASKS, masks, dice),
    ({'loss': 'dice', 'smooth': 5}, MASKS, masks, lambda y, t: dice(y, t, 5)),
    ({'loss': 'jaccard'}, MASKS, masks, jaccard),
    ({'loss': 'tversky', 'tversky': [0.3, 0.7]}, MASKS, masks, lambda y, t: tversky(y, t, 0.3, 0.7)),
    ({'loss': 'tversky', 'smooth': 2}, MASKS, masks, lambda y, t: tversky(y, t, smooth=2)),
    ({'loss': 'bce-dice'}, MASKS, masks, lambda y, t: bce(y, t) + dice(y, t)),
]
CASES += [
    ({'loss': 'lovasz'}, LABELS, labels, lovasz),
    ({'loss': 'lovasz'}, GRID, labels, lovasz),
    ({'loss': 'lovasz-hinge'}, MASKS, masks, lovasz_hinge),
]
values = lambda shape: torch.from_numpy(3 * uniform(math.prod(shape), 5)).reshape(shape)
several = masks
for shape in (LABELS, MASKS):
    CASES += [
        ({'loss': 'mse'}, shape, values, F.mse_loss),
        ({'loss': 'l1'}, shape, values, F.l1_loss),
        ({'loss': 'huber'}, shape, values, F.huber_loss),
        ({'loss': 'huber', 'delta': 2.5}, shape, values, lambda y, t: F.huber_loss(y, t, delta=2.5)),
    ]
CASES += [
    ({'loss': 'bce-with-logits'}, LABELS, several, bce),
    ({'loss': 'bce-with-logits', 'pos_weight': [0.5, 2, 1, 1.25, 3]}, LABELS, several,
     lambda y, t: bce(y, t, pos_weight=torch.tensor([0.5, 2, 1, 1.25, 3]).double())),
    ({'loss': 'bce-with-logits', 'pos_weight': [4]}, MASKS, masks, lambda y, t: bce(y, t, pos_weight=torch.tensor([4]).double())),
]
for shape in (LABELS, GRID):
    w = [0.5, 2, 0, 1.25, 3][:shape[1]]
    entropy = lambda e=0, w=torch.tensor(w).double(): lambda y, t: F.cross_entropy(y, t, weight=w, label_smoothing=e)
    CASES += [
        ({'loss': 'nll', 'class_weights': w}, shape, labels, entropy()),
        ({'loss': 'cross-entropy', 'class_weights': w}, shape, labels, entropy()),
        ({'loss': 'cross-entropy', 'class_weights': w, 'label_smoothing': 0.1}, shape, labels, entropy(0.1)),
        ({'loss': 'soft-nll', 'class_weights': w}, shape, soft, entropy()),
        ({'loss': 'soft-cross-entropy', 'class_weights': w, 'label_smoothing': 0.1}, shape, soft, entropy(0.1)),
    ]


def image_weights(n):
    """0.5, 0, 1.5, 1, 0.5, ..."""
    return (torch.arange(n) * 3 + 1) % 4 / 2.


def weighed(f):
    """The mean of weight * loss: f has reduction='none'."""
    def loss(y, t):
        losses = f(y, t)
        return (losses * image_weights(len(losses)).double().reshape(-1, *[1] * (losses.dim() - 1))).mean()
    return loss


def whole(f, **more):
    return weighed(lambda y, t: f(y, t, reduction='none', **more))


for shape in (LABELS, GRID):
    w = [0.5, 2, 0, 1.25, 3][:shape[1]]
    cw = torch.tensor(w).double()
    nll = lambda y, t: F.cross_entropy(y, t, reduction='none')
    CASES += [
        ({'loss': 'nll', 'sample_weights': True}, shape, labels, whole(F.cross_entropy)),
        ({'loss': 'cross-entropy', 'sample_weights': True}, shape, labels, whole(F.cross_entropy)),
        ({'loss': 'cross-entropy', 'sample_weights': True, 'class_weights': w, 'label_smoothing': 0.1}, shape, labels,
         whole(F.cross_entropy, weight=cw, label_smoothing=0.1)),
        ({'loss': 'nll', 'sample_weights': True, 'class_weights': w}, shape, labels, whole(F.cross_entropy, weight=cw)),
        ({'loss': 'focal', 'sample_weights': True}, shape, labels, weighed(lambda y, t: (1 - torch.exp(-nll(y, t))) ** 2 * nll(y, t))),
    ]
for shape in (LABELS, MASKS):
    p = torch.sigmoid
    CASES += [
        ({'loss': 'bce-with-logits', 'sample_weights': True}, shape, masks, whole(bce)),
        ({'loss': 'sigmoid-focal', 'sample_weights': True}, shape, masks,
         weighed(lambda y, t: bce(y, t, reduction='none') * (p(y) + t - 2 * p(y) * t) ** 2)),
        ({'loss': 'mse', 'sample_weights': True}, shape, values, whole(F.mse_loss)),
        ({'loss': 'l1', 'sample_weights': True}, shape, values, whole(F.l1_loss)),
        ({'loss': 'huber', 'sample_weights': True, 'delta': 2.5}, shape, values, whole(F.huber_loss, delta=2.5)),
    ]
if __name__ == '__main__':
    out = []
    for config, shape, target, f in CASES:
        y = outputs(shape).requires_grad_()
        t = target(shape)
        value = f(y, t)
        value.backward()
        out.append({'config': config, 'shape': shape, 'target': t.flatten().tolist(), 'value': value.item(), 'gradient': y.grad.flatten().tolist()})
    (HERE / 'losses.json').write_text(json.dumps(out) + '\n')
