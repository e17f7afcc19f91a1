"""Segmentation by the network, on simulated heads that it was not trained with and on measured maps with labels.

    python benchmarks/segmentation.py simulated FOLDER [--weights dgm] [--seeds 2] [--picture PNG]
    python benchmarks/segmentation.py measured FOLDER [--weights dgm] [--maps N001 N002] [--picture PNG]
    python benchmarks/segmentation.py ages

The first FOLDER holds head_11.nii.gz and head_12.nii.gz of SynthSeg's label maps. Each gets a random shape, tissues and
texture; its map is made of the field of the sources in the mask, with noise and what microstructure and anisotropy do,
by total variation of automatic strength, as `qsmbids` does it. Magnitude (4 echoes, SNR 40, receive coils) and the R2*
fitted to it go with the map, as they do in a run; or the map goes alone. The second folder holds NAME_chi.nii.gz and
NAME_labels.nii.gz, voxels of 1 x 1 x 3 mm whatever the header says, and no other image. Both tables: Dice overlap, both
sides together. The bias is that of the mean susceptibility of the map in what was found, against that in the true
region, in % of the difference of the latter to white matter's; once of whole regions, once of both eroded by a voxel,
as in the table of regions; that of the mean weighted by probability is against the mean of the whole true region. The
last command makes parametric heads of all ages, which the network has never seen, two of each, voxels of 1.5 mm.
"""

import argparse
import resource
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from qsmbids.core.dipole import forward_field
from qsmbids.core.echoes import combine_magnitude
from qsmbids.core.inversion.solve import solve
from qsmbids.core.labels import BY_NAME, FINEST
from qsmbids.core.masks import component
from qsmbids.core.metrics import dice
from qsmbids.core.relaxometry import fit_r2star
from qsmbids.networks.segmentation import segment
from qsmbids.simulation.anatomy import head_from_labels, load_labels
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, acquire
from qsmbids.simulation.tissues import LABELS
from qsmbids.training.heads import FIELD_OF_VIEW, LOWEST, field_errors, without_holes
from qsmbids.training.labelled import STRUCTURE_OF

SEED, NOISE, VOXELS = 30_000, .4, (1., 1., 1.)
ECHO_TIMES = .004, .012, .020, .028
TABLE = {'caudate': ('Caudate',), 'putamen': ('Putamen',), 'pallidum': ('PallidumExternal', 'PallidumInternal'),
         'GPi': ('PallidumInternal',), 'thalamus': ('Thalamus',), 'red nucleus': ('RedNucleus',),
         'nigra': ('SubstantiaNigra',), 'subthalamic': ('Subthalamic',), 'dentate': ('Dentate',),
         'hippocampus': ('Hippocampus',), 'amygdala': ('Amygdala',), 'accumbens': ('Accumbens',), 'ventricles': ('CSF',)}
MEASURED = {'caudate': (1, 2), 'putamen': (3, 4), 'pallidum': (5, 6), 'nigra': (7, 8), 'red nucleus': (9, 10)}
MEASURED_VOXELS = 1., 1., 3.
AGES = .1, 1., 2., 4., 8., 30.
OF_AGES = 'caudate', 'putamen', 'pallidum', 'thalamus', 'red nucleus', 'nigra', 'dentate'


def simulated(folder, number, seed):
    """Return chi by TV, its mask, magnitude and R2* (a dict), and the true tissues of a head, voxels of 1 mm."""
    affine = np.eye(4)
    affine[:3, 3] = LOWEST
    shape = tuple(int(side) for side in FIELD_OF_VIEW)
    head, mask = without_holes(head_from_labels(*load_labels(folder / f'head_{number}.nii.gz'))(
        shape, affine, seed=SEED + seed, variation=2.))
    chi = reconstructed(head, mask, VOXELS, np.random.default_rng([SEED, number, seed]))
    return chi, mask, contrasts(head, affine, mask, SEED + seed), head.labels


def reconstructed(head, mask, step, rng):
    """Return the map by TV of the field of a head with errors."""
    chi = (head.chi - head.chi[mask].mean()) * mask
    local = forward_field(chi, step, margin=32) * mask
    field = (local + np.float32(NOISE) * field_errors(chi, local, mask, step, rng)) * mask
    return solve('tv', field, mask, step).chi


def contrasts(head, affine, mask, seed):
    """Return the root mean square of the echoes of a head, and R2* fitted to them."""
    signal, _ = acquire(head, np.zeros(mask.shape, np.float32),
                        Sequence(mask.shape, affine, ECHO_TIMES, snr=40, supersampling=1), seed)
    echoes = np.abs(signal).astype(np.float32)
    return {'magnitude': combine_magnitude(echoes), 'r2star': fit_r2star(echoes, ECHO_TIMES, mask).r2star}


def overlaps(labels, truth, table):
    """Return the Dice overlap of each structure of a table with its true region."""
    return {name: dice(region(labels, table[name]), true) for name, true in truth.items()}


def region(labels, parts):
    return np.isin(labels, [label.index for label in FINEST if label.structure.name in parts])


def biases(chi, found, truth, zero):
    """Return how far the mean of each found region is from that of the true one, % of its difference to `zero`."""
    return {name: 100 * (chi[found[name]].mean() - chi[true].mean()) / (chi[true].mean() - zero)
            if found[name].any() else np.nan for name, true in truth.items()}


def weighted_biases(chi, probabilities, truth, zero):
    """Return the same of the mean weighted by probability."""
    shares = {name: sum(probabilities[part] for part in parts) for name, parts in TABLE.items()}
    return {name: 100 * (np.average(chi, weights=shares[name]) - chi[true].mean()) / (chi[true].mean() - zero)
            for name, true in truth.items()}


