"""Holds what cnnkit's tools write against the onnx checker and ONNX Runtime: peers.py CNNKIT WORK."""
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime

cnnkit, work = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
failed = 0


def run(*args):
    r = subprocess.run([cnnkit, *args], capture_output=True, text=True)
    if r.returncode != 0:
        print("FAILED", *args, r.stderr.strip()[:300])
    return r.returncode == 0


def answer(path, x):
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    s = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return s.run(None, {s.get_inputs()[0].name: x})[0]


def compare(what, a, b, x):
    global failed
    want, got = answer(a, x), answer(b, x)
    far = np.abs(want - got).max() / max(1e-9, np.abs(want).max())
    failed += not far <= 1e-4
    print(f"{what}: {far:.2g}{'' if far <= 1e-4 else ' FAILED'}")


def tools(name, path, x, opsets):
    global failed
    for what, args in {"simplified": ["simplify"], "fixed": ["simplify", "--dim", f"N={len(x)}"], **{f"opset {o}": ["convert", "--opset", str(o)] for o in opsets}}.items():
        out = os.path.join(work, "out.onnx")
        if run(args[0], path, out, *args[1:]):
            compare(f"{name}, {what}", path, out, x)
        else:
            failed += 1


rng = np.random.default_rng(1)
for name in sorted(os.listdir(os.path.join(here, "..", "foreign"))):
    if name.endswith("-folded.onnx"):
        tools(name, os.path.join(here, "..", "foreign", name), rng.standard_normal((2, 3, 16, 16)).astype(np.float32), [18, 21])
for name in ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "vit_b_16"]:
    path, side = os.path.join(work, name + ".onnx"), 224 if name.startswith("vit") else 96
    args = [] if name.startswith("vit") else ["--input", f"3x{side}x{side}"]
    if run("build", name, *args, "--out", path):
        tools(name, path, rng.standard_normal((2, 3, side, side)).astype(np.float32), [13, 21])
print("FAILED" if failed else "all alike")
sys.exit(failed > 0)
