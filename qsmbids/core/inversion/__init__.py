"""From the local field to the susceptibility.

The methods share the signature ``method(field, mask, voxel_size, *, b0_dir=(0., 0., 1.), **params) -> chi``.
"""

from qsmbids.core.inversion.direct import invert_tikhonov
from qsmbids.core.inversion.lsqr import invert_rts
from qsmbids.core.inversion.variational import invert_tv

INVERSION_METHODS = {'tv': invert_tv, 'rts': invert_rts, 'tikhonov': invert_tikhonov}

__all__ = ['INVERSION_METHODS', 'invert_rts', 'invert_tikhonov', 'invert_tv']
