"""What a NIfTI file says before its voxels are read, and whether two of them lie on one grid."""

from qsmbids.files import FileError

TOLERANCE = 1e-2  # of the affine's elements: what programs round differently


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
    except FileNotFoundError:
        raise FileError(f'{path}: there is no such file') from None
    except Exception as error:  # nibabel and zlib raise a dozen types on a damaged file
        raise FileError(f'{path}: cannot be read as NIfTI ({error}). Copy or convert it again.') from None


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
