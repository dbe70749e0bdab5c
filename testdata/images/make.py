"""Writes a gradient in every format beside it, and what torchvision-style preprocessing (PIL, bilinear) makes of it."""
import os
import numpy as np
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
y, x = np.mgrid[0:48, 0:64]
rgb = np.stack([4 * x, 5 * y, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], 2).astype('u1')
img = Image.fromarray(rgb)
for ext, opt in {'png': {}, 'jpg': dict(quality=95), 'gif': {}, 'bmp': {}, 'tiff': dict(compression='tiff_lzw'), 'webp': dict(lossless=True)}.items():
    img.save(os.path.join(here, 'gradient.' + ext), **opt)
img.convert('L').save(os.path.join(here, 'grey.png'))
mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
for name, size in {'small': (20, 17), 'large': (96, 80)}.items():
    a = np.asarray(img.resize(size, Image.BILINEAR)).astype('f8') / 255
    np.save(os.path.join(here, name + '.npy'), ((a - mean) / std).transpose(2, 0, 1)[None].astype('f4'))
