"""Runs onnx.checker over the given files and prints what Python reads from them: python check_models.py FILE..."""
import sys

import onnx
from onnx import numpy_helper

for path in sys.argv[1:]:
    if path.endswith(".pb"):
        t = onnx.TensorProto()
        with open(path, "rb") as f:
            t.ParseFromString(f.read())
        onnx.checker.check_tensor(t)
        print(path, numpy_helper.to_array(t).shape)
    else:
        onnx.checker.check_model(path, full_check=True)
        m = onnx.load(path)
        for t in m.graph.initializer:
            numpy_helper.to_array(t)
        print(path, len(m.graph.node))
