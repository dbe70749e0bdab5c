"""Forward results and gradients of the operators of vision models by PyTorch and torchvision, in float64.

    python vision.py        writes vision.json beside this script

Recorded with torch 2.15 and torchvision 0.29.
"""
import itertools

import torch
import torch.nn.functional as F
from torchvision import ops

from torchcases import case, rounded, write

torch.manual_seed(0)
PADS = ("zeros", "border", "reflection")


def sample(x, out, mode, pad, align, scale=0.75):
    names = {"bilinear": "linear", "bicubic": "cubic"}
    case("GridSample", lambda x, g: F.grid_sample(x, g, mode, pad, bool(align)), [rounded(*x), rounded(x[0], *out, len(out)) * scale],
         (0, 1), 20, mode=names.get(mode, mode), padding_mode=pad, align_corners=align)


for mode, pad, align in itertools.product(("bilinear", "nearest", "bicubic"), PADS, (0, 1)):
    sample([1, 2, 3, 4], [2, 3], mode, pad, align)
for mode, pad, align in itertools.product(("bilinear", "nearest"), PADS, (0, 1)):
    sample([1, 2, 2, 3, 4], [2, 1, 2], mode, pad, align)
for pad in PADS:
    sample([2, 1, 1, 5], [1, 4], "bilinear", pad, 0, scale=4)

for align in (0, 1):
    for size in ([2, 3, 4, 5], [1, 1, 1, 3], [2, 1, 2, 3, 4]):
        rank = len(size) - 2
        case("AffineGrid", lambda t, s: F.affine_grid(t, size, bool(align)), [rounded(size[0], rank, rank + 1), torch.tensor(size)],
             (0,), 20, align_corners=align)

