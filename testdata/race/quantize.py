#!/usr/bin/env python3
"""A file in int8 as ONNX Runtime's quantizer makes it: quantize.py MODEL.onnx OUT.onnx

QDQ, uint8 activations, int8 weights by channel, scales from eight random images: enough to race it, not to be right.
"""
import os
import sys
import tempfile

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Images(CalibrationDataReader):
    def __init__(self, model):
        given = model.graph.input[0]
        shape = [d.dim_value or 1 for d in given.type.tensor_type.shape.dim]
        draw = np.random.default_rng(0).standard_normal
        self.left = iter([{given.name: draw(shape, dtype=np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.left, None)


def main():
    path, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        ready = os.path.join(folder, 'ready.onnx')
        quant_pre_process(path, ready, skip_symbolic_shape=True)
        quantize_static(ready, out, Images(onnx.load(ready)), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


main()
