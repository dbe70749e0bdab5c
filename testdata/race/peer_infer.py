#!/usr/bin/env python3
"""ONNX Runtime's or OpenVINO's inference: peer_infer.py MODEL.onnx --engine ort|openvino --batch N --threads N.

float32 (OpenVINO also bf16) on the CPU, all graph optimisations, for latency; the input [batch,...] is random and the model's first dimension
is fixed to the batch beforehand, which both engines make use of.
"""
import argparse
import os

import numpy as np

from measure import emit, windows


def random(shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def ort(path, batch, threads, precision):
    import onnxruntime
    if precision != 'float32':
        raise SystemExit(f'ONNX Runtime has no {precision} on the CPU')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name('N', batch)
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    given, = session.get_inputs()
    feed = {given.name: random([batch, *given.shape[1:]])}
    return onnxruntime.__version__, lambda: session.run(None, feed)


def openvino(path, batch, threads, precision):
    import openvino
    core = openvino.Core()
    model = core.read_model(path)
    shape = [batch] + [d.get_length() for d in list(model.inputs[0].partial_shape)[1:]]
    model.reshape(shape)
    compiled = core.compile_model(model, 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': '1', 'INFERENCE_NUM_THREADS': str(threads), 'INFERENCE_PRECISION_HINT': {'float32': 'f32'}.get(precision, precision)})
    request, x = compiled.create_infer_request(), random(shape)
    return openvino.__version__.split('-')[0], lambda: request.infer([x], share_inputs=True, share_outputs=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model')
    p.add_argument('--engine', choices=['ort', 'openvino'], default='ort')
    p.add_argument('--batch', type=int, default=1)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--precision', choices=['float32', 'bf16'], default='float32')
    p.add_argument('--windows', type=int, default=3)
    p.add_argument('--seconds', type=float, default=1)
    args = p.parse_args()
    version, call = {'ort': ort, 'openvino': openvino}[args.engine](args.model, args.batch, args.threads, args.precision)
    times = windows(call, args.seconds, args.windows)
    emit(times, 'infer', args.batch, case=os.path.basename(args.model).removesuffix('.onnx'), threads=args.threads,
         engine=args.engine, version=version)


main()
