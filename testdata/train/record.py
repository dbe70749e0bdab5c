"""Records PyTorch's training trajectories, for train/trajectory_test.go.

    python record.py NETWORKS.py MNIST_FOLDER

NETWORKS.py defines LeNet5, MiniVGG, ResNet and UNet in PyTorch; MNIST_FOLDER holds the four gzip files. Initial weights
and synthetic images come from noise(), which the Go test repeats. Recorded with PyTorch 2.15.0 on one thread.
"""
import gzip, importlib.util, json, pathlib, sys
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

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


def initialise(model):
    """Uniform with PyTorch's bound 1/sqrt(fan-in) for weights and biases; BatchNorm as it is."""
    norms = {f'{n}.{p}' for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) for p, _ in m.named_parameters()}
    shapes = {name: p.shape for name, p in model.named_parameters()}
    with torch.no_grad():
        for key, (name, p) in enumerate(sorted(model.named_parameters())):
            if name in norms:
                continue
            fan = np.prod(shapes[name.replace('.bias', '.weight')][1:])
            p.copy_(torch.from_numpy(uniform(p.numel(), key) * np.float32(1 / np.sqrt(fan))).view(p.shape))


def mnist(folder):
    def read(name, skip):
        return np.frombuffer(gzip.open(pathlib.Path(folder, name)).read(), np.uint8)[skip:]
    x = read('train-images-idx3-ubyte.gz', 16).reshape(-1, 1, 28, 28)
    y = read('train-labels-idx1-ubyte.gz', 8).astype(np.int64)
    mean, std = np.float32(0.1307), np.float32(0.3081)
    return lambda i: (((x[i].astype(np.float32) / np.float32(255)) - mean) / std, y[i])


def synthetic(chw, key):
    """Image i of class i mod 10: half noise of its own, half its class's pattern; values in [-1, 1)."""
    per = int(np.prod(chw))
    patterns = uniform(10 * per, key).reshape(10, *chw)

    def batch(index):
        x = np.stack([uniform(per, key + 1 + i).reshape(chw) * np.float32(0.5) for i in index.tolist()])
        y = index % 10
        return x + patterns[y] * np.float32(0.5), y.astype(np.int64)
    return batch


def masks(batch):
    """Foreground where the first channel is positive."""
    def of(index):
        x, _ = batch(index)
        return x, (x[:, :1] > 0).astype(np.float32)
    return of


def warm(model, batch, size, optimiser, loss, first, steps):
    """Leaves the steep beginning behind: there, PyTorch in float32 itself parts from PyTorch in float64."""
    opt = optimiser(model.parameters())
    for step in range(steps):
        x, y = batch(np.arange((first + step) * size, (first + step + 1) * size))
        opt.zero_grad()
        loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        opt.step()


def save(path, state, stride):
    flat = [v.numpy().reshape(-1)[::stride] for v in state.values()]
    np.concatenate(flat).astype('<f4').tofile(HERE / path)
    return [len(f) for f in flat]


def trajectory(name, model, batch, size, steps, optimiser, loss, stride=1, warmer=None):
    initialise(model)
    model.train()
    if warmer:
        warm(model, batch, size, warmer, loss, steps, 300)
        save(f'{name}-initial.bin', {k: v for k, v in model.state_dict().items()}, 1)
    opt = optimiser(model.parameters())
    losses = []
    for step in range(steps):
        x, y = batch(np.arange(step * size, (step + 1) * size))
        opt.zero_grad()
        value = loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        value.backward()
        opt.step()
        losses.append(value.item())
    state = {k: v for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    counts = save(f'{name}.bin', state, stride)
    record = {'batch': size, 'stride': stride, 'losses': losses, 'tensors': list(state), 'counts': counts}
    (HERE / f'{name}.json').write_text(json.dumps(record) + '\n')
    print(name, losses[0], losses[-1])


def main(networks, folder):
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location('networks', networks)
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    sgd = lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5)
    adam = lambda p: torch.optim.Adam(p, lr=1e-3)
    slow = lambda p: torch.optim.Adam(p, lr=3e-5)
    calm = lambda p: torch.optim.Adam(p, lr=1.5e-5)
    digits = mnist(folder)
    trajectory('lenet5', net.LeNet5(1, 400), digits, 64, 200, sgd, F.nll_loss, warmer=adam)
    trajectory('minivgg', net.MiniVGG(1, 800), digits, 64, 200, slow, F.nll_loss, warmer=adam)
    trajectory('resnet', net.ResNet(), synthetic((3, 32, 32), 1000), 20, 100, calm, F.nll_loss)
    trajectory('unet', net.UNet(3, 1, 8), masks(synthetic((3, 32, 32), 9000)), 2, 10,
               lambda p: torch.optim.Adam(p, lr=1e-4), F.binary_cross_entropy_with_logits, stride=4)


if __name__ == "__main__":
    main(*sys.argv[1:])
