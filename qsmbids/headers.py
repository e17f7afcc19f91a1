"""What a NIfTI file says before its voxels are read, and whether two of them lie on one grid."""

import math
from pathlib import Path

from qsmbids.files import FileError

TOLERANCE = 1e-2  # of the affine's elements: what programs round differently
# The most that gzip can make of a byte, and what may follow the voxels in a file.
_INFLATION, _TRAILER = 1032, 2 ** 24


def load_image(path):
    """Open a NIfTI file without reading its voxels.

    Raises
    ------
    FileError
        If it is missing or no NIfTI file.
    """
    # Its import takes a tenth of a second, which the command line has not.
    import nibabel
    try:
        return nibabel.load(path)
    except Exception as error:  # nibabel and zlib raise a dozen types on a damaged file
        if Path(path).is_symlink() and not Path(path).is_file():
            raise FileError(f'{path}: is a link to nothing; fetch its content first (in a DataLad data set: datalad '
                            'get)') from None
        if isinstance(error, FileNotFoundError):
            raise FileError(f'{path}: there is no such file') from None
        raise FileError(f'{path}: cannot be read as NIfTI ({_in_one_line(error)}). Copy or convert it again.') from None


def check_voxels(path):
    """Raise FileError unless a NIfTI file can hold as many voxels as its header says, and they are plain numbers."""
    image = load_image(path)
    kind = image.get_data_dtype()
    if kind.kind == 'c':
        raise FileError(f'{path}: holds complex numbers; write real and imaginary part to files of their own')
    if kind.kind not in 'iuf':
        raise FileError(f'{path}: holds {kind}, must hold one number per voxel. Convert it again.')
    size = Path(path).stat().st_size * (_INFLATION if str(path).endswith('.gz') else 1)
    if size < _needed(image):
        raise FileError(f'{path}: is truncated, or its header is wrong: it cannot hold the {image.shape} voxels of '
                        f'the header. Copy or convert it again.')


def read_voxels(path):
    """Return the voxels of a NIfTI file, scaled as its header says, once the checksum of a gzip file is right.

    Raises
    ------
    FileError
        If the file is missing, damaged or truncated.
    """
    import gzip

    import numpy as np
    image = load_image(path)
    try:
        if str(path).endswith(('.gz', '.mgz')):
            # nibabel would stop at the last voxel, before the checksum.
            with gzip.open(path) as stream:
                content = stream.read(_needed(image) + _TRAILER)
                if stream.read(1):
                    raise ValueError('it holds far more than its header says')
            image = type(image).from_bytes(content)
        return np.asanyarray(image.dataobj)
    except Exception as error:  # see load_image
        raise FileError(f'{path}: is truncated or damaged ({_in_one_line(error) or type(error).__name__}). Copy or '
                        'convert it again.') from None


def _needed(image):
    """Return how many bytes header and voxels take."""
    return int(getattr(image.dataobj, 'offset', 0)) + math.prod(image.shape) * image.get_data_dtype().itemsize


def _in_one_line(error):
    return ' '.join(str(error).split())


def check_grid(path, like):
    """Raise FileError unless two NIfTI files lie on one grid; a fourth axis does not count."""
    ours, theirs = load_image(path), load_image(like)
    if ours.shape[:3] != theirs.shape[:3]:
        difference = f'the shapes are {ours.shape[:3]} and {theirs.shape[:3]}'
    elif abs(ours.affine - theirs.affine).max() > TOLERANCE:
        difference = 'the affines differ'
    else:
        return
    raise FileError(f'{path}: lies on another grid than {like}: {difference}. Resample one of them to the other, or '
                    'correct its header.')
