"""Writes small checkpoints of every kind that convert reads. Run under a current torch and an old one:

    python make_fixtures.py new; python3 make_fixtures.py old
"""
import collections
import os
import sys

import torch

here = os.path.dirname(os.path.abspath(__file__))
tag = sys.argv[1]


def value(i):
    return (i * 7 % 11) - 5


def tensor(dtype, n=6):
    return torch.tensor([value(i) for i in range(n)], dtype=torch.float64).to(dtype)


dtypes = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
sd = collections.OrderedDict(("module.d." + d, tensor(getattr(torch, d)).reshape(2, 3)) for d in dtypes)
sd["module.d.bool"] = torch.tensor([value(i) > 0 for i in range(6)]).reshape(2, 3)
sd["module.scalar"] = torch.tensor(3.0)
sd["module.num_batches_tracked"] = torch.tensor(7)
sd["module.strided"] = tensor(torch.float32).reshape(2, 3).t()
sd["module.tail"] = tensor(torch.float32)[2:]
sd["module.tied"] = sd["module.strided"]
sd["module.param"] = torch.nn.Parameter(tensor(torch.float32))
sd["module.empty"] = torch.zeros(0, 3)
check = {"epoch": 3, "best_prec1": 91.5, "state_dict": sd}
for kind, zipped in (("zip", True), ("legacy", False)):
    torch.save(check, os.path.join(here, "all-%s-%s.pth" % (kind, tag)), _use_new_zipfile_serialization=zipped)
