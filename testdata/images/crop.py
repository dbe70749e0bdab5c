"""Writes crop-bilinear.npy and crop-bicubic.npy, [1,3,32,32]: what torchvision makes of gradient.png with Resize(37),
CenterCrop(32), ToTensor and ImageNet's Normalize. Needs torchvision and Pillow."""
import os
import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

here = os.path.dirname(os.path.abspath(__file__))
img = Image.open(os.path.join(here, 'gradient.png')).convert('RGB')
for mode in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC):
    t = Compose([Resize(37, mode), CenterCrop(32), ToTensor(), Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    np.save(os.path.join(here, f'crop-{mode.value}.npy'), t(img)[None].numpy())
