"""Writes quantized.json: results of quantized and fused operators by ONNX Runtime 1.32 on x86-64, without its optimizer.

A case has the operator, its domain and opset, attributes, and inputs and outputs with type, dims and data (null: an input
is omitted). Levels must agree to the integer, floats within 1e-5.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

rng = np.random.default_rng(7)
MS = "com.microsoft"
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8,
         "int32": TensorProto.INT32, "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "float16": TensorProto.FLOAT16,
         "uint16": TensorProto.UINT16, "int16": TensorProto.INT16}
cases = []


def number(v):
    """JSON has no NaN; whole numbers are shorter without a point."""
    if not np.isfinite(v):
        return "-nan" if np.isnan(v) and np.signbit(v) else str(v)
    return int(v) if v == int(v) and not (v == 0 and np.signbit(v)) else float(v)


def packed(a):
    a = np.asarray(a)
    return {"type": str(a.dtype), "dims": list(a.shape), "data": [number(v) for v in a.ravel().astype(np.float64)]}


def case(op, inputs, out="uint8", domain=MS, version=1, **attrs):
    out = [out] if isinstance(out, str) else out
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op, names, [f"y{i}" for i in range(len(out))], domain=domain, **attrs)
    ins = [helper.make_tensor_value_info(n, TYPES[str(x.dtype)], x.shape) for n, x in zip(names, inputs) if n]
    outs = [helper.make_tensor_value_info(n, TYPES[t], None) for n, t in zip(node.output, out)]
    opsets = [helper.make_opsetid("", version if domain == "" else 17)] + ([helper.make_opsetid(MS, 1)] if domain else [])
    model = helper.make_model(helper.make_graph([node], "g", ins, outs), opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = session.run(None, {n: x for n, x in zip(names, inputs) if n})
    cases.append({"op": op, "domain": domain, "opset": version, "attrs": attrs,
                  "inputs": [None if x is None else packed(x) for x in inputs], "outputs": [packed(y) for y in got]})


def q(shape, dtype=np.uint8):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape, dtype=dtype)


def f(*values):
    return np.asarray(values[0] if len(values) == 1 else values, np.float32)


def z(value, dtype=np.uint8):
    return np.asarray(value, dtype)


def matmuls():
    u, i = np.uint8, np.int8
    case("MatMulInteger", [q((3, 5)), q((5, 4)), z(7), z(130)], "int32", "", 10)
    case("MatMulInteger", [q((2, 3, 5)), q((2, 5, 4), i), z(7), q((2, 1, 4), i)], "int32", "", 10)
    case("MatMulInteger", [q((3, 5), i), q((5, 4), i)], "int32", "", 10)
    for dtype, zp in ((u, 128), (i, -3)):
        case("QLinearMatMul", [q((2, 6, 33), dtype), f(0.013), z(zp, dtype), q((33, 7), i), f(0.02), z(0, i), f(0.07), z(zp, dtype)],
             str(np.dtype(dtype)), "", 10)
        case("QLinearMatMul", [q((6, 33), dtype), f(0.013), z(zp, dtype), q((33, 3), i), f(0.02, 0.01, 0.005), z([0, 0, 0], i), f(0.07),
             z(zp, dtype)], str(np.dtype(dtype)), "", 10)
    for out, y in (("uint8", [f(0.9), z(128)]), ("float32", [])):
        c = rng.integers(-3000, 3000, (1, 4), dtype=np.int32)
        case("QGemm", [q((5, 9)), f(0.02), z(120), q((4, 9), i), f(0.1), z(0, i), c, *y], out, transB=1)
        case("QGemm", [q((9, 5)), f(0.02), z(120), q((9, 4), i), f(0.1, 0.2, 0.03, 0.04), z([1, 2, 3, 4], i), None, *y], out, transA=1, alpha=0.5)
    b = np.float32(rng.normal(size=4))
    case("MatMulIntegerToFloat", [q((2, 3, 9)), q((9, 4), i), f(0.02), f(0.1), z(120), z(2, i), b], "float32")
    case("MatMulIntegerToFloat", [q((3, 9)), q((9, 4)), f(0.02), f(0.1, 0.2, 0.3, 0.4), z(120), z([1, 2, 3, 4])], "float32")
    a = np.float32(rng.normal(size=(3, 9)) * 3)
    case("DynamicQuantizeMatMul", [a, q((9, 4), i), f(0.1), z(2, i), b], "float32")
    case("DynamicQuantizeMatMul", [a, q((9, 4)), f(0.1, 0.2, 0.3, 0.4), z([1, 2, 3, 4])], "float32")


def convs():
    u, i = np.uint8, np.int8
    case("ConvInteger", [q((1, 2, 5, 5)), q((3, 2, 3, 3)), z(7), z(130)], "int32", "", 10)
    case("ConvInteger", [q((1, 4, 6, 5)), q((4, 2, 3, 2)), z(7)], "int32", "", 10, group=2, strides=[2, 1], dilations=[1, 2])
    for dtype, zp in ((u, 110), (i, 5)):
        out = str(np.dtype(dtype))
        bias = rng.integers(-4000, 4000, (4,), dtype=np.int32)
        case("QLinearConv", [q((2, 3, 6, 7), dtype), f(0.03), z(zp, dtype), q((4, 3, 3, 3), i), f(0.01, 0.02, 0.003, 0.04), z([0, 0, 0, 0], i),
             f(0.08), z(zp, dtype), bias], out, "", 10, pads=[1, 1, 1, 1], strides=[2, 1])
        case("QLinearConv", [q((1, 4, 6, 6), dtype), f(0.03), z(zp, dtype), q((4, 1, 3, 3), i), f(0.01), z(0, i), f(0.05), z(zp, dtype)],
             out, "", 10, group=4, auto_pad="SAME_UPPER")
        case("QLinearConv", [q((1, 5, 6, 3), dtype), f(0.03), z(zp, dtype), q((4, 3, 2, 3), i), f(0.01, 0.02, 0.003, 0.04), z([0, 0, 0, 0], i),
             f(0.08), z(zp, dtype), bias], out, channels_last=1, pads=[0, 1, 1, 1])


def elementwise():
    for dtype in (np.uint8, np.int8):
        out, lo = str(np.dtype(dtype)), np.iinfo(dtype).min
        a, b = q((4, 5, 16), dtype), q((4, 5, 16), dtype)
        for op in ("QLinearAdd", "QLinearMul"):
            for s in ((0.5, 0.25, 1.0), (0.031, 0.0172, 0.0401), (0.0078431, 0.02, 0.0117)):
                zp = [z(rng.integers(lo, lo + 256), dtype) for _ in range(3)]
                case(op, [a, f(s[0]), zp[0], b, f(s[1]), zp[1], f(s[2]), zp[2]], out)
            case(op, [a, f(0.03), z(lo + 128, dtype), q((5, 1), dtype), f(0.02), z(lo + 100, dtype), f(0.05), z(lo + 90, dtype)], out)
        full = np.arange(lo, lo + 256).astype(dtype)
        for s, zp, t, yz in ((0.05, lo + 128, 1 / 256, lo), (0.02, lo + 10, 0.004, lo + 3), (0.3, lo + 200, 1 / 255, lo)):
            case("QLinearSigmoid", [full, f(s), z(zp, dtype), f(t), z(yz, dtype)], out)
        for s, zp, t, yz, alpha in ((0.05, lo + 128, 0.04, lo + 120, 0.01), (0.5, lo + 10, 0.25, lo + 3, 0.1)):
            case("QLinearLeakyRelu", [full, f(s), z(zp, dtype), f(t), z(yz, dtype)], out, alpha=alpha)
        for shape, axis, opset, s in (((3, 10), -1, 13, 0.1), ((2, 3, 7), 1, 12, 0.02), ((2, 5, 3), 1, 13, 0.3), ((1, 40), 1, 13, 0.01)):
            case("QLinearSoftmax", [q(shape, dtype), f(s), z(lo + 5, dtype), f(1 / 300), z(lo, dtype)], out, axis=axis, opset=opset)
        parts = [f(0.05), z(lo + 128, dtype)]
        for k, s in ((2, 0.05), (3, 0.02), (1, 0.3)):
            parts += [q((2, k, 3), dtype), f(s), z(lo + 128 - (k - 2) * 9, dtype)]
        case("QLinearConcat", parts, out, axis=1)
        case("QLinearWhere", [np.array([[True], [False]]), q((2, 7), dtype), f(0.05), z(lo + 128, dtype), q((7,), dtype), f(0.02), z(lo + 9, dtype),
             f(0.04), z(lo + 100, dtype)], out)


def ties():
    """Sums on which roundings decide: pairs of levels for which float32 without fused operations gives another level."""
    grid = np.arange(256, dtype=np.uint8)
    a, b = np.repeat(grid, 256), np.tile(grid, 256)
    for sa, za, sb, zb, sc, zc in ((0.030751, 130, 0.039443277, 139, 0.027478332, 0), (0.048434366, 129, 0.027478332, 0, 0.034847975, 0)):
        ra, rb = f(sa) / f(sc), f(sb) / f(sc)
        plain = (f(zc) - (ra * f(za) + rb * f(zb))) + a.astype(np.float32) * ra + b.astype(np.float32) * rb
        args = [a, f(sa), z(za), b, f(sb), z(zb), f(sc), z(zc)]
        case("QLinearAdd", args)
        got = np.array(cases.pop()["outputs"][0]["data"])
        tie = np.flatnonzero(np.clip(np.rint(plain), 0, 255) != got)[0]
        for n, m in ((1, 1), (1, 3), (3, 1), (3, 3)):
            args[0], args[3] = np.repeat(a[tie], n), np.repeat(b[tie], m)
            case("QLinearAdd", args)


def pools():
    for dtype in (np.uint8, np.int8):
        out, lo = str(np.dtype(dtype)), np.iinfo(dtype).min
        scales = [f(0.04), z(lo + 100, dtype), f(0.03), z(lo + 97, dtype)]
        case("QLinearAveragePool", [q((2, 3, 7, 6), dtype), *scales], out, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
        case("QLinearAveragePool", [q((1, 3, 7, 7), dtype), *scales], out, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
        case("QLinearAveragePool", [q((2, 7, 6, 3), dtype), *scales], out, kernel_shape=[3, 2], strides=[2, 2], channels_last=1)
        case("QLinearGlobalAveragePool", [q((2, 5, 4, 6), dtype), *scales], out)
        case("QLinearGlobalAveragePool", [q((2, 4, 6, 5), dtype), *scales], out, channels_last=1)
        case("NhwcMaxPool", [q((1, 6, 7, 3), dtype)], out, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])


def fused():
    r = lambda *s: np.float32(rng.normal(size=s))
    x, w, b = r(1, 3, 6, 5), r(4, 3, 3, 3), r(4)
    for name, params in (("Relu", None), ("LeakyRelu", [0.2]), ("Tanh", None), ("Sigmoid", None), ("Clip", [-0.5, 1.5]), ("HardSigmoid", [0.3, 0.4])):
        extra = {"activation_params": params} if params else {}
        case("FusedConv", [x, w, b], "float32", activation=name, pads=[1, 1, 1, 1], **extra)
    case("FusedConv", [x, w, b, r(1, 4, 6, 5)], "float32", activation="Relu", pads=[1, 1, 1, 1])
    case("FusedGemm", [r(3, 5), r(4, 5), r(4)], "float32", transB=1, activation="LeakyRelu", activation_alpha=0.3, alpha=0.5)
    case("FusedGemm", [r(3, 5), r(5, 4)], "float32", activation="Elu", activation_alpha=0.7)
    case("FusedMatMul", [r(2, 5, 3), r(2, 4, 5)], "float32", transA=1, transB=1, alpha=0.25)
    case("FusedMatMul", [r(5, 2, 3), r(2, 3, 4)], "float32", transBatchA=1)
    case("FusedMatMul", [r(3, 2, 5), r(4, 2, 5)], "float32", transBatchA=1, transBatchB=1, transB=1)
    case("Gelu", [r(3, 7)], "float32")
    case("BiasGelu", [r(3, 7), r(7)], "float32")
    case("FastGelu", [r(3, 7), r(7)], "float32")
    case("FastGelu", [r(3, 7)], "float32")
    case("QuickGelu", [r(3, 7)], "float32")
    case("QuickGelu", [r(3, 7)], "float32", alpha=1.1)
    case("SkipLayerNormalization", [r(2, 3, 8), r(2, 3, 8), r(8), r(8), r(8)], "float32", epsilon=1e-5)
    case("SkipLayerNormalization", [r(2, 3, 8), r(3, 8), r(8)], "float32", epsilon=1e-3)
    case("SkipSimplifiedLayerNormalization", [r(2, 3, 8), r(2, 3, 8), r(8), r(8)], "float32", epsilon=1e-5)
    m = r(2, 3, 3)
    case("Inverse", [m + 4 * np.eye(3, dtype=np.float32)], "float32")
    case("CDist", [r(4, 3), r(5, 3)], "float32")
    case("CDist", [r(4, 3), r(5, 3)], "float32", metric="euclidean")


def linear():
    x = np.float32(rng.normal(size=(2, 3, 8)) * 40)
    case("QuantizeLinear", [x, f(0.5), z(3)], "uint8")
    case("QuantizeLinear", [x, f(0.5, 0.25, 0.3), z([3, 4, 5], np.int8)], "int8", axis=1)
    case("DequantizeLinear", [q((2, 3, 8), np.uint16), f(0.5), z(3, np.uint16)], "float32")
    case("DequantizeLinear", [q((2, 3, 8)), f(0.5, 0.25, 0.3), z([3, 4, 5])], "float32", axis=1)
    case("DynamicQuantizeLinear", [x], ["uint8", "float32", "uint8"], "", 11)


for group in (matmuls, convs, elementwise, pools, fused, linear, ties):
    group()
path = pathlib.Path(__file__).with_name("quantized.json")
path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), path.stat().st_size)
