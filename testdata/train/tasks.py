"""Trains three tasks in PyTorch, on data that it makes, for cmd/cnnkit/tasks_test.go.

    python tasks.py            writes tasks.json and tasks/TASK.onnx, tasks/TASK-trained.onnx
    python tasks.py CNNKIT     makes the data in a folder of its own, lets the program train, and compares

The tasks: several labels, two values to predict, masks of three classes with pixels that do not count. Images, weights and
orders come from noise() and Go's generator, which the Go test has too. Recorded with PyTorch 2.15.0 and scikit-learn 1.9.1.
"""
import json, pathlib, subprocess, sys, tempfile
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional as F
from record import noise, uniform

HERE = pathlib.Path(__file__).parent
N, TRAIN, SIDE, BATCH, EPOCHS = 50, 40, 16, 8, 20
LABELS = ['bright', 'dark', 'left', 'right']
VALUES = ['level', 'slope']
VOID = 255


class PCG:
    """math/rand/v2's."""
    M = (1 << 64) - 1

    def __init__(self, seed1, seed2):
        self.state = seed1 << 64 | seed2

    def uint64(self):
        self.state = (self.state * (2549297995355413924 << 64 | 4865540595714422341) + (6364136223846793005 << 64 | 1442695040888963407)) & ((1 << 128) - 1)
        hi, lo = self.state >> 64, self.state & self.M
        hi ^= hi >> 32
        hi = hi * 0xda942042e4dd58b5 & self.M
        hi ^= hi >> 48
        return hi * (lo | 1) & self.M

    def below(self, n):
        if n & (n - 1) == 0:
            return self.uint64() & 0xffffffff & (n - 1)
        product = (self.uint64() >> 32) * n
        while product & 0xffffffff < (1 << 32) % n:
            product = (self.uint64() >> 32) * n
        return product >> 32

    def perm(self, n):
        p = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            p[i], p[j] = p[j], p[i]
        return p


def order(n, epoch):
    """data.Order of seed 0."""
    return PCG(0, 0x9e3779b97f4a7c15 ^ epoch).perm(n)


