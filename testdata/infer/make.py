"""Exports networks from PyTorch and writes beside each what ONNX's own shape inference says of its values.

    python make.py FOLDER

FOLDER holds networks.py, PyTorch's ResNet and UNet of the reference networks. Weights are left out of the files: they
are external data in a file that is not there, since inference must not need them.
"""
import json
import os
import sys

import onnx
import torch
from torch import nn

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import networks

here = os.path.dirname(os.path.abspath(__file__))


class Views(nn.Module):
    """Shapes computed from the batch: Shape, Gather, Unsqueeze, Concat, Reshape, Slice, Expand, Mul."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 16 * 16, 12)

    def forward(self, x):
        x = self.conv(x)
        n, c, h, w = x.size()
        shuffled = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)  # as ShuffleNet does
        merged = shuffled.reshape(x.size(0) * 1, c, h * w)[:, :, :]
        y = self.fc(merged.view(x.size(0), -1))
        return y.view(y.size(0), 3, -1).permute(0, 2, 1).reshape(-1, 3)


def save(name, module, channels, dynamic):
    path = os.path.join(here, name + ".onnx")
    axes = {"dynamic_axes": {"input": {0: "N"}, "output": {0: "N" if name != "views" else "M"}}} if dynamic else {}
    torch.onnx.export(module.eval(), torch.randn(2, channels, 32, 32), path, input_names=["input"], output_names=["output"],
                      dynamo=False, opset_version=17, **axes)
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {}
    for v in list(inferred.value_info) + list(inferred.output):
        t = v.type.tensor_type
        if t.HasField("shape"):
            shapes[v.name] = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in t.shape.dim]
    with open(path + ".json", "w") as f:
        json.dump(shapes, f, indent=0, sort_keys=True)
    for t in model.graph.initializer:
        if len(t.raw_data) > 256:
            size = len(t.raw_data)
            t.ClearField("raw_data")
            t.data_location = onnx.TensorProto.EXTERNAL
            for key, value in ("location", "absent.bin"), ("offset", "0"), ("length", str(size)):
                e = t.external_data.add()
                e.key, e.value = key, value
    del model.graph.value_info[:]
    with open(path, "wb") as f:
        f.write(model.SerializeToString(deterministic=True))


torch.manual_seed(1)
for dynamic in False, True:
    suffix = "-dynamic" if dynamic else ""
    resnet, unet = networks.ResNet(), networks.UNet(base=4)
    save("resnet" + suffix, resnet, next(resnet.parameters()).shape[1], dynamic)
    save("unet" + suffix, unet, next(unet.parameters()).shape[1], dynamic)
save("views", Views(), 3, True)
