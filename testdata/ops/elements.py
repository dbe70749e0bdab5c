"""Writes elements.json: the numbers of the narrow element types, and what floats become in them, by ml_dtypes and onnx.

For each type: "values", the float32 bits of every code, and "casts", triples of float32 bits and the codes that they are
cast to with saturate=1 and with saturate=0. The floats are every number of the type, the middle between neighbors, the
floats next to that, and the special ones. Needs onnx 1.23 and ml_dtypes 0.6.
"""
import json
import pathlib

import ml_dtypes
import numpy as np
import onnx.numpy_helper

TYPES = {
    "float8e4m3fn": ml_dtypes.float8_e4m3fn, "float8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8e5m2": ml_dtypes.float8_e5m2, "float8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float4e2m1": ml_dtypes.float4_e2m1fn, "float6e2m3": ml_dtypes.float6_e2m3fn,
    "float6e3m2": ml_dtypes.float6_e3m2fn, "float8e8m0": ml_dtypes.float8_e8m0fnu,
}
BITS = {"float4e2m1": 4, "float6e2m3": 6, "float6e3m2": 6}


def bits(x):
    return [int(b) for b in np.asarray(x, np.float32).view(np.uint32)]


def probes(values):
    v = np.unique(np.abs(values[np.isfinite(values)]))
    v = np.append(v, [v[-1] + (v[-1] - v[-2]), v[-1] * 4]).astype(np.float32)
    mid = ((v[1:].astype(np.float64) + v[:-1]) / 2).astype(np.float32)
    x = np.concatenate([v, mid, np.nextafter(mid, np.float32(0)), np.nextafter(mid, np.float32(np.inf)),
                        np.float32([1e-45, 1e-30, 3e38, np.inf, np.nan])])
    return np.concatenate([x, -x])


def main():
    out = {}
    for name, dtype in TYPES.items():
        codes = np.arange(1 << BITS.get(name, 8), dtype=np.uint8)
        values = codes.view(dtype).astype(np.float32)
        case = {"values": bits(values)}
        if name != "float8e8m0":
            x = probes(values)
            wrapped = x.astype(dtype)
            sat = onnx.numpy_helper.saturate_cast(x, dtype) if name.startswith("float8") else wrapped
            case["casts"] = list(zip(bits(x), sat.view(np.uint8).tolist(), wrapped.view(np.uint8).tolist()))
        out[name] = case
    path = pathlib.Path(__file__).with_name("elements.json")
    path.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in out.items()) + "\n}\n")


main()
