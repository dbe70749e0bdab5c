"""Convolutions of README's table, one thread, GFLOP/s: this package's bf16, int8 and float32, PyTorch's and OpenVINO's bf16.

    go test -c -o /tmp/kernels.test ./internal/kernels
    python internal/kernels/testdata/peers_bf16.py /tmp/kernels.test [ROUNDS]

Rounds are interleaved, and each engine's best run counts, for the machine may have other work. PyTorch's time is that of a
channels_last Conv2d with bias, OpenVINO's that of the node of Convolution + bias + ReLU alone, from its counters.
"""
import os
import re
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import openvino as ov
import torch
from openvino import opset13 as op

SHAPES = [(64, 64, 56, 3), (128, 128, 28, 3), (256, 256, 14, 3), (512, 512, 7, 3), (64, 64, 128, 3), (256, 64, 56, 1),
          (64, 256, 56, 1), (512, 2048, 7, 1)]
SECONDS = 0.5


def best(flops, run):
    rate, end = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        rate = max(rate, flops / run() / 1e9)
    return rate


def pytorch(c, o, size, k, n):
    conv = torch.nn.Conv2d(c, o, k, padding=k // 2).to(torch.bfloat16).to(memory_format=torch.channels_last).eval()
    x = torch.randn(n, c, size, size).to(torch.bfloat16).to(memory_format=torch.channels_last)

    def run():
        start = time.perf_counter()
        conv(x)
        return time.perf_counter() - start

    run()
    return run


def openvino(c, o, size, k, n):
    x = op.parameter([n, c, size, size], np.float32)
    w, b = np.random.randn(o, c, k, k).astype(np.float32), np.random.randn(1, o, 1, 1).astype(np.float32)
    y = op.relu(op.add(op.convolution(x, op.constant(w), [1, 1], [k // 2] * 2, [k // 2] * 2, [1, 1]), op.constant(b)))
    config = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
    request = ov.Core().compile_model(ov.Model([y], [x]), "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(np.random.randn(n, c, size, size).astype(np.float32)))

    def run():
        request.infer()
        times = [p.real_time.total_seconds() for p in request.profiling_info if p.node_type == "Convolution"]
        return max(sum(times), 1e-9)

    return run


def ours(binary, name):
    args = [binary, "-test.run", "^$", "-test.bench", f"^BenchmarkConvBF16$/^{name}$", "-test.benchtime", "60x"]
    text = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    lines = re.findall(r"/(bf16|int8|float32)\S*\s+\d+\s+([\d.]+) best\S+\s+([\d.]+) median", text)
    return {kind: (float(a), float(b)) for kind, a, b in lines}


def main():
    torch.set_num_threads(1)
    binary, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 4
    print(f"torch {torch.__version__}, openvino {ov.__version__}")
    for c, o, size, k in SHAPES:
        for n in (1, 16):
            flops, rates, peers = 2 * n * o * size * size * c * k * k, {}, {"torch": 0, "openvino": 0}
            with torch.no_grad():
                runs = {"torch": pytorch(c, o, size, k, n), "openvino": openvino(c, o, size, k, n)}
                for _ in range(rounds):
                    for kind, v in ours(binary, f"{c}to{o}_{size}_k{k}_b{n}").items():
                        rates[kind] = tuple(map(max, rates.get(kind, (0, 0)), v))
                    for name, run in runs.items():
                        peers[name] = max(peers[name], best(flops, run))
            own = ", ".join(f"{kind} {a:.0f} (median {b:.0f})" for kind, (a, b) in sorted(rates.items()))
            print(f"{k}x{k} {c}->{o} @{size} b{n}: {own}, " + ", ".join(f"{n} {v:.0f}" for n, v in peers.items()),
                  f"load {os.getloadavg()[0]:.0f}", flush=True)


main()
