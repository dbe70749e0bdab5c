#!/usr/bin/env python3
"""Makes pictures of the kinds that decoders differ on, and for each NAME.EXT.npy, uint8 [H,W,3]: what Pillow makes of it with
ImageOps.exif_transpose and convert("RGB"). Needs Pillow (13.0 was used) and NumPy."""
import io
import os

import numpy as np
from PIL import Image, ImageOps, features

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(7)


def photo(h, w):
    """Smooth colors with hard edges and a little noise, so that chroma matters."""
    y, x = np.mgrid[:h, :w].astype(float)
    a = np.stack([128 + 120 * np.sin(x / 3 + y / 7), 128 + 120 * np.cos(y / 4), 255 * (x / 5 % 2 > 1)], -1)
    return np.clip(a + rng.normal(0, 6, a.shape), 0, 255).astype(np.uint8)


def exif(o):
    e = Image.Exif()
    e[0x0112] = o
    return e


def golden(name):
    np.save(name + '.npy', np.asarray(ImageOps.exif_transpose(Image.open(name)).convert('RGB')))


def keep(name, a, **how):
    Image.fromarray(a).save(name, **how)
    golden(name)


for sub, word in ((0, '444'), (1, '422'), (2, '420')):
    keep(f'jpeg{word}.jpg', photo(29, 37), quality=92, subsampling=sub)
    keep(f'jpeg{word}-even.jpg', photo(32, 48), quality=92, subsampling=sub, progressive=True)
for w in (1, 2, 3, 4, 5):
    keep(f'jpeg420-{w}.jpg', photo(5, w), quality=92, subsampling=2)
keep('jpeg420-grey.jpg', photo(29, 37)[..., 0], quality=92)
for o in range(1, 9):
    keep(f'orientation{o}.jpg', photo(9, 14), quality=92, exif=exif(o))
keep('orientation6.png', photo(9, 14), exif=exif(6))
keep('orientation7.webp', photo(9, 14), exif=exif(7), quality=90)
keep('orientation5.tiff', photo(9, 14), exif=exif(5))
for name, a in (('webp-odd', photo(29, 37)), ('webp-even', photo(32, 48)), ('webp-one', photo(1, 1)), ('webp-two', photo(2, 2))):
    keep(name + '.webp', a, quality=85)
alpha = rng.integers(0, 256, (12, 18, 1)).astype(np.uint8)
alpha[:4] = 0
keep('alpha.png', np.concatenate([photo(12, 18), alpha], -1))
p = Image.fromarray(photo(12, 18)).quantize(16)
p.save('palette-alpha.png', transparency=bytes(range(0, 256, 16)))
golden('palette-alpha.png')
Image.fromarray(np.concatenate([photo(12, 18)[..., :1], alpha], -1)).save('grey-alpha.png')
golden('grey-alpha.png')

# CMYK, and the same without its APP14 marker.
b = io.BytesIO()
Image.fromarray(np.concatenate([photo(12, 18), alpha], -1), mode='CMYK').save(b, 'jpeg', quality=92)
raw = b.getvalue()
open('cmyk.jpg', 'wb').write(raw)
golden('cmyk.jpg')
at = raw.index(b'\xff\xee')
n = int.from_bytes(raw[at + 2:at + 4], 'big')
open('cmyk-bare.jpg', 'wb').write(raw[:at] + raw[at + 2 + n:])
golden('cmyk-bare.jpg')
print('Pillow', features.version('pil'), 'libjpeg-turbo', features.version('libjpeg_turbo'), 'WebP', features.version('webp'))
