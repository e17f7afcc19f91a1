"""Background removal by networks against the true local field of held-out heads, beside what needs no training.

Prints per method and head, within the voxels that a ball of 2 mm fits around and within those 6.1 mm deep, where every
method has values: NRMSE and HFEN (%), and how much of the mask is kept; what a method leaves out counts as zero. What
`--untrained` adds is POCSnet1's projections alone: its network changes nothing before it is trained. Times
are also given in multiples of one forward and inverse real FFT of the volume, measured beside each run.

    python benchmarks/background_networks.py [--anatomies FOLDER/head_11.nii.gz ...] [--weights FILE ...]
        [--untrained] [--methods vsharp pdf resharp] [--threads 1]
"""

import argparse
import time
from pathlib import Path

import torch

from qsmbids.core.background.balls import depth
from qsmbids.core.fourier import irfftn, rfftn
from qsmbids.core.grid import bounding_box
from qsmbids.core.methods import BACKGROUND
from qsmbids.core.metrics import hfen, nrmse
from qsmbids.core.threads import use_threads
from qsmbids.networks.background import MAPS, remove_with
from qsmbids.networks.shells import POCSnet1
from qsmbids.networks.weights import load_weights
from qsmbids.training.validation import BackgroundValidationSet

OPTIONS = {'resharp': {}, 'resharp, 3 mm': {'radius': 3.}, 'ismv, 3 mm': {'radius': 3.}}


def time_pair(volume):
    begin = time.perf_counter()
    irfftn(rfftn(volume, volume.shape), volume.shape)
    return time.perf_counter() - begin


def run(function, volume):
    """Return the result of `function`, its seconds, and those in FFT pairs of the volume."""
    pairs = [time_pair(volume) for _ in range(3)]
    begin = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - begin
    return result, seconds, seconds / min(pairs + [time_pair(volume) for _ in range(3)])


def print_row(name, local, kept, head, regions, seconds='', pairs=''):
    scores = ' '.join(f'{measure(local, head.local, region):7.1f}' for region in regions for measure in (nrmse, hfen))
    print(f'{name:26} {scores} {kept.sum() / head.mask.sum():6.2f} {seconds:>8} {pairs:>7}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--anatomies', nargs='*', default=[], help='label maps; the parametric head if none')
    parser.add_argument('--weights', nargs='*', default=[], help='files of weights')
    parser.add_argument('--untrained', action='store_true', help='POCSnet1 whose network was never trained, too')
    parser.add_argument('--methods', nargs='*', default=['vsharp', 'pdf', 'resharp', 'resharp, 3 mm', 'lbv'])
    parser.add_argument('--threads', type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    networks = {path: load_weights(path)[0] for path in arguments.weights}
    if arguments.untrained:
        networks['untrained'] = POCSnet1(unrolls=2).eval().requires_grad_(False)
    with use_threads(arguments.threads):
        for number, head in enumerate(BackgroundValidationSet(arguments.anatomies).heads):
            box = bounding_box(head.mask)
            deep = depth(head.mask, head.voxel_size)
            regions = deep > max(2.001, *head.voxel_size), deep > 6.1
            print(f'\nhead {number}, {" x ".join(str(n) for n in head.mask[box].shape)} voxels of '
                  f'{" x ".join(f"{step:.2f}" for step in head.voxel_size)} mm\n{"":26} {"NRMSE":>7} {"HFEN":>7} '
                  f'{"deep":>7} {"deep":>7} {"kept":>6} {"seconds":>8} {"pairs":>7}', flush=True)
            for name in arguments.methods:
                method = BACKGROUND[name.split(',')[0]].load()
                (local, kept), seconds, pairs = run(
                    lambda: method(head.total, head.mask, head.voxel_size, b0_dir=head.b0_dir,
                                   **OPTIONS.get(name, {})), head.total[box])
                print_row(name, local, kept, head, regions, f'{seconds:.1f}', f'{pairs:.0f}')
            for path, network in networks.items():
                (maps, kept), seconds, pairs = run(
                    lambda: remove_with(network, head.total, head.mask, head.voxel_size, head.b0_dir), head.total[box])
                for local, kind in zip(maps, MAPS):
                    print_row(f'{Path(path).stem} {kind}', local, kept, head, regions, f'{seconds:.1f}', f'{pairs:.0f}')


if __name__ == '__main__':
    main()
