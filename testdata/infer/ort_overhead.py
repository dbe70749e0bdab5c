"""Times a model in raw ONNX Runtime and through cnnkit's runtime in turns, and prints how the two compare.

    python ort_overhead.py PROGRAM MODEL BATCH THREADS [ROUNDS]

PROGRAM is the built ort_overhead beside this file. A round times each side for about 40 ms, in an order that changes
from round to round, so that whatever else the machine does meets them alike; the ratio is the median over the rounds.
Raw ONNX Runtime is timed twice: Run with arrays in and out, as cnnkit's Run; and with inputs and outputs bound once
(IOBinding), which makes no output and is the least that a call can be.
"""
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

program, model, batch, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 60

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
rng = np.random.default_rng(1)
feed = {}
for i in session.get_inputs():
    shape = [d if isinstance(d, int) else batch for d in i.shape]
    feed[i.name] = rng.standard_normal(shape).astype(np.float32)
bound = session.io_binding()
for name, x in feed.items():
    bound.bind_cpu_input(name, x)
for o, y in zip(session.get_outputs(), session.run(None, feed)):
    bound.bind_ortvalue_output(o.name, onnxruntime.OrtValue.ortvalue_from_numpy(y))


def timed(call):
    def f(calls):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        return (time.perf_counter_ns() - start) / calls
    return f


process = subprocess.Popen([program, model, str(batch), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def through(calls):
    print(calls, file=process.stdin, flush=True)
    return float(process.stdout.readline())


sides = {"run": timed(lambda: session.run(None, feed)), "bound": timed(lambda: session.run_with_iobinding(bound)), "cnnkit": through}
for f in sides.values():
    f(5)
calls = max(1, int(0.04e9 / min(sides["run"](5) for _ in range(5))))
times = {name: [] for name in sides}
for r in range(rounds):
    order = list(sides)
    for name in order[r % 3:] + order[:r % 3]:
        times[name].append(sides[name](calls))
process.stdin.close()
process.wait()

print(f"{model.split('/')[-1]} batch {batch}, {threads} threads, {rounds} rounds of {calls} calls, onnxruntime {onnxruntime.__version__}")
for name, t in times.items():
    print(f"  {name:7} {statistics.median(t) / 1e6:9.4f} ms per call  ({min(t) / 1e6:.4f} to {max(t) / 1e6:.4f})")
for name in "run", "bound":
    ratios = statistics.quantiles((a / b for a, b in zip(times["cnnkit"], times[name])), n=4)
    print(f"  cnnkit / {name:5} {ratios[1]:6.3f}  (quartiles {ratios[0]:.3f} to {ratios[2]:.3f}; fastest by fastest {min(times['cnnkit']) / min(times[name]):.3f})")
