"""Where the chain from phase to susceptibility loses quality, step by step, against a simulated truth.

    python benchmarks/chain.py [--labels FILE [--seed 1] | --phantom DIR] [--tesla 3] [--backgrounds pdf vsharp]
                               [--inversions tv rts] [--starts local noisy total true estimated] [--folder DIR]
                               [--picture docs/images/inversions.png] [--voxel 1] ...

Starts from the true local field (the inversion alone), the same with white noise, the true total field in the true
mask (background removal and inversion), and the phase, with the true brain mask (as a mask that is given, with its
margin) and with the estimated one. From each, every background method goes with the first of the inversions, and every
inversion with the first of the background methods.
All scores are taken in the true brain mask, whatever the method leaves of it: what it does not cover counts as zero,
and `covered` says how much that is. NRMSE and HFEN (%), correlation and XSIM, of the local field and of the map; `own`
is the NRMSE of the local field in the mask that the background method leaves.

The head is the one of `pipeline.py`, or one made of a label map (FreeSurfer's ids), or of the labels of the 2019
challenge's head (`labels.nii.gz` and `mask.nii.gz` in one folder). The picture shows three slices through the middle of
the maps from the noisy field, the truth first, from -0.1 to 0.15 ppm.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
from challenge2016 import draw
from pipeline import ECHO_TIMES
from pipeline import simulate as simulate_bids

from qsmbids.core.certainty import data_weight
from qsmbids.core.echoes import combine_magnitude, prepare_echoes
from qsmbids.core.fieldmap import total_field
from qsmbids.core.inversion.solve import solve
from qsmbids.core.masks import brain_mask, reliable_mask, widen_mask
from qsmbids.core.mending import mend_field
from qsmbids.core.methods import BACKGROUND, INVERSION, WEIGHTINGS
from qsmbids.core.metrics import hfen, nrmse, xsim
from qsmbids.core.phase import center_frequency
from qsmbids.core.regions import find_csf
from qsmbids.core.relaxometry import fit_r2star
from qsmbids.core.threads import use_threads

NOISE = 1.15e-3    # ppm, of the field of these echoes at 3 T and an SNR of 40
STARTS = 'local', 'noisy', 'total', 'true', 'estimated'
SCORES = '{:>6} {:>6} {:>6} {:>6}'.format('NRMSE', 'r', 'HFEN', 'XSIM')
HEADER = f'{"start":10}{"backgr.":8}{"covered":>7} {SCORES} {"own":>6}   {"inversion":9}{SCORES} {"s":>6}'
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
    return SimpleNamespace(**truth, magnitude=echoes.magnitude, phase=echoes.phase, voxel_size=(1., 1., 1.))


def from_code(tesla, voxel):
    """Scan the head of `pipeline.py` at another field strength or with other voxels."""
    from qsmbids.simulation.head import digital_head
    return scan_head(lambda size, grid: digital_head(size, grid, seed=5), SHAPE, (0, -17, 12), tesla, 6, voxel)


def from_labels(path, seed, tesla, voxel):
    """Scan a head made of a label map with the settings of `pipeline.py`."""
    from qsmbids.simulation.anatomy import head_from_labels, load_labels
    sample = head_from_labels(*load_labels(path))
    return scan_head(lambda size, grid: sample(size, grid, seed=seed, b0_tesla=tesla), LABELS_SHAPE, (0, -17, 12),
                     tesla, seed, voxel)


def from_phantom(folder, tesla, voxel):
    """Scan the challenge's head, nearest voxels, with a calcification of -3 ppm."""
    return scan_head(phantom_sampler(folder, tesla), PHANTOM_SHAPE, (0, 0, 0), tesla, 1, voxel)


def phantom_sampler(folder, tesla):
    """Return what samples the challenge's head on a grid whose axes run to the right, front and top."""
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
    return sample


def scan_head(sample, extent, middle, tesla, seed, voxel):
    from qsmbids.simulation.signal import Sequence, simulate
    shape = tuple(int(length / voxel) for length in extent)
    affine = np.diag([voxel, voxel, voxel, 1.])
    affine[:3, 3] = np.array(middle) - voxel * (np.array(shape) - 1) / 2
    scan = simulate(sample, Sequence(shape, affine, ECHO_TIMES, b0_tesla=tesla, snr=40, supersampling=1), seed=seed,
                    surround_mm=40)
    return SimpleNamespace(chi=scan.chi, mask=scan.mask, local=scan.local_field, field=scan.field,
                           magnitude=np.abs(scan.signal), phase=np.angle(scan.signal), voxel_size=(voxel,) * 3)


def score(found, truth, mask):
    """Return NRMSE, correlation, HFEN and XSIM of a volume, as text; its mean does not count."""
    x, t = (v - v[mask].mean() for v in (found, truth))
    return (f'{nrmse(x, t, mask):6.1f} {np.corrcoef(x[mask], t[mask])[0, 1]:6.3f} {hfen(x, t, mask):6.1f} '
            f'{xsim(x, t, mask):6.3f}')


