"""Writes small networks with QuantizeLinear and DequantizeLinear, as ONNX Runtime's quantizer makes them, and what it computes.

    python qdq.py     writes qdq-*.onnx, linear-*.onnx and qdq.json beside this script

qdq-*: quantize_static to QDQ, for uint8 and int8 activations, weights by channel; linear-*: the same to QLinearConv and its
kind with weights of uint8, whose zero points are not 0. The answers are those of ONNX Runtime with and without its optimizer.
Needs torch 2 and onnxruntime 1.32.
"""
import json
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = pathlib.Path(__file__).parent
torch.manual_seed(5)


class Net(torch.nn.Module):
    """A stem of stride 2, an inverted residual, groups, a pool, a concatenation, HardSwish, LeakyReLU and two layers."""

    def __init__(self):
        super().__init__()
        conv = torch.nn.Conv2d
        self.stem, self.grow, self.deep = conv(3, 12, 3, stride=2, padding=1), conv(12, 72, 1), conv(72, 72, 3, padding=1, groups=72)
        self.shrink, self.apart = conv(72, 12, 1), conv(24, 32, 3, stride=2, padding=1, groups=4)
        self.wide = conv(32, 70, 5, padding=2)
        self.hidden, self.head = torch.nn.Linear(70, 40), torch.nn.Linear(40, 6)

    def forward(self, x):
        f = torch.nn.functional
        x = f.relu6(self.stem(x))
        y = self.shrink(f.relu6(self.deep(f.relu6(self.grow(x))))) + x
        z = torch.cat([f.max_pool2d(y, 3, stride=1, padding=1), f.leaky_relu(y)], 1)
        z = f.hardswish(self.apart(z))
        z = f.relu(self.wide(f.avg_pool2d(z, 2)))
        z = torch.flatten(f.adaptive_avg_pool2d(z, 1), 1)
        return self.head(f.relu(self.hidden(z)))


class Batches(CalibrationDataReader):
    def __init__(self):
        self.seed = 0

    def get_next(self):
        self.seed += 1
        return {"x": picture(self.seed)} if self.seed < 9 else None


def picture(seed):
    return np.random.default_rng(seed).normal(size=(2, 3, 19, 21)).astype(np.float32)


def run(path, level, x):
    options = ort.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    return ort.InferenceSession(path, options).run(None, {"x": x})[0]


def main():
    scratch = pathlib.Path(tempfile.mkdtemp())
    plain, ready = scratch / "plain.onnx", scratch / "ready.onnx"
    torch.onnx.export(Net().eval(), (torch.zeros(2, 3, 19, 21),), plain, opset_version=17, dynamo=False, input_names=["x"],
                      output_names=["y"])
    quant_pre_process(plain, ready, skip_symbolic_shape=True)
    u8, s8, level = QuantType.QUInt8, QuantType.QInt8, ort.GraphOptimizationLevel
    for name, kind, weights, form, channel in (("qdq-uint8", u8, s8, QuantFormat.QDQ, True), ("qdq-int8", s8, s8, QuantFormat.QDQ, True),
                                               ("qdq-uint8-weights", u8, u8, QuantFormat.QDQ, False),
                                               ("linear-uint8-weights", u8, u8, QuantFormat.QOperator, False)):
        extra = {"ActivationSymmetric": True} if name == "qdq-int8" else {}
        quantize_static(ready, HERE / f"{name}.onnx", Batches(), quant_format=form, per_channel=channel, activation_type=kind,
                        weight_type=weights, extra_options=extra)
    x = picture(99)
    cases = {"x": x.ravel().tolist(), "plain": {}, "optimized": {}}
    for path in sorted([*HERE.glob("qdq-*.onnx"), *HERE.glob("linear-*.onnx")]):
        cases["plain"][path.stem] = run(path, level.ORT_DISABLE_ALL, x).ravel().tolist()
        cases["optimized"][path.stem] = run(path, level.ORT_ENABLE_ALL, x).ravel().tolist()
        print(path.stem, path.stat().st_size, sorted({f"{n.domain}.{n.op_type}" for n in onnx.load(path).graph.node}))
    (HERE / "qdq.json").write_text(json.dumps(cases) + "\n")


main()
