"""Whether a study finds what its participants have: iron in the nigra of a simulated cohort with Parkinson's disease.

    python benchmarks/cohort_effect.py [--participants 40] [--rescans 12] [--voxel 2] [--supersampling 2]
                                       [--folder DIR]

Every second participant is a patient, whose substantia nigra holds 40 ppb more. Each is scanned once (3 T, 4 echoes,
SNR 40, background of the whole head), some a second time after a new positioning, with other noise. Maps are those of
the default chain from the phase, with the brain mask that it finds. Regions are the true ones, and those that the
network finds in map, magnitude and R2*, as the program does. The tables have the difference of the groups and its size
(Cohen's d) in the true and in the computed maps, for each nucleus, and the SD of a measurement from the pairs of scans.
Results of single scans stay in the folder: a second call goes on from there.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from qsmbids import reconstruct
from qsmbids.core.echoes import combine_magnitude
from qsmbids.core.labels import label_named
from qsmbids.core.statistics import Map, Segmentation, region_statistics
from qsmbids.networks.segmentation import segment
from qsmbids.simulation.cohort import draw_participant
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, rotation, simulate
from qsmbids.simulation.tissues import LABELS, NUCLEI

ECHO_TIMES = (.004, .012, .020, .028)
FIELD_OF_VIEW = (168, 204, 160)  # mm
MIDDLE = (0, -17, 12)
ROIS = ('Caudate', 'Putamen', 'Pallidum', 'Thalamus', 'RedNucleus', 'SubstantiaNigra', 'Dentate')


def true_regions(labels, affine, pose):
    """Return the labels of the nuclei, by tissue and the side of the head that a voxel lies on."""
    grid = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing='ij'))
    to_head = np.linalg.inv(pose) @ affine
    right = np.tensordot(to_head[0, :3], grid, 1) + to_head[0, 3] > 0
    regions = np.zeros(labels.shape, np.int16)
    for tissue in NUCLEI:
        for side, where in (('L', ~right), ('R', right)):
            regions[(labels == LABELS[tissue]) & where] = label_named(tissue, side).index
    regions[labels == LABELS['ventricle']] = label_named('ventricle').index
    return regions


def scan(number, repeat, voxel, supersampling):
    """Return the means of the nuclei in the true and the computed map of a participant, ppm."""
    person = draw_participant(number, 'parkinson', seed=1)
    rng = np.random.default_rng([number, repeat])
    pose = person.pose.copy()
    if repeat:
        pose[:3, :3] = rotation(rng.standard_normal(3), 4 * rng.random()) @ pose[:3, :3]
        pose[:3, 3] += 2 * rng.standard_normal(3)
    shape = tuple(int(round(n / voxel)) for n in FIELD_OF_VIEW)
    affine = np.diag([voxel] * 3 + [1.])
    affine[:3, 3] = np.array(MIDDLE) - voxel * (np.array(shape) - 1) / 2

    def sample(size, grid):
        return digital_head(size, grid, seed=person.head_seed, pose=pose, iron=person.iron, age=person.age)
    made = simulate(sample, Sequence(shape, affine, ECHO_TIMES, snr=40, supersampling=supersampling),
                    seed=(person.scan_seed + repeat) % 2 ** 31, surround_mm=40)
    magnitude = np.abs(made.signal)
    found = reconstruct(np.angle(made.signal), magnitude, ECHO_TIMES, b0_tesla=3, affine=affine, threads=1)
    regions = {'true': true_regions(made.labels, affine, pose),
               'network': segment(found.chi, found.qsm_mask, (voxel,) * 3, affine=affine,
                                  magnitude=combine_magnitude(magnitude),
                                  r2star=found.relaxation.r2star)}
    result = {'group': person.group, 'age': person.age}
    maps = {'true': (made.chi, made.mask, 'true'), 'computed': (found.chi, found.qsm_mask, 'true'),
            'network': (found.chi, found.qsm_mask, 'network')}
    for name, (chi, mask, kind) in maps.items():
        rows = region_statistics([Map('chi', chi, 'ppm', name, 'wholebrain')], Segmentation(regions[kind]), mask,
                                 (voxel,) * 3)
        result[name] = {row['roi']: row['mean_ref-wholebrain'] for row in rows
                        if row['hemi'] == 'B' and not row['erosion_mm'] and row['roi'] in ROIS}
    return result


def collect(folder, number, repeat, voxel, supersampling):
    path = folder / f'{voxel:g}mm_{supersampling}_{number:02d}_{repeat}.json'
    if not path.is_file():
        path.write_text(json.dumps(scan(number, repeat, voxel, supersampling)))
    return json.loads(path.read_text())


def effect(results, name, roi):
    """Return the difference of the groups in ppb and Cohen's d."""
    patients, controls = ([r[name][roi] for r in results if (r['group'] == 'parkinson') == patient
                           and r[name][roi] is not None] for patient in (True, False))
    pooled = np.sqrt((np.var(patients, ddof=1) * (len(patients) - 1) + np.var(controls, ddof=1) * (len(controls) - 1))
                     / (len(patients) + len(controls) - 2))
    difference = np.mean(patients) - np.mean(controls)
    return 1000 * difference, difference / pooled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--participants', type=int, default=40)
    parser.add_argument('--rescans', type=int, default=12)
    parser.add_argument('--voxel', type=float, default=2.)
    parser.add_argument('--supersampling', type=int, default=2, help='fine voxels of the head per voxel and axis')
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-cohort')
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    grid = options.voxel, options.supersampling
    first = [collect(options.folder, number, 0, *grid) for number in range(1, options.participants + 1)]
    again = [collect(options.folder, number, 1, *grid) for number in range(1, options.rescans + 1)]
    print(f'{options.participants} participants, {options.voxel:g} mm (heads {options.voxel / grid[1]:g} mm), '
          f'{options.rescans} scanned twice')
    for kind in ('computed', 'network'):
        print(f"\n{kind.replace('computed', 'true')} regions")
        print('                   true         computed                        SD of a scan, ppb')
        print('region          diff     d     diff     d  d/true d  slope     all  less the position')
        for roi in ROIS:
            print_row(first, again, roi, kind)


def print_row(first, again, roi, kind):
    (difference, size), (found, found_size) = (effect(first, name, roi) for name in ('true', kind))
    pairs = [(r['true'][roi], r[kind][roi]) for r in first]
    pairs = [pair for pair in pairs if None not in pair]
    slope = np.polyfit(*np.transpose(pairs), 1)[0]
    ratio = f'{found_size / size:9.2f}' if roi == 'SubstantiaNigra' else ' ' * 9
    print(f'{roi:15s} {difference:4.1f} {size:5.2f} {found:8.1f} {found_size:5.2f} {ratio} {slope:6.2f} '
          f'{noise(first, again, roi, kind, 0):7.1f} {noise(first, again, roi, kind, 1):8.1f}   n = {len(pairs)}')


def noise(first, again, roi, kind, truth):
    """Return the SD of a measurement in ppb; with `truth`, less what the true means change by with the position."""
    changes = []
    for a, b in zip(first, again):
        ends = [r[name][roi] for r in (b, a) for name in (kind, 'true')]
        if None not in ends:
            changes.append(ends[0] - ends[2] - truth * (ends[1] - ends[3]))
    return 1000 * np.sqrt(np.mean(np.square(changes)) / 2)


if __name__ == '__main__':
    main()
