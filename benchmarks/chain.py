"""Where the chain from phase to susceptibility loses quality, step by step, against a simulated truth.

    python benchmarks/chain.py [--labels FILE [--seed 1] [--tesla 3]] [--inversions tv rts] [--folder DIR]

Scores the inversion of the true local field, the background removal of the true total field, and everything from the
phase, with the true brain mask and with the estimated one, for every background method and the inversions asked for.
All scores are taken in the true brain mask, whatever the method leaves of it: what it does not cover counts as zero,
and `covered` says how much that is. NRMSE (%) and correlation of the local field; the same and XSIM of the map.

The head is the one of `pipeline.py`, simulated once, or one made of a label map (FreeSurfer's ids).
"""

import argparse
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
from pipeline import ECHO_TIMES
from pipeline import simulate as simulate_bids

from qsmbids.core.echoes import prepare_echoes
from qsmbids.core.fieldmap import total_field
from qsmbids.core.certainty import residual_weight
from qsmbids.core.masks import brain_mask, reliable_mask
from qsmbids.core.mending import mend_field
from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.core.metrics import xsim
from qsmbids.core.phase import center_frequency
from qsmbids.core.threads import use_threads

VOXEL_SIZE = (1., 1., 1.)
THRESHOLD = 0.3  # of the relative residual, as in a run
SHAPE = (160, 160, 160)
LABELS_SHAPE = (152, 190, 160)


def from_bids(folder):
    """Return the head that `pipeline.py` simulates: true maps, and the echoes as a run reads them."""
    bids = folder / 'x'.join(map(str, SHAPE)) / 'bids'
    if not (bids / 'sub-01').exists():
        simulate_bids(bids, SHAPE)
    magnitude, phase = (np.stack([np.asarray(nibabel.load(path).dataobj)
                                  for path in sorted(bids.rglob(f'*part-{part}_MEGRE.nii.gz'))], axis=-1)
                        for part in ('mag', 'phase'))
    sidecar = json.loads(next(bids.rglob('*part-phase_MEGRE.json')).read_text())
    echoes = prepare_echoes(magnitude, phase, phase_units=sidecar['Units'], manufacturer=sidecar['Manufacturer'])
    truth = np.load(bids.parent / 'truth.npz')
    return SimpleNamespace(**truth, magnitude=echoes.magnitude, phase=echoes.phase)


def from_labels(path, seed, tesla):
    """Scan a head made of a label map with the settings of `pipeline.py`."""
    from qsmbids.simulation.anatomy import head_from_labels, load_labels
    from qsmbids.simulation.signal import Sequence, simulate
    sample = head_from_labels(*load_labels(path))
    affine = np.eye(4)
    affine[:3, 3] = np.array([0, -17, 12]) - (np.array(LABELS_SHAPE) - 1) / 2
    scan = simulate(lambda size, grid: sample(size, grid, seed=seed, b0_tesla=tesla),
                    Sequence(LABELS_SHAPE, affine, ECHO_TIMES, b0_tesla=tesla, snr=40, supersampling=1), seed=seed,
                    surround_mm=40)
    return SimpleNamespace(chi=scan.chi, mask=scan.mask, local=scan.local_field, field=scan.field,
                           magnitude=np.abs(scan.signal), phase=np.angle(scan.signal))


def score(found, truth, mask):
    x, t = (v[mask] - v[mask].mean() for v in (found, truth))
    return f'{100 * np.linalg.norm(x - t) / np.linalg.norm(t):6.1f} {np.corrcoef(x, t)[0, 1]:5.3f}'


def score_maps(inversions, head, field, mask, weight=None):
    """Return the scores of the map of each inversion, as text."""
    texts = []
    for name in inversions:
        method = INVERSION[name]
        chi = method.load()(field, mask, VOXEL_SIZE, **({'weight': weight} if method.takes('weight') else {}))
        chi -= chi[head.mask].mean() * head.mask
        truth = head.chi - head.chi[head.mask].mean()
        texts.append(f'{score(chi, head.chi, head.mask)} {xsim(chi, truth, head.mask):5.3f}')
    return '   '.join(texts)


def print_chain(inversions, head, title, field, mask, weight=None):
    """Print a line per background method: the local field's score, then that of the map of each inversion."""
    print(f'\n{title}')
    for name, method in BACKGROUND.items():
        local, known = method.load()(field, mask, VOXEL_SIZE)
        covered = (known & head.mask).sum() / head.mask.sum()
        print(f'{name:10} {covered:8.1%} {score(local, head.local, head.mask)}   '
              + score_maps(inversions, head, local, known, weight), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', type=Path)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-benchmark')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--tesla', type=float, default=3.)
    parser.add_argument('--inversions', nargs='+', choices=tuple(INVERSION), default=['tv'])
    options = parser.parse_args()
    if not options.labels and options.tesla != 3:
        parser.error('the head of pipeline.py is scanned at 3 T')
    frequency = center_frequency(options.tesla)
    with use_threads(options.threads):
        head = (from_labels(options.labels, options.seed, options.tesla) if options.labels
                else from_bids(options.folder))
        brain = brain_mask(head.magnitude, VOXEL_SIZE)
        print(f'estimated brain mask: Dice {2 * (brain & head.mask).sum() / (brain.sum() + head.mask.sum()):.3f}\n'
              f'{"":10} {"covered":>8} {"local field":>12}   '
              + '   '.join(f'{name:>18}' for name in options.inversions))
        print(f'{"true local field":32}   ' + score_maps(options.inversions, head, head.local, head.mask))
        print_chain(options.inversions, head, 'true total field, true mask', head.field, head.mask)
        for title, mask in (('true', head.mask), ('estimated', brain)):
            field = total_field(head.phase, head.magnitude, ECHO_TIMES, mask, VOXEL_SIZE, frequency)
            reliable = reliable_mask(mask, field.residual, field.quality, threshold=THRESHOLD)
            mended = mend_field(field.field, reliable, field.residual, field.quality, head.magnitude, ECHO_TIMES,
                                VOXEL_SIZE, frequency, threshold=THRESHOLD).field
            error = np.std((mended - head.field)[reliable & head.mask])
            print_chain(options.inversions, head, f'from the phase, {title} mask (field error {1e3 * error:.2f} ppb, '
                        f'true local field {1e3 * head.local[head.mask].std():.2f} ppb)', mended, reliable,
                        residual_weight(field.residual, reliable, THRESHOLD))


if __name__ == '__main__':
    main()
