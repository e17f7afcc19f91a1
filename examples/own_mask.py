"""Your own brain mask, in Python and on the command line; what it changes, and what the margin around it is for.

    python examples/own_mask.py [FOLDER]

The scan is a simulated head, so that the truth is known. A mask that ends with the tissue costs the map its rim, unless
the field is computed some way beyond it (`mask_margin`, `--mask-margin`): at least a voxel, so that the default of 2 mm
is not enough for voxels of 3 mm.
"""

import sys
from pathlib import Path

import matplotlib
import nibabel
import numpy as np

from qsmbids import reconstruct
from qsmbids.core.metrics import nrmse
from qsmbids.simulation.bids import write_description, write_scan
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'build/examples') / 'own_mask'

# A scan of 3 mm voxels; `mine` is what you would draw: the tissue of the brain, without the fluid around it.
shape, affine = (58, 70, 56), np.diag([3., 3., 3., 1.])
affine[:3, 3] = np.array([0, -17, 12]) - 1.5 * (np.array(shape) - 1)
scan = simulate(lambda size, grid: digital_head(size, grid, seed=5),
                Sequence(shape, affine, (.004, .012, .020), snr=40, supersampling=1), seed=6, surround_mm=40)
mine = scan.mask


def compute(**options):
    return reconstruct(np.angle(scan.signal), np.abs(scan.signal), (.004, .012, .020), b0_tesla=3, affine=affine,
                       **options)


found = {'found by qsmbids': compute(), 'mine, no margin': compute(mask=mine, mask_margin=0),
         'mine, margin of 3 mm': compute(mask=mine, mask_margin=3)}
print(f'{"mask":22s} {"voxels":>7s} {"NRMSE % in mine":>16s}')
for name, result in found.items():
    print(f'{name:22s} {result.qsm_mask.sum():7d} {nrmse(result.chi, scan.chi, mine):16.1f}')

# The same on the command line: a folder with the mask, named with --derivatives.
write_description(folder / 'bids', 'One scan')
write_scan(folder / 'bids', scan, {'sub': '01'})
place = folder / 'masks' / 'sub-01' / 'anat'
place.mkdir(parents=True, exist_ok=True)
nibabel.save(nibabel.Nifti1Image(mine.astype(np.uint8), affine), place / 'sub-01_desc-brain_mask.nii.gz')
print(f'\nqsmbids {folder / "bids"} {folder / "out"} participant -w {folder / "work"} \\\n'
      f'    -d mine={folder / "masks"} --mask-margin 3')

figure, axes = plt.subplots(1, 4, figsize=(11, 3.4))
maps = {'truth': np.where(mine, scan.chi - scan.chi[mine].mean(), 0)} | {name: r.chi for name, r in found.items()}
for axis, (name, chi) in zip(axes, maps.items()):
    axis.imshow(chi[:, :, 25].T, origin='lower', cmap='gray', vmin=-.06, vmax=.1)
    axis.set_title(name, fontsize=10)
    axis.axis('off')
figure.tight_layout()
figure.savefig(folder.parent / 'own_mask.png', dpi=80, bbox_inches='tight')
