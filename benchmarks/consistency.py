"""What the check of a map against its field says about maps whose faults are known.

    python benchmarks/consistency.py [--field FILE --mask FILE] [--methods tikhonov tkd tv] [--seeds 0 1] [--threads 2]

With a measured local field, B0 along its third axis: maps that make their field, are too weak, were scaled, have the
wrong header, or were inverted with it. Then, on digital heads of many tilts and voxels, how far the direction of B0
that the field alone shows is from the true one. Last, the time in pairs of transforms, and the memory.
"""

import argparse
import time
import tracemalloc

import numpy as np

from qsmbids.core.consistency import angle_between, backward_kernel, field_axis
from qsmbids.core.dipole import dipole_kernel, forward_field, voxel_size_of
from qsmbids.core.fourier import convolve, irfftn, rfftn
from qsmbids.core.methods import INVERSION
from qsmbids.core.threads import use_threads
from qsmbids.headers import load_image
from qsmbids.simulation.head import digital_head

UPRIGHT = (0., 0., 1.)
SHAPE, MIDDLE = (176, 212, 190), (0, -20, -10)
OFF = 20
TILTS = ((0, 0), (10, 1), (20, 0), (40, 1))
# White noise over the field's SD.
NOISE = 0.5


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--field', help='local field, NIfTI, B0 along its third axis')
    parser.add_argument('--mask')
    parser.add_argument('--methods', nargs='+', default=['tikhonov', 'tkd', 'tv'], choices=INVERSION)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    with use_threads(options.threads):
        if options.field:
            check_maps(options)
        find_directions(options.seeds)


def check_maps(options):
    image = load_image(options.field)
    voxel_size = voxel_size_of(image.affine)
    mask = np.asarray(load_image(options.mask).dataobj) > 0.5
    field = np.where(mask, np.asarray(image.dataobj, dtype=np.float32), 0)
    alone = field_axis(field, mask, voxel_size)
    print(f'{"map":34}{"rms":>8}{"gain":>8}{"offset":>8}{"coh.":>8}{"axis":>8}{"NRMSE":>8}{"field":>8}')

    def show(name, chi, b0_dir=UPRIGHT, source=field):
        found = backward_kernel(source, chi, mask, voxel_size, b0_dir=b0_dir)
        print(f'{name:34}{found.rms_difference:8.3f}{found.gain:8.2f}{found.offset:8.2f}{found.coherence:8.2f}'
              f'{found.axis_angle:8.2f}{found.field_nrmse:8.2f}{angle_between(alone.direction, b0_dir):8.1f}')

    kernel, slant = dipole_kernel(field.shape, voxel_size), tilted(OFF, 0)
    weak, weaker = (convolve(field, kernel / (kernel ** 2 + s)) * mask for s in (.03, .1))
    show('Tikhonov .03 of its own field', weak, source=forward_field((weak - weak[mask].mean()) * mask, voxel_size))
    show('Tikhonov .03', weak)
    show('Tikhonov .1', weaker)
    show('Tikhonov .03 x .7', 0.7 * weak)
    show(f'Tikhonov .03, header {OFF} degrees off', weak, slant)
    for name in options.methods:
        for label, b0_dir in ((name, UPRIGHT), (f'{name} by a header {OFF} degrees off', slant)):
            chi = INVERSION[name].load()(field, mask, voxel_size, b0_dir=b0_dir)
            show(label, chi, b0_dir)
    measure_cost(field, weak, mask, voxel_size)


def measure_cost(field, chi, mask, voxel_size):
    volume = np.zeros(field.shape, np.float32)
    runs = {'pair': lambda: irfftn(rfftn(volume, field.shape), field.shape),
            'backward kernel': lambda: backward_kernel(field, chi, mask, voxel_size),
            'field axis': lambda: field_axis(field, mask, voxel_size)}
    times = {name: [] for name in runs}
    for _ in range(5):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    for name in list(runs)[1:]:
        tracemalloc.start()
        runs[name]()
        peak = tracemalloc.get_traced_memory()[1] / volume.nbytes
        tracemalloc.stop()
        print(f'{name}: {min(times[name]):.2f} s, {min(times[name]) / min(times["pair"]):.1f} pairs of transforms, '
              f'{peak:.1f} volumes')


def find_directions(seeds):
    print(f'\n{"head":8}{"voxel":>12}{"tilt":>6}{"noise":>7}{"off":>7}{"contrast":>10}')
    affine = np.eye(4)
    affine[:3, 3] = MIDDLE - (np.array(SHAPE) - 1) / 2
    for seed in seeds:
        head = digital_head(SHAPE, affine, seed, fine=True)
        brain = head.map('brain') > 0.5
        chi = np.where(brain, head.chi - head.chi[brain].mean(), 0).astype(np.float32)
        for degrees, axis in TILTS:
            true = tilted(degrees, axis)
            field = forward_field(chi, (1, 1, 1), true)
            for slices in (1, 2, 3):
                thick, mask = (thicken(volume, slices) for volume in (field, brain.astype(np.float32)))
                mask = mask > 0.9
                for noise in (0, NOISE):
                    rng = np.random.default_rng(seed)
                    noisy = thick + noise * thick[mask].std() * rng.standard_normal(thick.shape, np.float32)
                    found = field_axis(noisy, mask, (1, 1, slices))
                    print(f'{seed:<8}{f"1x1x{slices} mm":>12}{degrees:6}{noise:7.1f}'
                          f'{angle_between(found.direction, true):7.1f}{found.contrast:10.2f}')


def thicken(volume, slices):
    """Return means over so many slices."""
    whole = volume.shape[2] // slices * slices
    return volume[..., :whole].reshape(*volume.shape[:2], -1, slices).mean(axis=3)


def tilted(degrees, axis):
    """Return a direction that leans by an angle from the third axis towards another one."""
    b0_dir = np.zeros(3)
    b0_dir[axis], b0_dir[2] = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return tuple(b0_dir.tolist())


if __name__ == '__main__':
    main()
