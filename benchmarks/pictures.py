"""Pictures of the documentation, from a simulated head and from what `qsmbids` makes of it.

    python benchmarks/pictures.py {chi,outputs,backgrounds} PICTURE [--folder DIR]

chi: the map of the head of `pipeline.py` by the default chain. outputs: one slice of what a participant of
`qsmbids-simulate` with three microbleeds gets. backgrounds: the local field of the head of `pipeline.py` by every
method of background removal, from its true total field in its true mask, and the error of each. Data sets and
derivatives stay in the folder; what exists is used again.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import nibabel
import numpy as np
from pipeline import simulate

from qsmbids.core.labels import BY_NAME, STRUCTURES
from qsmbids.core.methods import BACKGROUND
from qsmbids.core.metrics import nrmse

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

SHAPE = (160, 160, 160)
PIPELINE_CUTS = {'axial': np.s_[:, :, 66], 'coronal': np.s_[:, 74, :], 'sagittal': np.s_[86, :, :]}


def head_of_pipeline(folder):
    """Return the data set of the head of `pipeline.py`, simulated unless it is there."""
    bids = folder / 'x'.join(map(str, SHAPE)) / 'bids'
    if not (bids.parent / 'truth.npz').exists():
        simulate(bids, SHAPE)
    return bids


def process(bids, *flags):
    """Return the folder of the derivatives of participant 01."""
    out = bids.parent / 'pictures'
    if not (out / 'sub-01.html').exists():
        subprocess.run([sys.executable, '-m', 'qsmbids', bids, out, 'participant', '--participant-label', '01', '-w',
                        bids.parent / 'pictures-work', *flags], check=True)
    return out


def volume(folder, name):
    image = nibabel.load(next(Path(folder).rglob(f'*_{name}.nii.gz')))
    return image.get_fdata(dtype=np.float32)


def show(axis, plane, title='', limits=(None, None), **options):
    axis.imshow(plane.T, origin='lower', vmin=limits[0], vmax=limits[1], **{'cmap': 'gray'} | options)
    axis.set_title(title, fontsize=10)
    axis.axis('off')


def draw_chi(folder):
    chi = volume(process(head_of_pipeline(folder)), 'desc-tv_Chimap')
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout='constrained')
    for axis, cut in zip(axes, PIPELINE_CUTS.values()):
        show(axis, chi[cut], limits=(-.1, .15))
    return figure


def draw_outputs(folder):
    bids = folder / 'bleeds' / 'bids'
    subprocess.run([sys.executable, '-m', 'qsmbids.cli.simulate', bids, '--participants', '1', '--microbleeds', '3',
                    '--seed', '3'], check=True)
    out, anat = process(bids), bids / 'sub-01' / 'anat'
    regions = volume(out, 'desc-network_dseg')
    cut = np.s_[:, :, int(np.median(np.nonzero(regions == BY_NAME['Putamen_L'].index)[2]))]
    maps = {'magnitude, echo 1': (volume(anat, 'echo-1_part-mag_MEGRE'), (None, None)),
            'phase, echo 4': (volume(anat, 'echo-4_part-phase_MEGRE'), (None, None)),
            'desc-total_fieldmap, Hz': (volume(out, 'desc-total_fieldmap'), (-60, 60)),
            'desc-fit_residual': (volume(out, 'desc-fit_residual'), (0, .3)),
            'desc-local_fieldmap, Hz': (volume(out, 'desc-local_fieldmap'), (-4, 4)),
            'desc-tv_Chimap, ppm': (volume(out, 'desc-tv_Chimap'), (-.1, .15)),
            'desc-arlo_R2starmap, 1/s': (volume(out, 'desc-arlo_R2starmap'), (0, 60)),
            'desc-clear_minIP': (volume(out, 'desc-clear_minIP'), (.2, 1.1))}
    figure, axes = plt.subplots(2, 5, figsize=(13, 6.8), layout='constrained')
    for axis, (name, (values, limits)) in zip(axes.flat, maps.items()):
        show(axis, values[cut], name, limits)
    chi = maps['desc-tv_Chimap, ppm'][0]
    show(axes[1, 3], chi[cut], 'desc-network_dseg', (-.1, .15))
    draw_regions(axes[1, 3], regions[cut])
    lesions = volume(out, 'desc-cmb_mask') > 0
    bleed = np.s_[:, :, int(np.argmax(lesions.sum(axis=(0, 1))))]
    show(axes[1, 4], chi[bleed], 'desc-cmb_mask', (-.1, .15))
    if lesions.any():
        axes[1, 4].contour(lesions[bleed].T, [.5], colors='#e41a1c', linewidths=1)
    return figure


def draw_regions(axis, labels):
    for index in np.unique(labels[labels > 0]):
        name = next(name for name, label in BY_NAME.items() if label.index == index)
        axis.contour((labels == index).T, [.5], colors=STRUCTURES[BY_NAME[name].structure.name].colour, linewidths=1)


def draw_backgrounds(folder):
    truth = np.load(head_of_pipeline(folder).parent / 'truth.npz')
    mask, local, total = truth['mask'], truth['local'], truth['field']
    cut = PIPELINE_CUTS['axial']
    figure, axes = plt.subplots(2, 1 + len(BACKGROUND), figsize=(2.1 * (1 + len(BACKGROUND)), 5.2),
                                layout='constrained')
    show(axes[0, 0], np.where(mask, total, 0)[cut], 'total field', (-1, 1))
    show(axes[1, 0], np.where(mask, local, 0)[cut], 'true local field', (-.03, .03))
    for axis, (name, method) in zip(axes[:, 1:].T, BACKGROUND.items()):
        found, known = method.load()(total, mask, (1., 1., 1.))
        show(axis[0], found[cut], name, (-.03, .03))
        show(axis[1], np.where(known, found - local, 0)[cut],
             f'error {nrmse(found, local, known):.0f} %, {100 * known.sum() / mask.sum():.0f} % kept', (-.03, .03))
    return figure


def main():
    drawings = {'chi': draw_chi, 'outputs': draw_outputs, 'backgrounds': draw_backgrounds}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('which', choices=tuple(drawings))
    parser.add_argument('picture', type=Path)
    parser.add_argument('--folder', type=Path, default=Path(tempfile.gettempdir()) / 'qsmbids-benchmark')
    options = parser.parse_args()
    figure = drawings[options.which](options.folder)
    figure.savefig(options.picture, dpi=80, bbox_inches='tight')


if __name__ == '__main__':
    main()
