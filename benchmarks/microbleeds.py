"""Microbleeds in simulated heads, through the whole chain: FROC, what is taken for what, moments, heads without any.

    python benchmarks/microbleeds.py FOLDER --anatomies DIR [--heads 09 10 11 12 code] [--seeds 1] [--chains pdf+tv]
                                     [--gradings rules cmb] [--kinds lesions none] [--voxel 1] [--tesla 3] [--snr 40]
                                     [--supersampling 2] [--threads 2] [--no-r2star] [--no-field]

Heads are label maps (DIR/head_NN.nii.gz, FreeSurfer's ids), deformed, or the parametric one (code); each is scanned
with lesions (30 microbleeds of a radius of 0.7 to 5 mm and 0.15 to 3 ppm in all regions, and mimics: 8 calcifications,
15 stubs of veins, 6 mineralised foci, 1 haemorrhage, 10 perivascular spaces) and without any lesion. Phase and
magnitude go through the chain of a run, with a background removal and an inversion. Scans and maps are kept in FOLDER
and taken from there the next time.

Protocol: one to one, centres at most 2.5 mm or the lesion's radius apart; sensitivity at 0.25 to 8 false positives per
head, of all scores of the class cmb, with 95 % intervals of a bootstrap over heads; counts at the scores of possible
and definite ones. A detection on a haemorrhage counts as neither. The target is for lesions of a radius of 1 to 5 mm
and 0.2 to 3 ppm: smaller and weaker ones, and detections on them, count as neither there; `all` counts them.
"""

import argparse
import json
import resource
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from qsmbids.core.lesiongrade import DEFINITE, POSSIBLE
from qsmbids.core.lesiontable import places_of
from qsmbids.core.metrics import froc, match_lesions, near_by_distance, pair_by_distance
from qsmbids.core.microbleeds import find_microbleeds
from qsmbids.core.threads import use_threads

COUNTS = {'cmb': 30, 'calcification': 8, 'vessel': 15, 'deep_iron': 6, 'haemorrhage': 1, 'pvs': 10}
ECHO_TIMES = (.004, .012, .020, .028)
FIELD_OF_VIEW, MIDDLE, STEP = (156., 192., 160.), (0, -17, 6), 1.  # mm; of the grid that lesions are drawn on
TOLERANCE = 2.5
RADII, CHIS = (.7, 1., 1.5, 2.5, 5.1), (.15, .2, .3, 1., 3.1)
LEAST_RADIUS, LEAST_CHI = 1., .2  # of the lesions that the target is for; mm, ppm
RATES = .25, .3, .5, 1., 2., 4., 8.
RESAMPLES = 1000


