"""Writes what torchvision's functions make of small images through PIL: cases.json says which function with which
arguments, cases.bin.gz holds the bytes [C,H,W] of inputs and results one after the other.

Written with torchvision 0.29.2 and Pillow 13.0.0:

    python testdata/transforms/make.py [FOLDER]
"""
import gzip
import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode as I
from torchvision.transforms import autoaugment as A
from torchvision.transforms import functional as F

here = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(5)
blob, offset = [], 0


def put(img):
    """Appends an image's planes and says where they are."""
    global offset
    a = np.asarray(img)
    a = a[None] if a.ndim == 2 else a.transpose(2, 0, 1)
    assert a.dtype == np.uint8
    at = dict(shape=list(a.shape), offset=offset)
    blob.append(np.ascontiguousarray(a).tobytes())
    offset += a.size
    return at


def scene(h, w):
    """Smooth colours with an edge and a little noise."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([255 * x / w, 128 + 120 * np.sin(x / 5) * np.cos(y / 4), 255 * (y > h / 2 + 3 * np.sin(x / 3))], 2)
    return Image.fromarray(np.clip(a + rng.normal(0, 9, a.shape), 0, 255).astype('u1'))


images = {
    'scene': scene(29, 37),
    'square': scene(32, 32),
    'noise': Image.fromarray(rng.integers(0, 256, (31, 17, 3), 'u1')),
    'grey': scene(28, 28).convert('L'),
    'dull': Image.fromarray(rng.integers(90, 140, (24, 24, 3), 'u1')),
    'flat': Image.fromarray(np.full((8, 9, 3), (10, 200, 77), 'u1')),
    'corner': Image.fromarray(rng.integers(0, 256, (3, 5, 3), 'u1')),
    'pixel': Image.fromarray(np.array([[[1, 2, 250]]], 'u1')),
    'colours': Image.fromarray(rng.permutation(np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3), 3).reshape(-1, 3))
                               .reshape(64, 64, 3).astype('u1')),
}
cases = []


def case(op, name, result, **args):
    cases.append(dict(op=op, image=name, args=args, **put(result)))


modes = {'nearest': I.NEAREST, 'bilinear': I.BILINEAR, 'bicubic': I.BICUBIC}

for mode, m in modes.items():
    for name in ['scene', 'noise', 'grey']:
        for size in [[16], [45], [20, 11], [29, 50], [64, 37], [7, 64], [1, 1]]:
            case('resize', name, F.resize(images[name], size, m), size=size, interpolation=mode)
    case('resize', 'pixel', F.resize(images['pixel'], [5, 3], m), size=[5, 3], interpolation=mode)

for mode in ['constant', 'edge', 'reflect', 'symmetric']:
    fill = [7, 8, 9] if mode == 'constant' else 0
    for padding in [[4], [3, 0], [0, 5, 2, 1]]:
        case('pad', 'scene', F.pad(images['scene'], padding, fill, mode), padding=padding, fill=fill, padding_mode=mode)
    case('pad', 'grey', F.pad(images['grey'], [4], 99, mode), padding=[4], fill=99, padding_mode=mode)
    case('pad', 'pixel', F.pad(images['pixel'], [2], fill, mode), padding=[2], fill=fill, padding_mode=mode)
for mode in ['reflect', 'symmetric']:
    corner = images['corner']  # smaller than its padding: the mirror is mirrored again
    case('pad', 'corner', F.pad(corner, [13, 17], 0, mode), padding=[13, 17], fill=0, padding_mode=mode)
for size in [[10], [13, 20], [28, 37], [40, 36], [33, 50]]:
    case('center_crop', 'scene', F.center_crop(images['scene'], size), size=size)
for box in [[0, 0, 8, 9], [5, 7, 20, 21], [-3, -2, 12, 14], [20, 30, 16, 16]]:
    case('crop', 'scene', F.crop(images['scene'], *box), box=box)
case('hflip', 'scene', F.hflip(images['scene']))
case('vflip', 'scene', F.vflip(images['scene']))

for mode in ['nearest', 'bilinear']:
    for name in ['scene', 'square', 'grey']:
        for angle in [0, 90, 180, 270, -90, 33, -7.5, 120, 359.5, 400]:
            case('rotate', name, F.rotate(images[name], angle, modes[mode]), degrees=angle, interpolation=mode)
    for angle in [30, 90, -100]:
        case('rotate', 'scene', F.rotate(images['scene'], angle, modes[mode], expand=True, fill=[9, 99, 199]),
             degrees=angle, interpolation=mode, expand=True, fill=[9, 99, 199])
        case('rotate', 'scene', F.rotate(images['scene'], angle, modes[mode], center=[5, 20], fill=50),
             degrees=angle, interpolation=mode, center=[5, 20], fill=50)
    for name in ['scene', 'square', 'grey']:
        for angle, translate, scale, shear in [(0, [0, 0], 1, [0, 0]), (0, [5, -3], 1, [0, 0]), (25, [0, 0], 1, [0, 0]),
                                               (-40, [3, 4], 0.7, [0, 0]), (0, [0, 0], 1.6, [0, 0]), (0, [0, 0], 1, [20, 0]),
                                               (0, [0, 0], 1, [0, -15]), (12, [-2, 6], 1.25, [10, 8]), (180, [0, 0], 1, [0, 0])]:
            case('affine', name, F.affine(images[name], angle, translate, scale, shear, modes[mode], fill=11),
                 degrees=angle, translate=translate, scale=scale, shear=shear, interpolation=mode, fill=11)
    case('affine', 'scene', F.affine(images['scene'], 0, [0, 0], 1, [17, 0], modes[mode], fill=0, center=[0, 0]),
         degrees=0, translate=[0, 0], scale=1, shear=[17, 0], interpolation=mode, fill=0, center=[0, 0])

for name in ['scene', 'noise', 'grey', 'dull', 'flat', 'pixel', 'colours']:
    img = images[name]
    for factor in [0, 0.37, 1, 1.6, 3]:
        case('brightness', name, F.adjust_brightness(img, factor), factor=factor)
        case('contrast', name, F.adjust_contrast(img, factor), factor=factor)
        case('saturation', name, F.adjust_saturation(img, factor), factor=factor)
        case('sharpness', name, F.adjust_sharpness(img, factor), factor=factor)
    for factor in [-0.5, -0.21, 0, 0.1, 0.5]:
        case('hue', name, F.adjust_hue(img, factor), factor=factor)
    case('grayscale', name, F.to_grayscale(img, 1), channels=1)
    case('grayscale', name, F.to_grayscale(img, 3), channels=3)
    case('invert', name, F.invert(img))
    case('autocontrast', name, F.autocontrast(img))
    case('equalize', name, F.equalize(img))
    for bits in [1, 4, 7, 8]:
        case('posterize', name, F.posterize(img, bits), bits=bits)
    for threshold in [0, 85.5, 128, 256]:
        case('solarize', name, F.solarize(img, threshold), threshold=threshold)

for name in ['scene', 'noise', 'grey']:
    for kernel, sigma in [([3, 3], 0.8), ([5, 9], 2.0), ([1, 7], 1.1), ([23, 23], 5.0)]:
        if kernel[0] // 2 < images[name].width and kernel[1] // 2 < images[name].height:
            case('blur', name, F.gaussian_blur(images[name], kernel, [sigma, sigma]), kernel_size=kernel, sigma=sigma)

t = torch.from_numpy(np.asarray(images['scene']).transpose(2, 0, 1).copy())
e = F.erase(t, 4, 9, 11, 7, torch.tensor([5, 150, 255], dtype=torch.uint8)[:, None, None])
case('erase', 'scene', e.numpy().transpose(1, 2, 0), box=[4, 9, 11, 7], value=[5, 150, 255])

# What each operation of the automatic policies makes at every third of its steps, and the strengths themselves.
spaces = {
    'auto': A.AutoAugment()._augmentation_space(10, (32, 48)),
    'rand': A.RandAugment()._augmentation_space(31, (32, 48)),
    'wide': A.TrivialAugmentWide()._augmentation_space(31),
}
strengths = {k: {op: [float(v) for v in m] for op, (m, _) in s.items() if m.ndim > 0} for k, s in spaces.items()}
signed = {k: sorted(op for op, (_, sign) in s.items() if sign) for k, s in spaces.items()}
for op, (m, sign) in {**spaces['auto'], **spaces['wide']}.items():
    for magnitude in [float(v) for v in m[1::9]] if m.ndim > 0 else [0.0]:
        for s in [1, -1] if sign else [1]:
            case('auto', 'square', A._apply_op(images['square'], op, s * magnitude, I.NEAREST, None), operation=op, magnitude=s * magnitude)

doc = dict(images={k: put(v) for k, v in images.items()}, cases=cases, strengths=strengths, signed=signed)
with open(os.path.join(here, 'cases.json'), 'w') as f:
    f.write('{\n"images": ' + json.dumps(doc['images']) + ',\n"strengths": ' + json.dumps(strengths) + ',\n"signed": ' +
            json.dumps(signed) + ',\n"cases": [\n' + ',\n'.join(map(json.dumps, cases)) + '\n]}\n')
with open(os.path.join(here, 'cases.bin.gz'), 'wb') as f, gzip.GzipFile('', 'wb', 9, f, mtime=0) as z:
    z.write(b''.join(blob))
print(len(cases), 'cases,', offset, 'bytes')
