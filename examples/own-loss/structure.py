"""Writes structure.onnx, a loss for masks as PyTorch's users write theirs, for `cnnkit train --loss structure.onnx`:

    pip install torch onnx onnxscript
    python structure.py structure.onnx

The structure loss of Wei et al., F3Net (AAAI 2020): cross-entropy and IoU of each image, in which pixels near an outline
count up to six times.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F


class Structure(nn.Module):
    def forward(self, logits, mask):
        """logits and mask: [N,1,H,W], the mask of 0 and 1."""
        near = F.avg_pool2d(mask, 15, stride=1, padding=7)
        weight = 1 + 5 * (near - mask).abs()
        entropy = F.softplus(logits) - logits * mask
        entropy = (weight * entropy).sum((2, 3)) / weight.sum((2, 3))
        p = torch.sigmoid(logits)
        both = (weight * p * mask).sum((2, 3))
        either = (weight * (p + mask)).sum((2, 3)) - both
        return (entropy + 1 - (both + 1) / (either + 1)).mean()


if __name__ == "__main__":
    logits, mask = torch.zeros(2, 1, 32, 32), torch.ones(2, 1, 32, 32)
    shapes = {0: torch.export.Dim("N"), 2: torch.export.Dim("H"), 3: torch.export.Dim("W")}
    torch.onnx.export(Structure(), (logits, mask), sys.argv[1], input_names=["logits", "mask"], output_names=["loss"],
                      dynamic_shapes=(shapes, shapes), dynamo=True, external_data=False)
