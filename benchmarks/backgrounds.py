"""Background removal alone: the local field against the truth, in the mask that each method leaves and in a fixed one.

    python benchmarks/backgrounds.py [--labels FILE [--seed 1] | --phantom DIR] [--tesla 3] [--margin 12] [--threads 2]

The head and its noise are those of `chain.py`. The methods get the true total field in the true brain mask, without
and with white noise. NRMSE in % of the local field, its mean removed: in the mask that a method leaves, of which `kept`
is the share of the brain, and `deep`, in the voxels that lie further than `--margin` mm inside the brain, the same for
all.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from chain import NOISE, from_bids, from_code, from_labels, from_phantom
from scipy.ndimage import distance_transform_edt

from qsmbids.core.methods import BACKGROUND
from qsmbids.core.metrics import nrmse
from qsmbids.core.threads import use_threads

METHODS = (('resharp', {'radius': 12.}), ('resharp', {}), ('vsharp', {}), ('pdf', {}), ('lbv', {}),
           ('lbv', {'peel': 2}), ('lbv', {'peel': 4}), ('sharp', {}), ('ismv', {}))


def error(local, head, mask):
    """Return the NRMSE of a local field in a mask, %."""
    found, true = (volume - volume[mask].mean() for volume in (local, head.local))
    return float(nrmse(found, true, mask))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', type=Path)
    parser.add_argument('--phantom', type=Path)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--tesla', type=float, default=3.)
    parser.add_argument('--margin', type=float, default=12.)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-benchmark')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    with use_threads(options.threads):
        head = (from_labels(options.labels, options.seed, options.tesla, 1.) if options.labels
                else from_phantom(options.phantom, options.tesla, 1.) if options.phantom
                else from_bids(options.folder) if options.tesla == 3 else from_code(options.tesla, 1.))
        deep = distance_transform_edt(head.mask, head.voxel_size) > options.margin
        noise = np.float32(NOISE) * np.random.default_rng(1).standard_normal(head.mask.shape, dtype=np.float32)
        print(f'# {options.labels or options.phantom or "head of pipeline.py"}, {options.tesla} T; deep is '
              f'{deep.sum() / head.mask.sum():.0%} of the brain')
        print(f'{"method":24}{"kept":>6} {"NRMSE":>7} {"deep":>7}   with noise {"NRMSE":>7} {"deep":>7} {"s":>6}')
        for name, parameters in METHODS:
            title, scores = f'{name} {" ".join(f"{k} {v:g}" for k, v in parameters.items())}', []
            for field in (head.field, (head.field + noise) * head.mask):
                began = time.process_time()
                local, known = BACKGROUND[name].load()(field, head.mask, head.voxel_size, **parameters)
                seconds = time.process_time() - began
                scores += [error(local, head, known), error(local, head, deep & known)]
            print(f'{title:24}{known.sum() / head.mask.sum():6.1%} {scores[0]:7.1f} {scores[1]:7.1f}              '
                  f'{scores[2]:7.1f} {scores[3]:7.1f} {seconds:6.1f}', flush=True)


if __name__ == '__main__':
    main()
