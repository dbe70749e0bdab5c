#!/usr/bin/env python3
"""ONNX Runtime's start: peer_start.py MODEL.onnx --starts N --threads N.

The time from the file to the first answer at batch 1, as `cnnkit bench start` measures it: opening a session and one run,
without the import of the package and without making the input. N sessions follow each other.
"""
import argparse
import os
import time

import numpy as np
import onnxruntime

from measure import emit


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model')
    p.add_argument('--starts', type=int, default=1)
    p.add_argument('--threads', type=int, default=1)
    args = p.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    times = []
    for _ in range(args.starts):
        start = time.perf_counter()
        session = onnxruntime.InferenceSession(args.model, options, providers=['CPUExecutionProvider'])
        opened = time.perf_counter() - start
        given, = session.get_inputs()
        shape = [d if isinstance(d, int) else 1 for d in given.shape]
        feed = {given.name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
        start = time.perf_counter()
        session.run(None, feed)
        times.append(opened + time.perf_counter() - start)
        del session
    emit(times, 'start', 1, case=os.path.basename(args.model).removesuffix('.onnx'), threads=args.threads, engine='ort',
         version=onnxruntime.__version__)


main()