def main():
    """Make what is not there yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--anatomies', type=Path, required=True)
    parser.add_argument('--heads', nargs='+', default=['09', '10', '11', '12', 'code'])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1])
    parser.add_argument('--chains', nargs='+', default=['pdf+tv'], metavar='BACKGROUND+INVERSION')
    parser.add_argument('--gradings', nargs='+', default=['rules', 'cmb'], metavar='rules|WEIGHTS')
    parser.add_argument('--kinds', nargs='+', choices=('lesions', 'none'), default=['lesions', 'none'])
    parser.add_argument('--voxel', type=float, nargs='+', default=[1.], help='mm: one side, or three')
    parser.add_argument('--tesla', type=float, default=3.)
    parser.add_argument('--snr', type=float, default=40.)
    parser.add_argument('--supersampling', type=int, default=2)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--no-r2star', action='store_true', help='give the detector the susceptibility alone')
    parser.add_argument('--no-field', action='store_true', help='nor the field, which tells the sign of voids')
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with use_threads(options.threads):
        for chain in options.chains:
            paths = list(maps(options, chain))
            for grading in options.gradings:
                report(f'{chain}, graded by {grading}', take_all(paths, grading, options), paths)


def maps(options, chain):
    """Yield the files of all heads for a chain, with lesions and without."""
    voxel = tuple(options.voxel * 3 if len(options.voxel) == 1 else options.voxel)
    for name in options.heads:
        for seed in options.seeds:
            for kind in options.kinds:
                stem = (f'head_{name}_seed_{seed}_{kind}_{"x".join(f"{v:g}" for v in voxel)}_{options.tesla:g}T'
                        f'_snr_{options.snr:g}_fine_{options.supersampling}')
                scan, path = (options.folder / f'{stem}_{which}.npz' for which in ('scan', chain))
                if not path.is_file():
                    if not scan.is_file():
                        make_scan(scan, name, seed, COUNTS if kind == 'lesions' else {}, voxel, options)
                    make_maps(path, scan, chain, options)
                yield path


def make_scan(path, name, seed, counts, voxel, options):
    """Simulate the scan of a head and keep it with the list of lesions."""
    from qsmbids.simulation.anatomy import head_from_labels, load_labels
    from qsmbids.simulation.disease import draw_lesions
    from qsmbids.simulation.head import digital_head
    from qsmbids.simulation.lesions import lesion_table, with_lesions
    from qsmbids.simulation.signal import Sequence, centred_affine, simulate
    start = time.perf_counter()
    if name == 'code':
        sample = partial(digital_head, fine=True, variation=3.)
    else:
        sample = head_from_labels(*load_labels(options.anatomies / f'head_{name}.nii.gz'))
    sample = partial(sample, seed=seed, b0_tesla=options.tesla)
    coarse, grid = _grid((STEP,) * 3, centred_affine)
    size, affine = _grid(voxel, centred_affine)
    lesions = draw_lesions(sample(coarse, grid), grid, counts, (seed, 7), view=(size, affine)) if counts else ()
    sequence = Sequence(size, affine, ECHO_TIMES, b0_tesla=options.tesla, snr=options.snr,
                        supersampling=options.supersampling)
    scan = simulate(with_lesions(sample, lesions, options.tesla), sequence, seed)
    np.savez(path, signal=scan.signal, affine=affine, truth=json.dumps(lesion_table(lesions)))
    print(f'{path.name}: {time.perf_counter() - start:.0f} s', flush=True)


def _grid(voxel, centred_affine):
    shape = tuple(round(side / step) for side, step in zip(FIELD_OF_VIEW, voxel))
    return shape, centred_affine(np.eye(3), voxel, shape, MIDDLE)


def make_maps(path, scan, chain, options):
    """Take a scan through the chain and keep the maps."""
    from qsmbids.core.reconstruct import reconstruct
    start = time.perf_counter()
    background, inversion = chain.split('+')
    with np.load(scan) as content:
        signal, affine, truth = content['signal'], content['affine'], content['truth']
    made = reconstruct(np.angle(signal), np.abs(signal), ECHO_TIMES, b0_tesla=options.tesla, affine=affine,
                       background=background, inversion=inversion, threads=options.threads)
    np.savez_compressed(path, chi=made.chi, brain=made.brain_mask, r2star=made.relaxation.r2star,
                        field=made.total_field, affine=affine, truth=truth)
    print(f'{path.name}: {time.perf_counter() - start:.0f} s', flush=True)


def take_all(paths, grading, options):
    """Return for each head the detections, the true lesions, and seconds of the detector."""
    classify = None
    if grading != 'rules':
        from qsmbids.networks.lesions import lesion_classifier
        classify = lesion_classifier(grading)
    heads = []
    for path in paths:
        with np.load(path) as content:
            volumes = {name: content[name] for name in ('chi', 'brain', 'r2star', 'field', 'affine')}
            truth = json.loads(str(content['truth']))
        start = time.perf_counter()
        census = find_microbleeds(volumes['chi'], volumes['brain'], volumes['affine'], classify=classify,
                                  r2star=None if options.no_r2star else volumes['r2star'],
                                  field=None if options.no_field else volumes['field'])
        heads.append((list(census.lesions), truth, time.perf_counter() - start))
    return heads


def score(found, truth, counted=lambda row: True):
    """Return the detections of microbleeds of a head for the FROC, pairs of a lesion and its detection, the lesions.

    Only lesions that are `counted` count; detections on others are left out.
    """
    found = [row for row in found if row['class'] == 'cmb']
    bleeds = [row for row in truth if row['class'] == 'cmb' and counted(row)]
    others = [row for row in truth if row['class'] == 'haemorrhage' or (row['class'] == 'cmb' and not counted(row))]
    near = near_by_distance(places_of(found), places_of(bleeds), radii(bleeds), TOLERANCE)
    elsewhere = near_by_distance(places_of(found), places_of(others), radii(others), TOLERANCE).any(axis=1)
    kept = near.any(axis=1) | ~elsewhere
    found, near = [row for row, keep in zip(found, kept) if keep], near[kept]
    pairs = pair_by_distance(places_of(found), places_of(bleeds), radii(bleeds), TOLERANCE)
    return (match_lesions(near, [row['probability'] for row in found]),
            [(bleeds[j], found[i]) for i, j in pairs], bleeds)


def radii(rows):
    """Return the radii of true lesions, mm."""
    return np.array([row['diameter_mm'] / 2 for row in rows])


def in_range(row):
    """Return whether the target is for a lesion."""
    return row['diameter_mm'] / 2 >= LEAST_RADIUS and row['chi_ppm'] >= LEAST_CHI


def report(title, heads, paths):
    """Print the tables of one chain and grading."""
    everything, scored = ([score(found, truth, *which) for found, truth, _ in heads] for which in ((), (in_range,)))
    print(f'\n{title}: {len(heads)} scans, {sum(len(bleeds) for *_, bleeds in everything)} microbleeds, '
          f'{sum(len(bleeds) for *_, bleeds in scored)} of them in the range; detector '
          f'{np.median([seconds for *_, seconds in heads]):.1f} s, peak '
          f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20:.1f} GB\n'
          f'{"FP per scan":>12}{"in range":>10}{"95 %":>16}{"score":>7}{"all":>10}{"95 %":>16}')
    curves = [froc([detections for detections, _, _ in each], at=RATES, resamples=RESAMPLES).points
              for each in (scored, everything)]
    for point, of_all in zip(*curves):
        threshold = '' if point.threshold is None else f'{point.threshold:.2f}'
        print(f'{point.false_positives:12g}{point.sensitivity:10.3f}{interval(point):>16}{threshold:>7}'
              f'{of_all.sensitivity:10.3f}{interval(of_all):>16}')
    for name, least in (('possible', POSSIBLE), ('definite', DEFINITE)):
        print_at(name, least, heads, scored)
    print_heads(scored, paths)
    print_bins(everything)
    print_classes(heads)
    print_moments(scored)


def interval(point):
    """Return the 95 % interval of a point as text."""
    return '' if point.lower is None else f'{point.lower:.3f} to {point.upper:.3f}'


def bootstrapped(values, weights):
    """Return the 95 % interval, over heads, of the sum of values over that of weights, as text."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    totals = weights[drawn].sum(axis=1)
    shares = values[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    return '{:.3f} to {:.3f}'.format(*np.percentile(shares, (2.5, 97.5)))


def print_at(name, least, heads, scored):
    """Print sensitivity and false positives at a score, and the latter in scans without lesions."""
    hits, wrong, total = (np.array(values) for values in zip(*(
        ((d.hits & (d.scores >= least)).sum(), (~d.hits & (d.scores >= least)).sum(), d.lesions)
        for d, _, _ in scored)))
    empty = np.array([not truth for _, truth, _ in heads])
    rates = [f'{wrong[which].mean():.2f} ({bootstrapped(wrong[which], np.ones(which.sum()))}) in scans {kind}'
             for kind, which in (('with lesions', ~empty), ('without', empty)) if which.any()]
    print(f'{name} ({least} or more): sensitivity {hits.sum() / max(total.sum(), 1):.3f} '
          f'({bootstrapped(hits, total)}), false positives {" and ".join(rates)}')


def print_heads(scored, paths):
    """Print what of each scan counts at the score of possible ones."""
    for (detections, _, bleeds), path in zip(scored, paths):
        counted = detections.hits[detections.scores >= POSSIBLE]
        print(f'{path.name.split("_seed")[0]:>12} {"lesions" if bleeds else "none":>8}: {counted.sum():3d} of '
              f'{len(bleeds):2d} found, {(~counted).sum():3d} false')


def print_bins(scored):
    """Print the sensitivity at the score of possible ones by radius and susceptibility."""
    bleeds = [(row, any(pair[0] is row and pair[1]['probability'] >= POSSIBLE for pair in pairs))
              for _, pairs, rows in scored for row in rows]
    print(f'{"radius, mm":>12}' + ''.join(f'{f"{low:g} to {high:g} ppm":>18}' for low, high in zip(CHIS, CHIS[1:])))
    for low, high in zip(RADII, RADII[1:]):
        cells = []
        for least, most in zip(CHIS, CHIS[1:]):
            found = [hit for row, hit in bleeds
                     if low <= row['diameter_mm'] / 2 < high and least <= row['chi_ppm'] < most]
            cells.append(f'{np.mean(found):.2f} of {len(found)}' if found else '-')
        print(f'{f"{low:g} to {high:g}":>12}' + ''.join(f'{cell:>18}' for cell in cells))


def print_classes(heads):
    """Print what lesions were taken for, of detections with a score that counts."""
    counts = Counter()
    for found, truth, _ in heads:
        found = [row for row in found if row['probability'] >= POSSIBLE]
        pairs = pair_by_distance(places_of(found), places_of(truth), radii(truth), TOLERANCE)
        taken = {j: found[i]['class'] for i, j in pairs}
        counts.update((row['class'], taken.get(j, 'missed')) for j, row in enumerate(truth))
    kinds, names = (list(dict.fromkeys(key[side] for key in sorted(counts))) for side in (0, 1))
    print(f'{"true":>14}' + ''.join(f'{name:>14}' for name in names))
    for kind in kinds:
        print(f'{kind:>14}' + ''.join(f'{counts[kind, name]:14d}' for name in names))
    right = counts['cmb', 'cmb'] + counts['calcification', 'calcification']
    wrong = counts['cmb', 'calcification'] + counts['calcification', 'cmb']
    if right + wrong:
        print(f'microbleed against calcification: {right / (right + wrong):.3f} right')


def print_moments(scored):
    """Print the line through the moments of the microbleeds that were found."""
    found = [(row['moment_ppm_mm3'], found['moment_ppm_mm3']) for _, matched, _ in scored for row, found in matched
             if found['probability'] >= POSSIBLE]
    pairs = [pair for pair in found if pair[1] is not None]
    if len(pairs) > 2:
        true, measured = np.array(pairs).T
        slope, offset = np.polyfit(true, measured, 1)
        ratio = np.median(measured / true)
        print(f'moment: slope {slope:.3f}, offset {offset:.2f} ppm mm3, r^2 '
              f'{np.corrcoef(true, measured)[0, 1] ** 2:.3f}, median ratio {ratio:.3f}, {len(pairs)} lesions; '
              f'{len(found) - len(pairs)} more are voids in the map and have none')


if __name__ == '__main__':
    main()
