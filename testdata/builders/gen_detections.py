#!/usr/bin/env python3
"""Writes detections.json: what torchvision's detectors find in three images each, with the weights of gen_outputs.fill, some of them
made smaller and the labels' logits raised so that there are some boxes: gen_detections.py [DETECTOR...], all by default.

Recorded with PyTorch 2.15.0 and torchvision 0.29.2.
"""
import json
import pathlib
import sys

import torch

from detectors import DETECTORS, biases, calmed, detector, found, size, tuned
from gen_outputs import fill, uniform


def images(name):
    h, w = size(name)
    return [((uniform(3 * h * w, 1000 + i) + 1) / 2).reshape(3, h, w) for i in range(3)]


def entry(name):
    net = detector(name)
    with torch.no_grad():
        fill(net)
    inputs = images(name)
    small = calmed(name, net, inputs[0])
    raised = tuned(net, inputs[0])
    keys, step = biases(net)
    out = {'size': size(name), 'smaller': small, 'raised': raised if step == 1 else -raised, 'step': step, 'biases': keys, 'images': []}
    for image in inputs:
        boxes, scores, labels = found(net, image)
        out['images'].append({'boxes': [round(float(v), 3) for v in boxes.flatten()], 'scores': [round(float(s), 6) for s in scores],
                              'labels': labels.tolist()})
    return out


if __name__ == '__main__':
    torch.set_num_threads(1)
    path = pathlib.Path(__file__).with_name('detections.json')
    out = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or DETECTORS:
        out[name] = entry(name)
        print(name, out[name]['raised'], [len(i['scores']) for i in out[name]['images']], flush=True)
        path.write_text('{\n' + ',\n'.join(f'{json.dumps(k)}: {json.dumps(v)}' for k, v in out.items()) + '\n}\n')
