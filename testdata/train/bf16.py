"""Records the losses of PyTorch's training under autocast to bf16, for train/trajectory_test.go.

    python bf16.py

The networks are those of ../race/networks.py, weights and images record.py's. Recorded with PyTorch 2.15.0 on one thread of an
Intel Xeon with AMX. Beside them stand the losses in float32, which say how far bf16 moves them.
"""
import json, re, sys
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from record import HERE, masks, synthetic, uniform

sys.path.insert(0, str(HERE / '../race'))
from networks import UNet, resnet  # noqa: E402


def resnet_name(name):
    """cnnkit's name of a parameter of the ResNet."""
    index, rest = name.split('.', 1)
    if index == '11':
        return 'fc.' + rest
    if int(index) < 3:
        return ['conv.', 'bn.'][int(index)] + rest
    for part, own in {'body.0': 'conv1', 'body.1': 'bn1', 'body.3': 'conv2', 'body.4': 'bn2', 'shortcut': 'downsample'}.items():
        rest = rest.replace(part, own)
    block = int(index) - 3
    return f'layer{block // 2 + 1}.{block % 2}.{rest}'


def unet_name(name):
    """cnnkit's name of a parameter of the U-Net."""
    name = name.replace('down.4', 'bottleneck').replace('final', 'conv_final')
    name = re.sub(r'down\.(\d)', lambda m: f'enc{int(m[1]) + 1}', name)
    return re.sub(r'(up|join)\.(\d)', lambda m: {'up': 'upconv', 'join': 'dec'}[m[1]] + str(4 - int(m[2])), name)


def initialise(model, rename):
    """record.py's, by cnnkit's names."""
    norms = {f'{n}.{p}' for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) for p, _ in m.named_parameters()}
    parameters = {rename(name): (name, p) for name, p in model.named_parameters()}
    shapes = {name: p.shape for name, (_, p) in parameters.items()}
    with torch.no_grad():
        for key, (own, (name, p)) in enumerate(sorted(parameters.items())):
            if name not in norms:
                fan = np.prod(shapes[own.replace('.bias', '.weight')][1:])
                p.copy_(torch.from_numpy(uniform(p.numel(), key) * np.float32(1 / np.sqrt(fan))).view(p.shape))


def losses(model, rename, batch, size, steps, lr, loss, bf16):
    initialise(model, rename)
    model.train()
    optimiser, out = torch.optim.Adam(model.parameters(), lr=lr), []
    for step in range(steps):
        x, y = batch(np.arange(step * size, (step + 1) * size))
        optimiser.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            answer = model(torch.from_numpy(x))
        value = loss(answer.float(), torch.from_numpy(y))
        value.backward()
        optimiser.step()
        out.append(value.item())
    return out


def main():
    torch.set_num_threads(1)
    record = {}
    for name, make, rename, batch, size, lr, loss in [
        ('resnet', resnet, resnet_name, synthetic((3, 32, 32), 1000), 20, 1e-4, F.nll_loss),
        ('unet', lambda: UNet(32), unet_name, masks(synthetic((3, 32, 32), 9000)), 2, 1e-4, F.binary_cross_entropy_with_logits),
    ]:
        record[name] = {'batch': size, 'bf16': losses(make(), rename, batch, size, 20, lr, loss, True),
                        'float32': losses(make(), rename, batch, size, 20, lr, loss, False)}
        print(name, record[name])
    (HERE / 'bf16.json').write_text(json.dumps(record) + '\n')


if __name__ == '__main__':
    main()
