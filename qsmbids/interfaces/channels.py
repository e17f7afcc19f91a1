"""Echoes from files: as they are, or combined from the channels of a receive array."""

import gzip
import shutil
from pathlib import Path

import numpy as np

from qsmbids.core.coils import combine_coils
from qsmbids.core.echoes import Echoes, prepare_echoes
from qsmbids.files import FileError
from qsmbids.headers import load_image
from qsmbids.interfaces.images import load_echoes


def read_echoes(paths, folder, *, echo_times=None, voxel_size=None, **known):
    """Return magnitude and phase of all echoes; channels that were not combined in the scanner are combined.

    Several files, one per echo, that are 4D hold channels along their last axis: BIDS has no entity for them.

    Parameters
    ----------
    paths : dict of str to list of path
        By the names of the volumes that `prepare_echoes` takes.
    folder : path
        Where compressed channels are unpacked, one at a time being what fits into memory.
    echo_times, voxel_size : sequence of float, optional
        s and mm; needed for channels.
    known
        For `prepare_echoes`.

    Raises
    ------
    FileError
        If a file cannot be read, or channels cannot be combined.
    ValueError
        As `prepare_echoes`.
    """
    count = channel_count([[load_image(path).shape for path in found] for found in paths.values()])
    if count == 1:
        return prepare_echoes(**{name: load_echoes(found) for name, found in paths.items()}, **known)
    first = next(iter(paths.values()))[0]
    if not ({'phase', 'real'} & set(paths)) or echo_times is None or voxel_size is None:
        raise FileError(f'{first}: holds {count} channels, which cannot be combined without phase, echo times and '
                        'voxel size')
    channels = Channels(paths, count, folder, known)
    try:
        magnitude, phase = combine_coils(channels, echo_times, voxel_size)
    finally:
        channels.remove()
    return Echoes(magnitude, phase, (*channels.notes, f'{count} channels were combined (MCPC-3D-S)'),
                  tuple(channels.warnings))


def channel_count(parts):
    """Return how many channels images hold, given the shapes of each part's files; 1 where a part is a single file.

    Raises
    ------
    ValueError
        If the images disagree.
    """
    counts = {shape[3] if len(shape) == 4 else 1 for shapes in parts if len(shapes) > 1 for shape in shapes} or {1}
    if len(counts) > 1:
        raise ValueError(f'the images hold {", ".join(map(str, sorted(counts)))} channels along their fourth axis, '
                         'must all hold the same')
    return counts.pop()


class Channels:
    """Magnitude and phase of one channel after the other, read when asked for: a sequence for `combine_coils`."""

    def __init__(self, paths, count, folder, known):
        self.count, self.known = count, known
        self.notes, self.warnings, self.unpacked = {}, {}, []
        self.images = {name: [load_image(self._unpack(path, folder)) for path in found]
                       for name, found in paths.items()}
        if 'phase' in self.images:
            self.known = known | {'phase_extremes': self._extremes(self.images['phase'])}

    def __len__(self):
        return self.count

    def __getitem__(self, channel):
        volumes = {name: np.stack([np.asarray(image.dataobj[..., channel], np.float32) for image in found], axis=-1)
                   for name, found in self.images.items()}
        size = volumes.get('magnitude', volumes.get('real'))
        if not np.nan_to_num(size).any():
            return np.zeros_like(size), np.zeros_like(size)
        echoes = prepare_echoes(**volumes, **self.known)
        self.notes |= dict.fromkeys(echoes.notes)
        self.warnings |= dict.fromkeys(echoes.warnings)
        return echoes.magnitude, echoes.phase

    def remove(self):
        """Delete what was unpacked."""
        self.images = {}
        for path in self.unpacked:
            path.unlink()

    @staticmethod
    def _extremes(images):
        """The scale of the stored phase is that of all channels: one alone may not fill it."""
        low, high = np.inf, -np.inf
        for image in images:
            for channel in range(image.shape[3]):
                volume = np.nan_to_num(np.asarray(image.dataobj[..., channel]), posinf=0, neginf=0)
                low, high = min(low, volume.min()), max(high, volume.max())
        return low, high

    def _unpack(self, path, folder):
        """A compressed file would have to be read from its start for each channel."""
        if not str(path).endswith('.gz'):
            return path
        plain = Path(folder) / f'channels_{len(self.unpacked)}.nii'
        try:
            with gzip.open(path) as source, open(plain, 'wb') as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except (OSError, EOFError) as error:
            raise FileError(f'{path}: is truncated or damaged ({error}). Copy or convert it again.') from None
        self.unpacked.append(plain)
        return plain
