#!/usr/bin/env python3
"""The onnx package's full check and ONNX Runtime on model files: check_models.py FILE..."""
import sys

import numpy as np
import onnx
import onnxruntime as ort

for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    s = ort.InferenceSession(path, providers=['CPUExecutionProvider'])
    i = s.get_inputs()[0]
    y = s.run(None, {i.name: np.zeros([2] + list(i.shape[1:]), np.float32)})[0]
    assert np.isfinite(y).all() and y.shape[0] == 2
    print(path.rsplit('/', 1)[-1], 'ok')
