"""Makes the foreign graphs of this folder: small networks as the exporters of PyTorch write them, and how PyTorch trains them.

python foreign.py [DIR] writes NAME.onnx and losses.json. The networks hold what is easily taken for a constant: a scale that
is learned, a bias that is added, a class token, a table of positions. "kept" are exports in training mode, with
BatchNormalization and Dropout; "folded" those of an evaluation. "rounded" fakes bytes.
"""
import json
import os
import sys
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore")
SIDE, BATCH, STEPS, CLASSES = 16, 8, 50, 5


class Tokens(nn.Module):
    """A convolution to tokens, with a class token, positions and a scaled block."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.2, 8).view(8, 1, 1))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8) * 0.1)
        self.positions = nn.Parameter(torch.randn(1, 17, 8) * 0.1)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.layer_scale = nn.Parameter(torch.full((8,), 0.5))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        x = self.gamma * nn.functional.hardswish(self.bn2(self.depthwise(x)))
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x + self.layer_scale * self.down(nn.functional.gelu(self.up(self.norm(x))))
        return self.head(x[:, 0] + x.mean(1))


class Residual(nn.Module):
    """Two residual blocks and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.down, self.bn3 = nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(x + self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.down(x)))
        return self.fc(self.pool(x).flatten(1))


class Rounded(nn.Module):
    """Quantization-aware training: weights rounded to int8 by channel, maps to uint8, by scales that stay."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.fc = nn.Linear(16, CLASSES)
        for name in "conv1", "conv2", "fc":
            w = getattr(self, name).weight.detach()
            self.register_buffer(name + "_scale", w.abs().flatten(1).amax(1) / 100)
            self.register_buffer(name + "_zero", torch.zeros(len(w), dtype=torch.int32))

    def weight(self, name):
        return torch.fake_quantize_per_channel_affine(getattr(self, name).weight, getattr(self, name + "_scale"),
                                                      getattr(self, name + "_zero"), 0, -128, 127)

    def forward(self, x):
        to_bytes = torch.fake_quantize_per_tensor_affine
        x = to_bytes(x, 0.01, 50, 0, 255)
        x = nn.functional.conv2d(x, self.weight("conv1"), self.conv1.bias, padding=1)
        x = to_bytes(torch.relu(x), 0.004, 0, 0, 255)
        x = nn.functional.conv2d(x, self.weight("conv2"), self.conv2.bias, stride=2, padding=1)
        x = to_bytes(torch.relu(x), 0.004, 0, 0, 255)
        return nn.functional.linear(x.mean((2, 3)), self.weight("fc"), self.fc.bias)


def batch(step):
    """Inputs and labels by a formula that any language repeats exactly."""
    n = BATCH * 3 * SIDE * SIDE
    i = torch.arange(n, dtype=torch.int64) + step % 4 * n
    x = ((i * 7919 % 1009).double() / 1009 - 0.5).float().view(BATCH, 3, SIDE, SIDE)
    y = torch.arange(BATCH, dtype=torch.int64) * 3 % CLASSES
    return x + y.view(-1, 1, 1, 1).float() * 0.125, y


def settled(model):
    """Running statistics of a network that was trained."""
    model.train()
    with torch.no_grad():
        for step in range(8):
            model(batch(step)[0])
    return model


def losses(model):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    out = []
    for step in range(STEPS):
        x, y = batch(step)
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out


def export(model, x, path, kept, dynamo):
    if dynamo:
        model.train(kept)
        program = torch.onnx.export(model, (x,), dynamo=True, optimize=not kept, opset_version=18, verbose=False, input_names=["input"],
                                    output_names=["output"], dynamic_shapes={"x": {0: torch.export.Dim("N", min=1, max=4096)}})
        program.save(path)
        return
    mode = torch.onnx.TrainingMode.TRAINING if kept else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17, training=mode, do_constant_folding=not kept, input_names=["input"],
                      output_names=["output"], dynamic_axes={"input": {0: "N"}, "output": {0: "N"}})


def main(folder):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    said = {}
    for name, make in {"tokens": Tokens, "residual": Residual, "rounded": Rounded}.items():
        for dynamo in (False, True):
            for kept in (True, False):
                torch.manual_seed(7)
                model = settled(make())
                case = f"{name}-{'dynamo' if dynamo else 'torchscript'}-{'kept' if kept else 'folded'}"
                state = {k: v.clone() for k, v in model.state_dict().items()}
                try:
                    export(model, batch(0)[0], os.path.join(folder, case + ".onnx"), kept, dynamo)
                except Exception as e:
                    print(case, "not exported:", str(e)[:200])
                    continue
                model.load_state_dict(state)
                model.eval()
                answer = model(batch(0)[0]).flatten().tolist()
                said[case] = {"answer": answer, "losses": losses(model)}
    with open(os.path.join(folder, "losses.json"), "w") as f:
        json.dump(said, f, indent=1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