rois = torch.tensor([[0, 0.5, 1.25, 6.5, 5.0], [1, -3.0, 2.0, 4.0, 12.5], [0, 4.0, 4.0, 4.25, 4.5], [1, 30.0, 30.0, 40.0, 50.0]])
for aligned, samples, size in ((0, 0, (2, 3)), (1, 0, (3, 2)), (1, 2, (2, 2)), (0, 3, (1, 4))):
    for scale in (1.0, 0.5):
        case("RoiAlign", lambda x, r, b: ops.roi_align(x, torch.cat([b[:, None].double(), r], 1), size, scale, samples or -1, bool(aligned)),
             [rounded(2, 2, 7, 9), rois[:, 1:], rois[:, 0].long()], (0,), 16, output_height=size[0], output_width=size[1],
             sampling_ratio=samples, spatial_scale=scale,
             coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel")
for scale in (1.0, 0.5):
    case("MaxRoiPool", lambda x, r: ops.roi_pool(x, r, (2, 3), scale), [rounded(2, 2, 7, 9), rois], (0,), pooled_shape=[2, 3],
         spatial_scale=scale)


def suppress(count, iou):
    corners = torch.rand(count, 2)
    boxes = ((torch.cat([corners, corners + 0.1 + torch.rand(count, 2)], 1)) * 256).round() / 256
    scores = torch.randperm(count) / 64
    kept = ops.nms(boxes, scores, iou)
    case("NonMaxSuppression", lambda b, s, n, t: torch.stack([torch.zeros_like(kept), torch.zeros_like(kept), kept], 1),
         [boxes[None], scores[None, None], torch.tensor([count]), torch.tensor([iou])])


for count, iou in ((1, 0.5), (9, 0.0), (20, 0.25), (40, 0.5), (40, 0.75)):
    suppress(count, iou)


def deform(x, w, stride, pad, dil, groups, masked, bias):
    kh, kw = w[2:]
    out = [(x[2 + i] + 2 * pad[i] - (w[2 + i] - 1) * dil[i] - 1) // stride[i] + 1 for i in range(2)]
    offset = rounded(x[0], groups * kh * kw * 2, *out)
    mask = rounded(x[0], groups * kh * kw, *out) if masked else None
    b = rounded(w[0]) if bias else None
    grads = [0, 1, 2] + [3] * bias + [4] * masked
    case("DeformConv", lambda x, w, o, b, m: ops.deform_conv2d(x, o, w, b, stride, pad, dil, m), [rounded(*x), rounded(*w), offset, b, mask],
         grads, 19, strides=stride, pads=pad + pad, dilations=dil, group=x[1] // w[1], offset_group=groups)


deform([2, 2, 4, 5], [3, 2, 2, 3], [1, 1], [0, 1], [1, 1], 1, 0, 0)
deform([1, 4, 5, 4], [2, 2, 3, 2], [2, 1], [1, 0], [1, 2], 2, 1, 1)
deform([1, 2, 3, 3], [2, 2, 1, 1], [1, 2], [0, 0], [1, 1], 1, 1, 0)


def fold(size, block, stride, pad, dil):
    columns = F.unfold(torch.zeros(1, 2, *size), block, dil, pad, stride).shape
    case("Col2Im", lambda x, s, b: F.fold(x, size, block, dil, pad, stride), [rounded(2, *columns[1:]), torch.tensor(size), torch.tensor(block)],
         (0,), strides=stride, pads=pad + pad, dilations=dil)


fold([4, 5], [2, 3], [1, 1], [0, 0], [1, 1])
fold([5, 6], [2, 2], [2, 1], [1, 2], [2, 1])
fold([1, 1], [1, 1], [1, 1], [0, 0], [1, 1])


def einsum(text, *shapes):
    case("Einsum", lambda *x: torch.einsum(text, *x), [rounded(*s) for s in shapes], range(len(shapes)), equation=text)


einsum("ij,jk->ik", [2, 3], [3, 4])
einsum("bhid,bhjd->bhij", [1, 2, 2, 3], [1, 2, 4, 3])
einsum("ij,jk,kl->il", [2, 3], [3, 2], [2, 4])
einsum("ii->i", [3, 3])
einsum("ii", [3, 3])
einsum("iij,jk->ik", [2, 2, 3], [3, 2])
einsum("i,j->ij", [2], [3])
einsum("ij->", [2, 3])
einsum("ijk->k", [2, 3, 2])
einsum("...ij,...jk->...ik", [2, 1, 2, 3], [4, 3, 2])
einsum("a...b->b...a", [2, 3, 4])
einsum("ij,ij->j", [2, 3], [2, 3])
einsum("i,j,k->", [2], [3], [2])
einsum("bA, Ac", [2, 3], [3, 2])

unpool = torch.tensor([[[[5, 2], [13, 10]]]])
case("MaxUnpool", lambda x, i: F.max_unpool2d(x, i, 2), [rounded(1, 1, 2, 2), unpool], (0,), kernel_shape=[2, 2], strides=[2, 2])
for p, kernel, stride in ((2, [2, 3], [2, 2]), (3, [3, 3], [2, 2]), (1, [2, 2], [1, 1])):
    case("LpPool", lambda x: F.lp_pool2d(x, p, kernel, stride), [rounded(1, 2, 5, 6).abs() + 0.125], (0,), p=p, kernel_shape=kernel, strides=stride)
holes = torch.tensor([[2.0, 0.0, -1.5, 3.0], [0.0, 0.5, 0.0, 4.0], [1.0, -2.0, 0.25, -1.0]])
for axis in (0, 1):
    case("ReduceProd", lambda x, a: torch.prod(x, axis, True), [holes, torch.tensor([axis])], (0,))
    case("CumProd", lambda x, a: torch.cumprod(x, axis), [holes, torch.tensor(axis)], (0,), 26)
for shape in ([1, 1], [2, 2], [2, 3, 3], [4, 4]):
    case("Det", torch.linalg.det, [rounded(*shape)], (0,))
for scale in (1.5, 0.5, 0.75, 2.25):
    case("Resize", lambda x, roi, s: F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=True),
         [rounded(1, 1, 5, 5), None, torch.tensor([1.0, 1.0, scale, scale])], (0,), 17, mode="linear", coordinate_transformation_mode="align_corners")

write(__file__)