def eroded(regions):
    return {name: ndimage.binary_erosion(inside) for name, inside in regions.items()}


def timed(*arguments, **options):
    began = time.perf_counter()
    labels = segment(*arguments, **options)
    return labels, time.perf_counter() - began


def print_table(title, rows):
    print(f'| {title} | ' + ' | '.join(rows) + ' | mean |')
    for name in next(iter(rows.values())):
        values = [row[name] for row in rows.values()]
        print(f'| {name} | ' + ' | '.join(f'{value:.2f}' for value in values) + f' | {np.nanmean(values):.3f} |')


def run_simulated(options):
    tables, drawn, seconds = {}, [], []
    for number in (11, 12):
        for seed in range(options.seeds):
            chi, mask, others, tissues = simulated(options.folder, number, seed)
            truth = {name: np.isin(tissues, [LABELS[tissue] for tissue, structure in STRUCTURE_OF.items()
                                             if structure in parts]) for name, parts in TABLE.items()}
            for inputs, more in (('map, magnitude and R2*', others), ('map alone', {})):
                (labels, shares), took = timed(chi, mask, VOXELS, weights=options.weights, probabilities=True, **more)
                rows = judge(chi, labels, shares, truth, chi[tissues == LABELS['white_matter']].mean())
                for title, row in rows.items():
                    tables.setdefault(f'{inputs}: {title}', {})[f'{number}.{seed}'] = row
                seconds.append(took)
            drawn.append((chi, labels))
    for title, table in tables.items():
        print_table(title, table)
    finish(options, drawn, seconds)


def judge(chi, labels, shares, truth, zero):
    found = {name: region(labels, parts) for name, parts in TABLE.items()}
    return {'Dice': overlaps(labels, truth, TABLE), 'bias, %': biases(chi, found, truth, zero),
            'bias, eroded, %': biases(chi, eroded(found), eroded(truth), zero),
            'bias, weighted, %': weighted_biases(chi, shares, truth, zero)}


def run_measured(options):
    scores, drawn, seconds = {}, [], []
    for name in options.maps:
        chi, given = (np.asarray(nib.load(options.folder / f'{name}_{kind}.nii.gz').dataobj, np.float32)
                      for kind in ('chi', 'labels'))
        labels, took = timed(chi, chi != 0, MEASURED_VOXELS, weights=options.weights)
        scores[name] = overlaps(labels, {key: np.isin(given, pair) for key, pair in MEASURED.items()}, TABLE)
        scores[name]['mean'] = np.mean(list(scores[name].values()))
        drawn.append((chi, labels))
        seconds.append(took)
    print_table('Dice', scores)
    finish(options, drawn, seconds)


def run_ages(_):
    """Print the overlap in parametric heads of all ages."""
    step = (1.5,) * 3
    affine = np.diag([*step, 1.])
    affine[:3, 3] = -82, -118, -66
    scores = {}
    for age in AGES:
        for seed in (1, 2):
            head = digital_head((110, 136, 106), affine, seed=seed, age=age)
            mask = component(head.map('brain'))
            chi = reconstructed(head, mask, step, np.random.default_rng(seed))
            labels = segment(chi, mask, step, **contrasts(head, affine, mask, seed))
            scores[f'{age:g} years, {seed}'] = overlaps(labels, {
                name: np.isin(head.labels, [LABELS[tissue] for tissue, structure in STRUCTURE_OF.items()
                                            if structure in TABLE[name]]) for name in OF_AGES}, TABLE)
    print_table('Dice', scores)


def finish(options, drawn, seconds):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
    print(f'{np.median(seconds):.1f} s a map, {torch.get_num_threads()} threads; peak of all {peak:.2f} GB')
    if options.picture:
        draw(drawn, options.picture)


def draw(maps, path):
    """Draw slices through the nuclei of each map, with and without the labels."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(2 * len(maps), 6, figsize=(18, 6 * len(maps)))
    for row, (chi, labels) in enumerate(maps):
        nuclei = (labels > 0) & (labels < BY_NAME['Hippocampus_L'].index)
        heights = np.flatnonzero(nuclei.any(axis=(0, 1)))
        for column, z in enumerate(np.linspace(heights[0], heights[-1], 8).astype(int)[1:7] if heights.size else ()):
            for number in range(2):
                axis = axes[2 * row + number, column]
                axis.imshow(chi[:, :, z].T, origin='lower', cmap='gray', vmin=-.1, vmax=.2)
                if number:
                    axis.imshow(np.ma.masked_equal(labels[:, :, z].T, 0), origin='lower', cmap='tab20', alpha=.6,
                                vmin=1, vmax=26, interpolation='nearest')
                axis.axis('off')
    figure.tight_layout()
    figure.savefig(path, dpi=50)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('kind', choices=('simulated', 'measured', 'ages'))
    parser.add_argument('folder', type=Path, nargs='?')
    parser.add_argument('--weights', default='dgm')
    parser.add_argument('--seeds', type=int, default=2)
    parser.add_argument('--maps', nargs='+', default=['N001', 'N002', 'N003', 'N007', 'N010'])
    parser.add_argument('--picture')
    options = parser.parse_args()
    if options.folder is None and options.kind != 'ages':
        parser.error(f'{options.kind} needs a folder')
    {'simulated': run_simulated, 'measured': run_measured, 'ages': run_ages}[options.kind](options)


if __name__ == '__main__':
    main()
