"""Writes quantize.json: QuantizeLinear and DequantizeLinear of narrow types, by block and in other precisions, by the
reference implementation of onnx 1.23. The form is that of quantized.json, narrow elements as the numbers they stand for.
"""
import json
import pathlib

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto as T, helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(11)
NAMES = {T.FLOAT: "float32", T.DOUBLE: "float64", T.FLOAT16: "float16", T.BFLOAT16: "bfloat16", T.INT8: "int8", T.UINT8: "uint8",
         T.INT16: "int16", T.UINT16: "uint16", T.INT32: "int32", T.INT4: "int4", T.UINT4: "uint4", T.INT2: "int2", T.UINT2: "uint2",
         T.FLOAT8E4M3FN: "float8e4m3fn", T.FLOAT8E4M3FNUZ: "float8e4m3fnuz", T.FLOAT8E5M2: "float8e5m2",
         T.FLOAT8E5M2FNUZ: "float8e5m2fnuz", T.FLOAT4E2M1: "float4e2m1", T.FLOAT6E2M3: "float6e2m3", T.FLOAT6E3M2: "float6e3m2",
         T.FLOAT8E8M0: "float8e8m0"}
cases = []


def number(v):
    """JSON has no NaN; whole numbers are shorter without a point."""
    if not np.isfinite(v):
        return "-nan" if np.isnan(v) and np.signbit(v) else str(v)
    return int(v) if v == int(v) and not (v == 0 and np.signbit(v)) else float(v)


def packed(a):
    kind = NAMES[helper.np_dtype_to_tensor_dtype(a.dtype)]
    return {"type": kind, "dims": list(a.shape), "data": [number(v) for v in a.ravel().astype(np.float64)]}


def case(op, inputs, version=25, **attrs):
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    node = helper.make_node(op, names, ["y"], **attrs)
    ins = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in zip(names, inputs) if n]
    graph = helper.make_graph([node], "g", ins, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    got = ReferenceEvaluator(model).run(None, {n: x for n, x in zip(names, inputs) if n})
    cases.append({"op": op, "domain": "", "opset": version, "attrs": attrs,
                  "inputs": [None if x is None else packed(x) for x in inputs], "outputs": [packed(got[0])]})


def typ(t):
    return helper.tensor_dtype_to_np_dtype(t)


INTS = [T.INT4, T.UINT4, T.INT2, T.UINT2, T.INT16, T.UINT16]
FLOATS = [T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ, T.FLOAT4E2M1]
FLOAT6 = [T.FLOAT6E2M3, T.FLOAT6E3M2]  # since version 28
x = np.float32(rng.normal(size=(3, 8)) * 5)
s0 = np.asarray(0.75, np.float32)
s1 = np.float32([0.5, 1.25, 3])
s2 = np.float32(rng.uniform(0.3, 3, (3, 3)))  # blocks of 3 along axis 1
for t in INTS:
    one = np.array(1)
    case("QuantizeLinear", [x, s0, one.astype(typ(t))])
    case("QuantizeLinear", [x, s1, np.array([0, 1, -1 if t in (T.INT4, T.INT2, T.INT16) else 2]).astype(typ(t))], axis=0)
    case("QuantizeLinear", [x, s2, None], axis=1, block_size=3, output_dtype=t)
    levels = np.clip(np.rint(x), 0, 1).astype(np.int32).astype(typ(t))
    case("DequantizeLinear", [levels, s0, one.astype(typ(t))])
    case("DequantizeLinear", [levels, s2, None], axis=-1, block_size=3)
for t in FLOATS + FLOAT6:
    version = 28 if t in FLOAT6 else 25
    wide = x * 100
    case("QuantizeLinear", [wide, s0, np.array(0).astype(typ(t))], version)
    if t in FLOATS[:4]:
        case("QuantizeLinear", [wide * 1000, s0, np.array(0).astype(typ(t))], version, saturate=0)
    case("QuantizeLinear", [x, s1, None], version, axis=0, output_dtype=t)
    case("QuantizeLinear", [x, s2, None], version, axis=1, block_size=3, output_dtype=t)
    case("DequantizeLinear", [x.astype(typ(t)), s1], version, axis=0)
for t in (T.FLOAT16, T.BFLOAT16):
    half = x.astype(typ(t))
    case("QuantizeLinear", [half, s0.astype(typ(t)), np.array(3, np.uint8)])
    case("QuantizeLinear", [x, s0, np.array(3, np.int8)], precision=t)
    case("DequantizeLinear", [np.arange(-100, 100, 7).astype(np.int8), s0.astype(typ(t)), np.array(3, np.int8)])
    case("DequantizeLinear", [np.arange(-100, 100, 7).astype(np.int8), s0], output_dtype=t)
case("QuantizeLinear", [np.arange(-60, 60, 5).astype(np.int32), np.asarray(2.5, np.float32), np.array(3, np.int8)])
e8m0 = np.float32([[0.5, 2], [1, 4]]).astype(ml_dtypes.float8_e8m0fnu)
case("DequantizeLinear", [x[:2].astype(typ(T.FLOAT4E2M1)), e8m0], axis=1, block_size=4, output_dtype=T.FLOAT)
path = pathlib.Path(__file__).with_name("quantize.json")
path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), path.stat().st_size)
