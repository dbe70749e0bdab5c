"""Writes small batches in the form of cifar-10-batches-py and cifar-100-python.

The official files were written by Python 2's cPickle, protocol 2, with the numpy of that time; others have been
re-pickled by Python 3 since. Run it with both, in this folder:

    python2 make.py     # Python 2.7.18, numpy 1.16.6
    python3 make.py     # Python 3.11, numpy 2.4

A pixel of image i at place j is (37 i + 7 j) mod 256, an image's label i mod 10 (fine: 11 i mod 100).
"""
import sys

import numpy as np

if sys.version_info[0] == 2:
    import cPickle as pickle
else:
    import pickle

IMAGES = 3


def cifar10(order="C"):
    i, j = np.mgrid[:IMAGES, :3072]
    return {
        "batch_label": "training batch 1 of 5",
        "labels": [k % 10 for k in range(IMAGES)],
        "data": np.array((37 * i + 7 * j) % 256, dtype=np.uint8, order=order),
        "filenames": ["image_s_%06d.png" % k for k in range(IMAGES)],
    }


def cifar100():
    d = cifar10()
    d["fine_labels"] = [11 * k % 100 for k in range(IMAGES)]
    d["coarse_labels"] = [k % 20 for k in range(IMAGES)]
    del d["labels"]
    return d


def write(name, value, protocol):
    with open(name + ".pkl", "wb") as f:
        pickle.dump(value, f, protocol)


names = "airplane automobile bird cat deer dog frog horse ship truck".split()
if sys.version_info[0] == 2:
    write("python2", cifar10(), 2)
    write("python2-fortran", cifar10("F"), 2)
    write("python2-100", cifar100(), 2)
    write("python2-meta", {"num_cases_per_batch": IMAGES, "label_names": names, "num_vis": 3072}, 2)
else:
    for protocol in range(2, 6):
        write("python3-%d" % protocol, cifar10(), protocol)
    write("python3-bytes", {k.encode(): v for k, v in cifar10().items()}, 4)
