"""PyTorch and safetensors read what TestWriteForPeers wrote: python peers.py DIR"""
import os
import sys

import torch

here = os.path.dirname(os.path.abspath(__file__))
want = torch.load(os.path.join(here, "all-zip-old.pth"))["state_dict"]


def same(got):
    assert set(got) == set(want), set(got) ^ set(want)
    for k, v in want.items():
        assert got[k].dtype == v.dtype and got[k].shape == v.shape and torch.equal(got[k], v.detach()), k


same(torch.load(os.path.join(sys.argv[1], "all.pt"), weights_only=True))
try:
    from safetensors.torch import load_file
except ImportError:
    print("torch", torch.__version__, "ok; safetensors is not installed")
else:
    same(load_file(os.path.join(sys.argv[1], "all.safetensors")))
    print("torch", torch.__version__, "and safetensors ok")
