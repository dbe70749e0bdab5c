"""Writes small networks as ONNX Runtime 1.32 quantizes and optimizes them, and what it computes with them.

    python quantized.py     writes *.onnx and cases.json beside this script

static-*: quantize_static to QLinearConv and its kind, for uint8 and int8 activations, weights by channel; dynamic:
quantize_dynamic; optimized: the graph that ONNX Runtime runs at level EXTENDED. Needs torch 2.
"""
import json
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = pathlib.Path(__file__).parent
torch.manual_seed(3)


class Net(torch.nn.Module):
    """A residual block, a squeeze-and-excitation, a concatenation, GELU, and pools of both kinds."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide = torch.nn.Conv2d(8, 8, 1)
        self.gate = torch.nn.Conv2d(8, 8, 1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        y = torch.relu(self.wide(torch.nn.functional.leaky_relu(self.deep(x))) + x)
        z = y * torch.sigmoid(self.gate(torch.nn.functional.adaptive_avg_pool2d(y, 1)))
        z = torch.cat([torch.nn.functional.avg_pool2d(z, 2), torch.nn.functional.avg_pool2d(x, 2)], 1)
        z = torch.nn.functional.gelu(torch.flatten(torch.nn.functional.adaptive_avg_pool2d(z, 1), 1))
        return torch.softmax(self.head(z), 1)


class Batches(CalibrationDataReader):
    def __init__(self):
        self.seed = 0

    def get_next(self):
        self.seed += 1
        return {"x": picture(self.seed)} if self.seed < 9 else None


def picture(seed):
    return np.random.default_rng(seed).normal(size=(2, 3, 16, 16)).astype(np.float32)


def options(level, path=None):
    o = ort.SessionOptions()
    o.graph_optimization_level, o.log_severity_level = level, 4
    if path:
        o.optimized_model_filepath = str(path)
    return o


def main():
    scratch = pathlib.Path(tempfile.mkdtemp())
    plain, ready = scratch / "plain.onnx", scratch / "ready.onnx"
    torch.onnx.export(Net().eval(), (torch.zeros(2, 3, 16, 16),), plain, opset_version=17, dynamo=False, input_names=["x"],
                      output_names=["y"])
    quant_pre_process(plain, ready, skip_symbolic_shape=True)
    for name, kind in (("static-uint8", QuantType.QUInt8), ("static-int8", QuantType.QInt8)):
        quantize_static(ready, HERE / f"{name}.onnx", Batches(), quant_format=QuantFormat.QOperator, per_channel=True,
                        activation_type=kind, weight_type=QuantType.QInt8)
    quantize_dynamic(ready, HERE / "dynamic.onnx", weight_type=QuantType.QUInt8)
    extended = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(plain, options(extended, HERE / "optimized.onnx"))
    x = picture(99)
    cases = {"x": x.ravel().tolist(), "y": {}}
    for path in sorted(HERE.glob("*.onnx")):
        session = ort.InferenceSession(path, options(ort.GraphOptimizationLevel.ORT_DISABLE_ALL))
        cases["y"][path.stem] = session.run(None, {"x": x})[0].ravel().tolist()
        print(path.stem, sorted({f"{n.domain}.{n.op_type}" for n in onnx.load(path).graph.node}))
    (HERE / "cases.json").write_text(json.dumps(cases) + "\n")


main()
