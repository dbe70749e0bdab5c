"""Writes the .npy files beside it, with NumPy."""
import os
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
a = np.arange(24).reshape(2, 3, 4)
for name, x in {
    'f4': a.astype('<f4') / 8, 'f8': a.astype('<f8') / 8, 'f2': a.astype('<f2') / 8,
    'i1': a.astype('i1') - 12, 'i8': a.astype('<i8') - 12, 'u1': a.astype('u1'), 'b1': a % 3 == 0,
    'big': a.astype('>f4') / 8, 'fortran': np.asfortranarray(a.astype('<f4') / 8),
    'big_fortran': np.asfortranarray(a.astype('>i4')),
    'scalar': np.array(2.5, '<f4'), 'vector': np.arange(5, dtype='<f4'), 'empty': np.zeros((0, 3), '<f4'),
}.items():
    np.save(os.path.join(here, name + '.npy'), x)
with open(os.path.join(here, 'v2.npy'), 'wb') as f:
    np.lib.format.write_array(f, a.astype('<f4') / 8, version=(2, 0))
with open(os.path.join(here, 'v3.npy'), 'wb') as f:
    np.lib.format.write_array(f, a.astype('<f4') / 8, version=(3, 0))
