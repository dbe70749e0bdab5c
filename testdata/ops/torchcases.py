"""Records what PyTorch gives for ONNX operators, in float64; nn.py and vision.py use it.

Each case: the ONNX operator with its attributes, inputs, PyTorch's outputs, the gradient dy of the first output and
PyTorch's gradients of the inputs (null where there is none).
"""
import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
cases = []


def tensor(t):
    t = t.detach()
    kind = "int64" if t.dtype == torch.int64 else "float64"
    data = [int(v) if kind == "int64" else float("%.9g" % v) for v in t.reshape(-1).tolist()]
    return {"type": kind, "dims": list(t.shape), "data": data}


def rounded(*shape):
    """Numbers that float32 and their printed form hold exactly."""
    return (torch.randn(shape) * 256).round() / 256


def case(op, f, inputs, grad=(), opset=21, **attrs):
    """Runs f on inputs; those numbered in grad are differentiated."""
    inputs = [x.clone().requires_grad_() if i in grad else x for i, x in enumerate(inputs)]
    out = f(*inputs)
    outs = out if isinstance(out, tuple) else (out,)
    dy = rounded(*outs[0].shape)
    if grad:
        outs[0].backward(dy)
    cases.append({
        "op": op, "opset": opset, "attrs": attrs, "inputs": [None if x is None else tensor(x) for x in inputs],
        "outputs": [tensor(o) for o in outs], "dy": tensor(dy),
        "grads": [tensor(x.grad) if i in grad else None for i, x in enumerate(inputs)],
    })


def write(script):
    """Writes the cases beside a script, under its name."""
    path = pathlib.Path(script).with_suffix(".json")
    path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
    print(len(cases), "cases,", path.stat().st_size, "bytes")
