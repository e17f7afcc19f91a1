"""Whether adult heads lie within the ranges of the tables: chi, R2* and volume of every nucleus, and what has none.

    python benchmarks/heads.py [--anatomies DIR] [--seeds 0 1 2] [--variation 4] [--step 1]

Heads come from code, and from all label maps (FreeSurfer's ids) in a folder. Susceptibility and R2* are to lie within
15 % of the table of tissues (0.005 ppm, 1.5 /s), of which 12 % are what persons differ by; volumes on each side within
the ranges of real heads (`qsmbids.simulation.tissues.VOLUMES`). The last line counts what lies outside.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from qsmbids.core.threads import use_threads
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.tissues import LABELS, TISSUES, VOLUMES

FIELD_OF_VIEW, MIDDLE = (180, 220, 220), (0, -20, -10)  # mm
SPREAD, CHI_MARGIN, R2STAR_MARGIN = .15, .005, 1.5
BRAIN = (1000, 1900)  # mL, of the brain mask


def main():
    """Print one table for each head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--anatomies', type=Path, help='folder of label maps, head_*.nii.gz')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--variation', type=float, help='mm; otherwise what each kind of head does by itself')
    parser.add_argument('--step', type=float, default=1., help='mm')
    options = parser.parse_args()
    regions = outside = 0
    for name, sample in _heads(options.anatomies):
        for seed in options.seeds:
            rows = list(measure(sample, seed, options))
            print(f'\n{name}, seed {seed}\n{"":24}{"chi":>9}{"table":>8}{"R2*":>7}{"table":>7}{"mL":>16}{"range":>12}')
            for row, problems in rows:
                print(f'{row}   {"outside: " * bool(problems)}{", ".join(problems) or "inside"}')
            regions += len(rows)
            outside += sum(bool(problems) for _, problems in rows)
    print(f'\n{outside} of {regions} regions lie outside')


def _heads(folder):
    yield 'code', partial(digital_head, fine=True)
    for path in sorted(folder.glob('head_*.nii.gz')) if folder else []:
        yield path.name.removesuffix('.nii.gz'), head_from_labels(*load_labels(path))


def measure(sample, seed, options):
    """Yield a line of the table for each region, and which of its values lie outside."""
    shape = tuple(round(side / options.step) for side in FIELD_OF_VIEW)
    affine = np.diag([options.step] * 3 + [1.])
    affine[:3, 3] = MIDDLE - options.step * (np.array(shape) - 1) / 2
    with use_threads(2):
        head = sample(shape, affine, seed, **({} if options.variation is None else {'variation': options.variation}))
    r2star, voxel = head.map('r2star'), options.step ** 3 / 1000
    for name in (*VOLUMES, 'cortex', 'white_matter'):
        parts = [name, 'pallidum_internal'] if name == 'pallidum' else [name]
        inside = np.isin(head.labels, [LABELS[part] for part in parts])
        chi, rate, tissue = head.chi[inside].mean(), r2star[inside].mean(), TISSUES[name]
        problems = [word for word, value, table, margin in (('chi', chi, tissue.chi, CHI_MARGIN),
                                                            ('R2*', rate, tissue.r2star, R2STAR_MARGIN))
                    if not abs(value - table) <= max(SPREAD * abs(table), margin)]
        middle = _middle(head, affine)
        volumes = [np.count_nonzero(inside[side]) * voxel for side in (slice(None, middle), slice(middle, None))]
        low, high = VOLUMES.get(name, (0, np.inf))
        if min(volumes) < low or max(volumes) > high:
            problems.append('volume')
        limits = f'{low:5.2f}-{high:.2f}' if name in VOLUMES else ''
        yield (f'{name:24}{chi:9.3f}{tissue.chi:8.3f}{rate:7.1f}{tissue.r2star:7.1f}{volumes[0]:9.2f}{volumes[1]:7.2f}'
               f'{limits:>12}', problems)
    volume = np.count_nonzero(head.map('brain')) * voxel
    yield f'{"brain":46}{volume:25.0f}{BRAIN[0]:7}-{BRAIN[1]}', [] if BRAIN[0] < volume < BRAIN[1] else ['volume']


def _middle(head, affine):
    """Return the first plane that is on the right side, between the thalami."""
    return int(round(np.argwhere(head.labels == LABELS['thalamus'])[:, 0].mean()))


if __name__ == '__main__':
    main()