def images():
    """uint8 [N,3,SIDE,SIDE], and the targets of each task."""
    x = (noise(N * 3 * SIDE * SIDE, 7) >> 26).astype(np.int64).reshape(N, 3, SIDE, SIDE)  # 0..63
    labels = (noise(N * 4, 8) >> 31).astype(np.int64).reshape(N, 4)
    values = (noise(N * 2, 9) >> 16).astype(np.float64).reshape(N, 2) / 65536
    a, b, i = np.arange(SIDE)[:, None], np.arange(SIDE)[None, :], np.arange(N)[:, None, None]
    masks = ((b + i) // 6 + (a + 2 * i) // 5) % 3
    quadrants = (a // 8 * 2 + b // 8)
    several = x + 14 * labels[:, quadrants][:, None]
    numbers = x + (96 * values[:, 0, None, None] + 90 * values[:, 1, None, None] * b / SIDE).astype(np.int64)[:, None]
    shown = x + 60 * masks[:, None]
    masks = np.where((a == 0) | (b == 0), VOID, masks)
    return {'multi-label': (several.astype(np.uint8), labels), 'regression': (numbers.astype(np.uint8), values),
            'masks': (shown.astype(np.uint8), masks)}


class Net(nn.Module):
    def __init__(self, task):
        super().__init__()
        stride = 1 if task == 'masks' else 2
        self.conv1 = nn.Conv2d(3, 8, 3, stride, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, stride, 1)
        self.head = nn.Conv2d(8, 3, 1) if task == 'masks' else nn.Linear(128, 4 if task == 'multi-label' else 2)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.head(x if isinstance(self.head, nn.Conv2d) else x.flatten(1))


def initialise(model):
    with torch.no_grad():
        for key, (name, p) in enumerate(sorted(model.named_parameters())):
            fan = np.prod(dict(model.named_parameters())[name.replace('.bias', '.weight')].shape[1:])
            p.copy_(torch.from_numpy(uniform(p.numel(), key) * np.float32(1 / np.sqrt(fan))).view(p.shape))


def save(model, task, path):
    """The network as an ONNX file, whose initializers have the names of the state dict."""
    def conv(name, x, y, stride, pad):
        return helper.make_node('Conv', [x, f'{name}.weight', f'{name}.bias'], [y], name=name, strides=[stride] * 2, pads=[pad] * 4)
    stride = 1 if task == 'masks' else 2
    nodes = [conv('conv1', 'input', 'a', stride, 1), helper.make_node('Relu', ['a'], ['b'], name='relu1'),
             conv('conv2', 'b', 'c', stride, 1), helper.make_node('Relu', ['c'], ['d'], name='relu2')]
    if task == 'masks':
        nodes.append(conv('head', 'd', 'output', 1, 0))
        shape = ['N', 3, SIDE, SIDE]
    else:
        nodes += [helper.make_node('Flatten', ['d'], ['e'], name='flatten'),
                  helper.make_node('Gemm', ['e', 'head.weight', 'head.bias'], ['output'], name='head', transB=1)]
        shape = ['N', model.head.out_features]
    graph = helper.make_graph(nodes, task, [helper.make_tensor_value_info('input', TensorProto.FLOAT, ['N', 3, SIDE, SIDE])],
                              [helper.make_tensor_value_info('output', TensorProto.FLOAT, shape)],
                              [numpy_helper.from_array(v.detach().numpy().copy(), k) for k, v in model.state_dict().items()])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(m)
    onnx.save(m, path)


def split(task):
    """The images to train on and to validate on: the table says, and of masks data.Split chooses."""
    if task != 'masks':
        return list(range(TRAIN)), list(range(TRAIN, N))
    left_out = PCG(0, 0x5851f42d4c957f2d).perm(N)[:N - TRAIN]
    return [i for i in range(N) if i not in left_out], sorted(left_out)


LOSSES = {'multi-label': lambda y, t: F.binary_cross_entropy_with_logits(y, t.float(), pos_weight=torch.tensor([1.0, 2.0, 0.5, 1.5])),
          'regression': lambda y, t: F.huber_loss(y, t.float(), delta=0.5),
          'masks': lambda y, t: F.cross_entropy(y, t, ignore_index=VOID)}
OPTIMIZERS = {'multi-label': lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
              'regression': lambda p: torch.optim.Adam(p, lr=1e-3),
              'masks': lambda p: torch.optim.AdamW(p, lr=2e-3, weight_decay=0.01)}


def train(task, x, target):
    model = Net(task)
    initialise(model)
    save(model, task, HERE / 'tasks' / f'{task}.onnx')
    opt, (first, _) = OPTIMIZERS[task](model.parameters()), split(task)
    losses = []
    for epoch in range(EPOCHS):
        turn = [first[i] for i in order(TRAIN, epoch + 1)]
        for at in range(0, TRAIN, BATCH):
            part = turn[at:at + BATCH]
            opt.zero_grad()
            loss = LOSSES[task](model(x[part]), target[part])
            loss.backward()
            opt.step()
            losses.append(loss.item())
    save(model, task, HERE / 'tasks' / f'{task}-trained.onnx')
    return model, losses


def measure(task, y, t):
    """scikit-learn's figures of the validation, and PyTorch's loss."""
    if task == 'multi-label':
        says, macro = (y > 0).astype(int), dict(average='macro', zero_division=0)
        limits = np.array([0.3, 0.6, 0.5, 0.4])
        own = (1 / (1 + np.exp(-y)) >= limits).astype(int)
        return {'accuracy': (says == t).mean(), 'map': sk.average_precision_score(t, y), 'f1': sk.f1_score(t, says, **macro),
                'auc': sk.roc_auc_score(t, y), 'precision': sk.precision_score(t, says, **macro), 'recall': sk.recall_score(t, says, **macro),
                'loss': F.binary_cross_entropy_with_logits(torch.from_numpy(y), torch.from_numpy(t).double()).item(),
                'thresholds': limits.tolist(), 'f1 by thresholds': sk.f1_score(t, own, **macro), 'accuracy by thresholds': (own == t).mean()}
    if task == 'regression':
        return {'mae': sk.mean_absolute_error(t, y), 'rmse': sk.mean_squared_error(t.flatten(), y.flatten()) ** 0.5, 'r2': sk.r2_score(t, y),
                'loss': sk.mean_squared_error(t, y)}
    counts = t != VOID
    says, truth = y.argmax(1)[counts], t[counts]
    each = sk.jaccard_score(truth, says, average=None)
    return {'accuracy': sk.accuracy_score(truth, says), 'miou': each.mean(), 'iou by class': each.tolist(),
            'f1': sk.f1_score(truth, says, average='macro'),
            'loss': F.cross_entropy(torch.from_numpy(y), torch.from_numpy(t), ignore_index=VOID).item()}


def record():
    torch.set_num_threads(1)
    (HERE / 'tasks').mkdir(exist_ok=True)
    out = {}
    for task, (pixels, target) in images().items():
        x = torch.from_numpy((pixels.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.25))
        model, losses = train(task, x, torch.from_numpy(target))
        _, last = split(task)
        with torch.no_grad():
            y = model(x[last]).numpy().astype(np.float64)
        out[task] = {'losses': losses, 'metrics': measure(task, y, target[last])}
        print(task, losses[0], losses[-1], out[task]['metrics'])
    (HERE / 'tasks.json').write_text(json.dumps(out) + '\n')
    return out


def files(folder):
    """The data as cnnkit reads it."""
    for task, (pixels, target) in images().items():
        dir = folder / task
        (dir / 'images').mkdir(parents=True)
        for i in range(N):
            Image.fromarray(pixels[i].transpose(1, 2, 0)).save(dir / 'images' / f'{i:02}.png')
        if task == 'masks':
            (dir / 'masks').mkdir()
            for i in range(N):
                Image.fromarray(target[i].astype(np.uint8)).save(dir / 'masks' / f'{i:02}.png')
            continue
        names = LABELS if task == 'multi-label' else VALUES
        rows = [f"images/{i:02}.png,{'train' if i < TRAIN else 'validation'}," + ','.join(f'{v:.16g}' for v in target[i]) for i in range(N)]
        (dir / 'table.csv').write_text('\n'.join(['path,split,' + ','.join(names)] + rows) + '\n')


COMMON = ['--mean', '0.5,0.5,0.5', '--std', '0.25,0.25,0.25']
ARGS = {'multi-label': ['--task', 'multi-label', '--pos-weight', '1,2,0.5,1.5', '--optimizer', 'sgd', '--lr', '0.05', '--momentum', '0.9'],
        'regression': ['--task', 'regression', '--loss', 'huber', '--set', 'delta=0.5', '--optimizer', 'adam', '--lr', '0.001'],
        'masks': ['--mask-classes', '3', '--ignore', str(VOID), '--optimizer', 'adamw', '--lr', '0.002', '--weight-decay', '0.01']}


def compare(program):
    """Lets the program train, and compares its losses with PyTorch's."""
    want = record()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        files(folder)
        worst = 0
        for task in want:
            data = f"masks:{folder / task / 'images'},{folder / task / 'masks'}" if task == 'masks' else f"csv:{folder / task / 'table.csv'}"
            out = folder / 'runs' / task
            out.parent.mkdir(exist_ok=True)
            subprocess.run([program, 'train', HERE / 'tasks' / f'{task}.onnx', '--data', data, '--epochs', str(EPOCHS), '--batch', str(BATCH),
                            '--ema', '0', '--out', out, '--log', 'jsonl', '--no-report', *COMMON, *ARGS[task]], check=True, stdout=subprocess.DEVNULL)
            rows = [json.loads(line) for line in open(out / 'log.jsonl')]
            got = [r['step_loss'] for r in rows if 'step_loss' in r]
            far = max(abs(a - b) / abs(b) for a, b in zip(got, want[task]['losses'], strict=True))
            print(f'{task}: the losses of {len(got)} steps are within {far:.2g} of PyTorch\'s')
            worst = max(worst, far)
    if worst > 1e-4:
        sys.exit('more than 1e-4')


if __name__ == '__main__':
    compare(sys.argv[1]) if len(sys.argv) > 1 else record()
