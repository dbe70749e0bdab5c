"""Writes checkpoints with objects beside or around the tensors into objects/, and what is right for them:

    python make_objects.py

PyTorch 2.15, NumPy and safetensors. right-NAME.safetensors holds what NAME must give; where there is none, "w" is
[[1, 2], [3, 4]].
"""
import argparse
import collections
import datetime
import json
import os
import pathlib
import sys
import types
import warnings

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

warnings.simplefilter("ignore")
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "objects"))


def move(cls, module, name):
    """Lets a class come from a module that a reader does not have."""
    for at in (module.split(".")[0], module):
        sys.modules.setdefault(at, types.ModuleType(at))
    cls.__module__, cls.__name__, cls.__qualname__ = module, name, name
    setattr(sys.modules[module], name, cls)
    return cls


def foreign(module, name):
    return move(type(name, (), {}), module, name)


def filled(obj, **state):
    obj.__dict__.update(state)
    return obj


w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
config = foreign("omegaconf.dictconfig", "DictConfig")
node = foreign("omegaconf.nodes", "AnyNode")
inner = filled(config(), _content={"lr": filled(node(), _val=0.1)}, _parent=None)
outer = filled(config(), _content={"optim": inner}, _parent=None)
inner._parent = outer  # omegaconf's nodes know their parents
for name, value in {
    "namespace": argparse.Namespace(lr=0.1, arch="tiny"),
    "numpy-scalar": np.float64(0.9),
    "numpy-array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "device": torch.device("cuda:0"),
    "set": {1, 2},
    "frozenset": frozenset({1, 2}),
    "path": pathlib.PurePosixPath("/data/x"),
    "defaultdict": collections.defaultdict(list, loss=[0.5]),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([0.5, 0.25], maxlen=3),
    "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
    "omegaconf": outer,
    "slice": slice(1, 2),
    "bytes": b"\xff\x00abc",
    "complex": 1 + 2j,
    "optimizer": torch.optim.SGD([nn.Parameter(w.clone())], lr=0.1, momentum=0.9),
}.items():
    torch.save({"state_dict": {"w": w}, "beside": value}, name + ".pth")
torch.save({"state_dict": {"w": w}, "beside": {frozenset({1}), 2}}, "protocol4.pth", pickle_protocol=4)
torch.save({"state_dict": {"w": w}, "beside": argparse.Namespace(a=1)}, "namespace-legacy.pth",
           _use_new_zipfile_serialization=False)
torch.save((3, {"w": w}), "pair.pth")
torch.save(collections.defaultdict(list, w=w), "container.pth")


class Branch(nn.Module):
    def __init__(self, shared):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.shared = shared
        self.register_buffer("scale", torch.tensor([0.5, 2.0]))
        self.register_buffer("index", torch.arange(3), persistent=False)


move(Branch, "their.models", "Branch")
torch.manual_seed(0)
shared = nn.Linear(2, 2)
net = nn.DataParallel(nn.Sequential(collections.OrderedDict(a=Branch(shared), b=Branch(shared), act=nn.ReLU())))
right = {k: v.clone() for k, v in net.state_dict().items()}
save_file(right, "right-module.safetensors")
torch.save(net, "module.pth")
torch.save({"epoch": 3, "model": net}, "module-inside.pth")
torch.serialization.get_source_lines_and_file = lambda cls: (["the class's source stands here"], 1, "source.py")
torch.save(net, "module-legacy.pth", _use_new_zipfile_serialization=False)

dense = torch.tensor([[0.0, 1.5, 0.0], [0.0, 0.0, -2.0]])
uncoalesced = torch.sparse_coo_tensor(torch.tensor([[0, 1, 0], [1, 2, 1]]), torch.tensor([1.0, -2.0, 0.5]), (2, 3))
hybrid = torch.sparse_coo_tensor(torch.tensor([[2, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), (3, 2))
sparse = {"coo": dense.to_sparse(), "twice": uncoalesced, "hybrid": hybrid, "csr": dense.to_sparse_csr(),
          "csc": dense.to_sparse_csc(), "int": torch.tensor([[0, 7]]).to_sparse(), "none": torch.zeros(2, 2).to_sparse()}
torch.save(sparse, "sparse.pth")
save_file({k: v.to_dense().contiguous() for k, v in sparse.items()}, "right-sparse.safetensors")

x = torch.linspace(-2, 2, 12).reshape(3, 4)
scales, zeros = torch.tensor([0.1, 0.05, 0.02], dtype=torch.float64), torch.tensor([1, 0, -3])
quantized = {
    "qint8": torch.quantize_per_tensor(x, 0.03, 2, torch.qint8),
    "quint8": torch.quantize_per_tensor(x, 0.02, 100, torch.quint8),
    "qint32": torch.quantize_per_tensor(x, 1e-4, 0, torch.qint32),
    "channel": torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8),
    "qparams": torch.quantize_per_channel(x, scales.float(), zeros.float(), 0, torch.quint8),
}
torch.save(quantized, "quantized.pth")
save_file({k: v.dequantize().contiguous() for k, v in quantized.items()}, "right-quantized.safetensors")

codes = torch.arange(256, dtype=torch.uint8)
types8 = [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]
fp8 = {str(t).split(".")[1]: codes.clone().view(t) for t in types8}
torch.save(fp8, "fp8.pth")
save_file(fp8, "fp8.safetensors")
save_file({k: v.float() for k, v in fp8.items()}, "right-fp8.safetensors")


class Tagged(torch.Tensor):
    pass


move(Tagged, "their.models", "Tagged")
tagged = nn.Parameter(w.clone())
tagged.origin = "a parameter with an attribute"
torch.save({"w": w.as_subclass(Tagged), "p": tagged}, "subclass.pth")

parts = [{"a.weight": w, "a.bias": w[0].clone()}, {"b.weight": w + 4}]
for end, save in ((".safetensors", save_file), (".bin", torch.save)):
    name = "model" if end == ".safetensors" else "pytorch_model"
    files = ["%s-%05d-of-00002%s" % (name, i + 1, end) for i in range(2)]
    for part, file in zip(parts, files):
        save(part, file)
    with open(name + end + ".index.json", "w") as f:
        json.dump({"metadata": {"total_size": 40, "made": ["by", {"hand": None}]},
                   "weight_map": {k: file for part, file in zip(parts, files) for k in part}}, f, indent=1)
