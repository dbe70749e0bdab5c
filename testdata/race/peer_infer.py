#!/usr/bin/env python3
"""Peers' inference: peer_infer.py MODEL.onnx --engine ort|openvino --batch N --threads N, or --engine torch --case NAME.

float32 (OpenVINO and PyTorch also bf16) on the CPU, all graph optimisations, for latency; the input [batch,...] is random and the model's first dimension
is fixed to the batch beforehand, which both engines make use of.
"""
import argparse
import os

import numpy as np

from measure import emit, windows


def random(shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def ort(args):
    import onnxruntime
    if args.precision != 'float32':
        raise SystemExit(f'ONNX Runtime has no {args.precision} on the CPU')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name('N', args.batch)
    session = onnxruntime.InferenceSession(args.model, options, providers=['CPUExecutionProvider'])
    given, = session.get_inputs()
    feed = {given.name: random([args.batch, *given.shape[1:]])}
    return onnxruntime.__version__, lambda: session.run(None, feed)


def openvino(args):
    import openvino
    core = openvino.Core()
    model = core.read_model(args.model)
    shape = [args.batch] + [d.get_length() for d in list(model.inputs[0].partial_shape)[1:]]
    model.reshape(shape)
    compiled = core.compile_model(model, 'CPU', {
        'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': '1', 'INFERENCE_NUM_THREADS': str(args.threads),
        'INFERENCE_PRECISION_HINT': {'float32': 'f32'}.get(args.precision, args.precision)})
    request, x = compiled.create_infer_request(), random(shape)
    return openvino.__version__.split('-')[0], lambda: request.infer([x], share_inputs=True, share_outputs=True)


def torch(args):
    import torch
    from families import FAMILIES, case as family
    from networks import CASES
    torch.set_num_threads(args.threads)
    case = CASES.get(args.case) or family(args.case)
    model = case.make().eval().to(memory_format=torch.channels_last)
    x = torch.randn(args.batch, *case.shape).to(memory_format=torch.channels_last)
    if args.variant == 'bfloat16':
        model, x = model.bfloat16(), x.bfloat16()

    @torch.inference_mode()
    def call():
        with torch.autocast('cpu', torch.bfloat16, enabled=args.precision == 'bf16' and args.variant != 'bfloat16'):
            return model(x)

    return torch.__version__, call


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model')
    p.add_argument('--engine', choices=['ort', 'openvino', 'torch'], default='ort')
    p.add_argument('--case', help="the network's name, which torch builds it by")
    p.add_argument('--variant', default='', help='of torch in bf16: autocast or bfloat16')
    p.add_argument('--batch', type=int, default=1)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--precision', choices=['float32', 'bf16'], default='float32')
    p.add_argument('--windows', type=int, default=3)
    p.add_argument('--seconds', type=float, default=1)
    args = p.parse_args()
    version, call = {'ort': ort, 'openvino': openvino, 'torch': torch}[args.engine](args)
    times = windows(call, args.seconds, args.windows)
    emit(times, 'infer', args.batch, case=os.path.basename(args.model).removesuffix('.onnx'), threads=args.threads,
         engine=args.engine, variant=args.variant, version=version)


main()