def print_map(options, name, head, field, mask, start, beside):
    """Invert `field`, print what led there, `start`, and the scores of the map; return it."""
    began = time.process_time()
    found = solve(name, field, mask, head.voxel_size, **beside)
    if options.factor != 1 and 'lambda' in found.automatic:
        stronger = {'lambda': options.factor * found.parameters['lambda']}
        found = solve(name, field, mask, head.voxel_size, **beside, parameters=stronger)
    chi = found.chi
    seconds = time.process_time() - began
    print(f'{start} {name:9}{score(chi, head.chi, head.mask)} {seconds:6.1f}', flush=True)
    return chi


def print_inversions(options, head, beside):
    """Print the inversions of the true local field, as it is and with noise; draw the maps of the latter."""
    noise = np.float32(NOISE) * np.random.default_rng(1).standard_normal(head.mask.shape, dtype=np.float32)
    for start, field in (('local', head.local), ('noisy', (head.local + noise) * head.mask)):
        if start in options.starts:
            maps = {name: print_map(options, name, head, field, head.mask, f'{start:56}', beside)
                    for name in options.inversions}
            if options.picture and start == 'noisy':
                middle = np.argwhere(head.mask).mean(axis=0).astype(int)
                slices = [(*[slice(None)] * axis, middle[axis]) for axis in (2, 0, 1)]
                draw({'truth': (head.chi - head.chi[head.mask].mean()) * head.mask} | maps, options.picture, slices)


def print_chain(options, head, title, field, mask, beside, within=True, certain=None):
    """Print a line for each background method with the first inversion, and each inversion with the first method."""
    for background in options.backgrounds:
        method = BACKGROUND[background]
        weight = {'weight': certain} if method.takes('weight') and certain is not None else {}
        local, known = method.load()(field, mask, head.voxel_size, **weight)
        local, known = local * within, known & within
        seen = known & head.mask
        own = nrmse(local, head.local, seen)
        start = (f'{title:10}{background:8}{seen.sum() / head.mask.sum():7.1%} '
                 f'{score(local, head.local, head.mask)} {own:6.1f}  ')
        for name in options.inversions if background == options.backgrounds[0] else options.inversions[:1]:
            print_map(options, name, head, local, known, start, beside)


def print_phase(options, head, title, mask, region, beside):
    """Print the chains from the phase: `mask` is the brain, `region` what is known around it."""
    frequency = center_frequency(options.tesla)
    field = total_field(head.phase, head.magnitude, ECHO_TIMES, region, head.voxel_size, frequency)
    reliable = reliable_mask(region, field.residual, field.quality, within=mask, threshold=THRESHOLD)
    mended = mend_field(field.field, reliable, field.residual, field.quality, head.magnitude, ECHO_TIMES,
                        head.voxel_size, frequency, threshold=THRESHOLD).field
    error = np.std((mended - head.field)[reliable & head.mask])
    print(f'# {title} mask: field error {1e3 * error:.2f} ppb')
    weigh = partial(data_weight, magnitude=head.magnitude, residual=field.residual, echo_times=ECHO_TIMES,
                    mask=reliable, threshold=THRESHOLD)
    print_chain(options, head, title, mended, reliable, beside | {'weight': weigh(options.weighting)}, mask,
                weigh(options.background_weighting))


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
    parser.add_argument('--starts', nargs='+', choices=STARTS, default=STARTS)
    parser.add_argument('--picture', type=Path)
    parser.add_argument('--voxel', type=float, default=1., help='mm')
    parser.add_argument('--weighting', choices=WEIGHTINGS, default='residual', help='of inversions')
    parser.add_argument('--background-weighting', choices=WEIGHTINGS, default='certainty')
    parser.add_argument('--magnitude', action=argparse.BooleanOptionalAction, default=True, help='given to inversions')
    parser.add_argument('--factor', type=float, default=1., help='of the automatic lambda')
    options = parser.parse_args()
    with use_threads(options.threads):
        scan = options.tesla, options.voxel
        head = (from_labels(options.labels, options.seed, *scan) if options.labels
                else from_phantom(options.phantom, *scan) if options.phantom
                else from_bids(options.folder) if scan == (3, 1) else from_code(*scan))
        brain = brain_mask(head.magnitude, head.voxel_size)
        fluid = find_csf(fit_r2star(head.magnitude, ECHO_TIMES, head.mask).r2star, head.mask, head.voxel_size)[0]
        beside = {'magnitude': combine_magnitude(head.magnitude) if options.magnitude else None, 'csf': fluid}
        dice = 2 * (brain & head.mask).sum() / (brain.sum() + head.mask.sum())
        print(f'# {options.labels or options.phantom or "head of pipeline.py"}, {options.tesla} T, true local field '
              f'{1e3 * head.local[head.mask].std():.2f} ppb, estimated brain mask: Dice {dice:.3f}')
        print(HEADER, flush=True)
        print_inversions(options, head, beside)
        if 'total' in options.starts:
            print_chain(options, head, 'total', head.field, head.mask, beside)
        for title, mask, region in (('true', head.mask, widen_mask(head.mask, head.voxel_size, MARGIN)),
                                    ('estimated', brain, brain)):
            if title in options.starts:
                print_phase(options, head, title, mask, region, beside)


if __name__ == '__main__':
    main()
