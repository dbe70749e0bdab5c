#!/usr/bin/env python3
"""Exports networks by torch.onnx with PyTorch's answers: export.py FOLDER [PATTERN...]

A case is a folder CASE-EXPORTER with model.onnx and, for each set of inputs, a folder 0, 1, ... with input_NAME.npy and
output_INDEX.npy. case.json says how far ONNX Runtime is from PyTorch, as a share of the output's scale. Cases that are
there already stay. PATTERN selects by a piece of the name, say "resnet" or "torchscript". cases.json lists the names of all
cases, made or not.

Weights are random (the constructors' own, see settle in networks.py): nothing is downloaded.
"""
import json
import os
import pathlib
import shutil
import sys
import time
import warnings

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import onnxruntime as ort
import torch

from networks import CASES, Detection, NoWeights

warnings.filterwarnings('ignore')
torch.set_num_threads(1)


def arrays(y):
    """The tensors of an answer in the order in which torch.onnx makes them outputs."""
    if isinstance(y, torch.Tensor):
        return [y.detach().numpy()]
    return [a for v in (y.values() if isinstance(y, dict) else y) for a in arrays(v)]


def differences(path, sets):
    """How far ONNX Runtime is from PyTorch for each set of inputs, or what it says."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    out = []
    for x, want in sets:
        try:
            got = session.run(None, {session.get_inputs()[0].name: x})
        except Exception as e:  # noqa: BLE001: what a runtime says of a batch that is baked in
            out.append(str(e)[:300])
            continue
        if any(g.shape != w.shape for g, w in zip(got, want)):
            out.append('shapes %s, not %s' % ([g.shape for g in got], [w.shape for w in want]))
            continue
        out.append(max(share(g, w) for g, w in zip(got, want)))
    return out


def share(got, want):
    if want.size == 0:
        return 0.0
    want = want.astype(np.float64)
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30))


def save(folder, sets):
    for i, (x, want) in enumerate(sets):
        d = folder / str(i)
        d.mkdir()
        np.save(d / 'input_x.npy', x)
        for k, y in enumerate(want):
            np.save(d / ('output_%d.npy' % k), y)


def torchscript(net, x, path, free):
    torch.onnx.export(net, x, path, dynamo=False, input_names=['x'], dynamic_axes={'x': free} if free else None)


def dynamo(net, x, path, free):
    shapes = ({i: torch.export.Dim.DYNAMIC for i in free},) if free else None
    torch.onnx.export(net, x, path, dynamo=True, input_names=['x'], dynamic_shapes=shapes,
                      external_data=False, verbose=False)


def classify(case, folder, export):
    """A network of one batch of images; the batch is free where the exporter manages that."""
    net, batches = case.network()
    with torch.no_grad():
        sets = [(x.numpy(), arrays(net(x))) for x in batches]
    path, note = str(folder / 'model.onnx'), {}
    try:
        export(net, (batches[1][:2],), path, {0: 'N'})
        ours = differences(path, sets)
    except Exception as e:  # noqa: BLE001: whatever the exporter says against a free batch
        note['fixed'] = str(e)[:300]
        sets = sets[:1]
        export(net, (batches[0],), path, None)
        ours = differences(path, sets)
    if len(ours) == 2 and isinstance(ours[1], str):
        note['fixed'] = ours[1]
        sets = sets[:1]
        export(net, (batches[0],), path, None)
        ours = differences(path, sets)
    save(folder, sets)
    return {**note, 'ort': ours}


def detect(case, folder, export):
    """A detection network at batch 1, on images that give different numbers of boxes."""
    torch.manual_seed(7)
    net, images = case.network()
    with torch.no_grad():
        sets = [(x.numpy(), arrays(net([x]))) for x in images]
    path = str(folder / 'model.onnx')
    export(net, ([images[0]],), path, {1: 'H', 2: 'W'})
    save(folder, sets)
    return {'boxes': [len(want[0]) for _, want in sets], 'ort': differences(path, sets)}


def one(case, exporter, root):
    folder = root / ('%s-%s' % (case.name, exporter))
    if (folder / 'case.json').exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = time.time()
    kind = detect if isinstance(case, Detection) else classify
    note = {'case': folder.name}
    try:
        note.update(kind(case, folder, {'torchscript': torchscript, 'dynamo': dynamo}[exporter]))
    except NoWeights as e:
        note['broken'] = str(e)
    except Exception as e:  # noqa: BLE001: an exporter that cannot is no failure of ours
        note['error'] = '%s: %s' % (type(e).__name__, str(e)[:500])
    note['seconds'] = round(time.time() - start, 1)
    (folder / 'case.json').write_text(json.dumps(note))
    print(json.dumps(note), flush=True)


def main():
    root = pathlib.Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    (root / 'cases.json').write_text(json.dumps(['%s-%s' % (c.name, e) for c in CASES for e in c.exporters]))
    for case in CASES:
        for exporter in case.exporters:
            name = '%s-%s' % (case.name, exporter)
            if len(sys.argv) == 2 or any(p in name for p in sys.argv[2:]):
                one(case, exporter, root)


if __name__ == '__main__':
    main()
