"""Where the chain from phase to susceptibility loses quality, step by step, against a simulated truth.

    python benchmarks/chain.py [--labels FILE [--seed 1] | --phantom DIR] [--tesla 3] [--backgrounds pdf vsharp]
                               [--inversions tv rts] [--folder DIR]

Scores the inversion of the true local field, the background removal of the true total field, and everything from the
phase, with the true brain mask (as a mask that is given, with its margin) and with the estimated one, for the
background methods and inversions asked for.
All scores are taken in the true brain mask, whatever the method leaves of it: what it does not cover counts as zero,
and `covered` says how much that is. NRMSE (%) and correlation of the local field; the same and XSIM of the map.

The head is the one of `pipeline.py`, simulated once at 3 T, or one made of a label map (FreeSurfer's ids), or of the
labels of the 2019 challenge's head (`labels.nii.gz` and `mask.nii.gz` in one folder).
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
from qsmbids.core.masks import brain_mask, reliable_mask, widen_mask
from qsmbids.core.mending import mend_field
from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.core.metrics import xsim
from qsmbids.core.phase import center_frequency
from qsmbids.core.threads import use_threads

VOXEL_SIZE = (1., 1., 1.)
THRESHOLD = 0.3  # of the relative residual, as in a run
SHAPE = (160, 160, 160)
LABELS_SHAPE = (152, 190, 160)
PHANTOM_SHAPE = (164, 206, 206)
MARGIN = 2.        # mm, of a given mask, as in a run
# The labels of the challenge's head from 1 on; of fluid and blood, those inside its mask.
PHANTOM_TISSUES = ('caudate', 'pallidum', 'putamen', 'red_nucleus', 'dentate', 'substantia_nigra', 'thalamus',
                   'white_matter', 'cortex', 'sulcus', 'vein', 'fat', 'bone', 'air', 'muscle')
OUTSIDE = {'sulcus': 'csf', 'vein': 'dural_sinus', 'cortex': 'muscle', 'white_matter': 'muscle'}


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
    sample = head_from_labels(*load_labels(path))
    return scan_head(lambda size, grid: sample(size, grid, seed=seed, b0_tesla=tesla), LABELS_SHAPE, (0, -17, 12),
                     tesla, seed)


def from_phantom(folder, tesla):
    """Scan the challenge's head, nearest voxels at 1 mm, with a calcification of -3 ppm."""
    from qsmbids.simulation.head import Head
    from qsmbids.simulation.tissues import LABELS, TISSUES, Tissue, at_field_strength
    labels, inside = (np.rint(np.asarray(nibabel.load(folder / f'{name}.nii.gz').dataobj)).astype(int)
                      for name in ('labels', 'mask'))
    spacing = nibabel.load(folder / 'labels.nii.gz').header.get_zooms()
    index = np.array([LABELS['air'], *(LABELS[name] for name in PHANTOM_TISSUES), len(LABELS)], np.uint8)
    painted = index[labels]
    for name, other in OUTSIDE.items():
        painted[(painted == LABELS[name]) & (inside == 0)] = LABELS[other]
    tissues = (*at_field_strength(TISSUES, tesla).values(), Tissue(-3., 60, .3, 1.))
    chi = np.array([tissue.chi for tissue in tissues], np.float32)

    def sample(shape, affine):
        near = [np.rint((affine[axis, axis] * np.arange(n) + affine[axis, 3]) / spacing[axis]
                        + (painted.shape[axis] - 1) / 2).astype(int) for axis, n in enumerate(shape)]
        within = [(at >= 0) & (at < n) for at, n in zip(near, painted.shape)]
        values = np.full(shape, LABELS['air'], np.uint8)
        values[np.ix_(*within)] = painted[np.ix_(*(at[known] for at, known in zip(near, within)))]
        return Head(values, chi[values], tissues)
    return scan_head(sample, PHANTOM_SHAPE, (0, 0, 0), tesla, 1)


def scan_head(sample, shape, middle, tesla, seed):
    from qsmbids.simulation.signal import Sequence, simulate
    affine = np.eye(4)
    affine[:3, 3] = np.array(middle) - (np.array(shape) - 1) / 2
    scan = simulate(sample, Sequence(shape, affine, ECHO_TIMES, b0_tesla=tesla, snr=40, supersampling=1), seed=seed,
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


def print_chain(options, head, title, field, mask, weight=None, within=True):
    """Print a line per background method: the local field's score, then that of the map of each inversion."""
    print(f'\n{title}')
    for name in options.backgrounds:
        local, known = BACKGROUND[name].load()(field, mask, VOXEL_SIZE)
        local, known = local * within, known & within
        covered = (known & head.mask).sum() / head.mask.sum()
        print(f'{name:10} {covered:8.1%} {score(local, head.local, head.mask)}   '
              + score_maps(options.inversions, head, local, known, weight), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--labels', type=Path)
    parser.add_argument('--phantom', type=Path)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-benchmark')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--tesla', type=float, default=3.)
    parser.add_argument('--backgrounds', nargs='+', choices=tuple(BACKGROUND), default=list(BACKGROUND))
    parser.add_argument('--inversions', nargs='+', choices=tuple(INVERSION), default=['tv'])
    options = parser.parse_args()
    if not (options.labels or options.phantom) and options.tesla != 3:
        parser.error('the head of pipeline.py is scanned at 3 T')
    frequency = center_frequency(options.tesla)
    with use_threads(options.threads):
        head = (from_labels(options.labels, options.seed, options.tesla) if options.labels
                else from_phantom(options.phantom, options.tesla) if options.phantom else from_bids(options.folder))
        brain = brain_mask(head.magnitude, VOXEL_SIZE)
        print(f'estimated brain mask: Dice {2 * (brain & head.mask).sum() / (brain.sum() + head.mask.sum()):.3f}\n'
              f'{"":10} {"covered":>8} {"local field":>12}   '
              + '   '.join(f'{name:>18}' for name in options.inversions))
        print(f'{"true local field":32}   ' + score_maps(options.inversions, head, head.local, head.mask))
        print_chain(options, head, 'true total field, true mask', head.field, head.mask)
        for title, mask, region in (('true', head.mask, widen_mask(head.mask, VOXEL_SIZE, MARGIN)),
                                    ('estimated', brain, brain)):
            field = total_field(head.phase, head.magnitude, ECHO_TIMES, region, VOXEL_SIZE, frequency)
            reliable = reliable_mask(region, field.residual, field.quality, within=mask, threshold=THRESHOLD)
            mended = mend_field(field.field, reliable, field.residual, field.quality, head.magnitude, ECHO_TIMES,
                                VOXEL_SIZE, frequency, threshold=THRESHOLD).field
            error = np.std((mended - head.field)[reliable & head.mask])
            print_chain(options, head, f'from the phase, {title} mask (field error {1e3 * error:.2f} ppb, '
                        f'true local field {1e3 * head.local[head.mask].std():.2f} ppb)', mended, reliable,
                        residual_weight(field.residual, reliable, THRESHOLD), mask)


if __name__ == '__main__':
    main()
