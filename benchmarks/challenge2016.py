"""Every inversion on the local field of the 2016 reconstruction challenge, which was measured in vivo.

    python benchmarks/challenge2016.py FOLDER [--methods tv medi ...] [--picture docs/images/challenge2016.png]

FOLDER holds local_field_ppm.nii.gz, mask.nii.gz and magnitude.nii.gz (Langkammer C et al. Magn Reson Med
2018;79:1661-1673). Strengths are chosen from the field. There is no truth beside it: the table tells the strength, the
SD of the map, how much of the field it leaves (of which the field's spectrum says how much is noise), what remains in
the map along the cone where the dipole kernel is zero (streaks), and how much the map still moves if the iterations are
doubled. The picture shows three slices of each map, from -0.1 to 0.15 ppm.
"""

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from qsmbids.core.dipole import dipole_kernel, forward_field
from qsmbids.core.fourier import frequencies, rfftn
from qsmbids.core.inversion.solve import solve
from qsmbids.core.inversion.strength import noise_share
from qsmbids.core.methods import INVERSION

VOXEL_SIZE = 1.0625, 1.0625, 1.0714
SLICES = (slice(None), slice(None), 76), (84,), (slice(None), 92)
ITERATIONS = 'max_iterations', 'iterations', 'tv_iterations', 'steps'


def load(folder):
    mask = np.asarray(nib.load(folder / 'mask.nii.gz').dataobj) > 0
    field, magnitude = (nib.load(folder / f'{name}.nii.gz').get_fdata(dtype=np.float32)
                        for name in ('local_field_ppm', 'magnitude'))
    return field * mask, mask, magnitude


def left(chi, field, mask):
    """Return the share of the field's RMS that the map does not make, %."""
    missed = (forward_field(chi, VOXEL_SIZE) - field)[mask]
    return 100 * float((missed - missed.mean()).std() / field[mask].std())


def streaks(chi):
    """Return the power of a map near the cone over that beside it, at the same frequencies; 1 without streaks."""
    power = np.square(np.abs(rfftn(chi, chi.shape)))
    kernel = np.abs(dipole_kernel(chi.shape, VOXEL_SIZE))
    squared = sum(np.square(k) for k in frequencies(chi.shape, VOXEL_SIZE))
    band = (squared > .05 ** 2) & (squared < .35 ** 2)
    return float(power[band & (kernel < .03)].mean() / power[band & (kernel > .1) & (kernel < .2)].mean())


def moved(name, chi, found, field, mask, magnitude):
    """Return how far the map moves with twice the iterations, % of its RMS; nan if the method does not iterate."""
    more = {key: 2 * found.parameters[key] for key in ITERATIONS if found.parameters.get(key)}
    if not more or name == 'ndi':  # whose iterations are its strength
        return np.nan
    again = solve(name, field, mask, VOXEL_SIZE, magnitude=magnitude, parameters=more).chi
    return 100 * float(np.linalg.norm(again - chi) / np.linalg.norm(chi))


def draw(maps, path, slices=SLICES):
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    columns = 6
    rows = -(-len(maps) // columns)
    figure, axes = plt.subplots(3 * rows, columns, figsize=(2.4 * columns, 6.6 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    for n, (name, chi) in enumerate(maps.items()):
        row, column = divmod(n, columns)
        for i, cut in enumerate(slices):
            axis = axes[3 * row + i, column]
            axis.imshow(chi[cut].T, origin='lower', cmap='gray', vmin=-.1, vmax=.15)
            axis.set_title(name if not i else '', fontsize=10)
    figure.tight_layout(pad=.2)
    figure.savefig(path, dpi=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    local = tuple(name for name, method in INVERSION.items() if not method.takes_total)
    parser.add_argument('--methods', nargs='+', default=local, choices=local)
    parser.add_argument('--picture', type=Path)
    parser.add_argument('--once', action='store_true', help='without the second run of twice the iterations')
    options = parser.parse_args()
    field, mask, magnitude = load(options.folder)
    print(f'{100 * np.sqrt(noise_share(field, mask, VOXEL_SIZE)):.1f} % of the field\'s RMS are noise by its spectrum')
    print(f'{"method":10s} {"strength":>24s}  SD ppb  field left %  streaks  moves %    s')
    maps = {}
    for name in options.methods:
        began = time.perf_counter()
        found = solve(name, field, mask, VOXEL_SIZE, magnitude=magnitude)
        seconds = time.perf_counter() - began
        maps[name] = found.chi
        strength = ', '.join(f'{key} {found.parameters[key]:.3g}' for key in found.automatic)
        change = np.nan if options.once else moved(name, found.chi, found, field, mask, magnitude)
        print(f'{name:10s} {strength:>24s} {1e3 * found.chi[mask].std():7.1f} {left(found.chi, field, mask):13.1f} '
              f'{streaks(found.chi):8.2f} {change:8.1f} {seconds:4.0f}', flush=True)
    if options.picture:
        draw(maps, options.picture)


if __name__ == '__main__':
    main()
