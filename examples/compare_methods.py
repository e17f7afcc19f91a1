"""Which inversion suits a protocol: the same simulated scan by several of them, scored against the truth.

    python examples/compare_methods.py [FOLDER] [METHOD ...]

Simulate what you scan (voxels, echo times, field strength, SNR, tilt) and look at error, fine detail and the slope of
the deep nuclei; then look at the pictures. The whole table on heads of 1 mm is in docs/benchmarks.md.
"""

import sys
import time
from pathlib import Path

import matplotlib
import numpy as np

from qsmbids import reconstruct
from qsmbids.core.inversion.solve import solve
from qsmbids.core.metrics import hfen, linear_fit, nrmse, xsim
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate
from qsmbids.simulation.tissues import LABELS, NUCLEI

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'build/examples')
folder.mkdir(parents=True, exist_ok=True)
methods = sys.argv[2:] or ('tv', 'star', 'medi', 'rts', 'ndi', 'tkd')

# Your protocol.
voxel, shape, echo_times = (3., 3., 3.), (58, 70, 56), (.004, .012, .020, .028)
affine = np.diag([*voxel, 1.])
affine[:3, 3] = np.array([0, -17, 12]) - np.array(voxel) * (np.array(shape) - 1) / 2
scan = simulate(lambda size, grid: digital_head(size, grid, seed=5),
                Sequence(shape, affine, echo_times, b0_tesla=3., snr=40, supersampling=1), seed=6, surround_mm=40)

# One way to the local field, then every inversion on it.
first = reconstruct(np.angle(scan.signal), np.abs(scan.signal), echo_times, b0_tesla=3, affine=affine,
                    inversion=methods[0])
nuclei = np.isin(scan.labels, [LABELS[name] for name in NUCLEI]) & first.qsm_mask
maps = {'truth': np.where(scan.mask, scan.chi - scan.chi[scan.mask].mean(), 0)}
print(f'{"method":10s} {"NRMSE %":>8s} {"HFEN %":>8s} {"XSIM":>6s} {"slope":>6s} {"CPU s":>6s}   chosen from the field')
for name in methods:
    start = time.process_time()
    found = solve(name, first.local_field, first.qsm_mask, voxel, magnitude=np.abs(scan.signal[..., 0]))
    seconds = time.process_time() - start
    chi = maps[name] = np.where(first.qsm_mask, found.chi - found.chi[first.qsm_mask].mean(), 0)
    print(f'{name:10s} {nrmse(chi, scan.chi, scan.mask):8.1f} {hfen(chi, scan.chi, scan.mask):8.1f} '
          f'{xsim(chi, maps["truth"], scan.mask):6.3f} {linear_fit(chi, scan.chi, nuclei).slope:6.2f} {seconds:6.1f}   '
          + ', '.join(f'{key} {found.parameters[key]:.3g}' for key in found.automatic))

figure, axes = plt.subplots(1, len(maps), figsize=(2.2 * len(maps), 3))
for axis, (name, chi) in zip(axes, maps.items()):
    axis.imshow(chi[:, :, 25].T, origin='lower', cmap='gray', vmin=-.08, vmax=.12)
    axis.set_title(name, fontsize=10)
    axis.axis('off')
figure.tight_layout()
figure.savefig(folder / 'compare_methods.png', dpi=80)
