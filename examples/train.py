"""Train a network for your own protocol, and use it: measure your noise, write a recipe, train, invert.

    python examples/train.py [FOLDER] [STEPS]

Here with a network that is far too small, for a few steps, to show the way in a minute. What comes along was trained
for about an hour (the recipes in qsmbids/training/recipes). Stopped at any time, the same command goes on.
"""

import sys
from pathlib import Path

import numpy as np

from qsmbids import reconstruct
from qsmbids.cli.train import main as qsmbids_train
from qsmbids.core.inversion.solve import solve
from qsmbids.core.inversion.strength import noise_share
from qsmbids.core.metrics import nrmse
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate

# Label maps of heads would go under `anatomies`; without them the head from code is the only anatomy. Shapes instead of
# heads (`kind`) are quick to make. For a real training: kind "heads", width 32, patch 64, 2000 steps.
RECIPE = '''\
network = "pocsnet2"
steps = {steps}
validate_every = {steps}
warmup = 4

[architecture]
width = 4
unrolls = 1

[stream]
kind = "shapes"
noise = {noise:.3f}
patch = 24
heads = 2
patches = 8
batch = 4
'''


def main(folder, steps):
    # One of your scans: here a simulated one, so that the result can be scored.
    voxel, shape, echo_times = (3., 3., 3.), (58, 70, 56), (.004, .012, .020, .028)
    affine = np.diag([*voxel, 1.])
    affine[:3, 3] = np.array([0, -17, 12]) - np.array(voxel) * (np.array(shape) - 1) / 2
    scan = simulate(lambda size, grid: digital_head(size, grid, seed=5),
                    Sequence(shape, affine, echo_times, snr=40, supersampling=1), seed=6, surround_mm=40)
    mine = reconstruct(np.angle(scan.signal), np.abs(scan.signal), echo_times, b0_tesla=3, affine=affine)

    # How noisy its field is: errors over the local field, both as SD. The network is trained with that.
    share = noise_share(mine.local_field, mine.qsm_mask, voxel)
    noise = float(np.sqrt(share / (1 - share)))
    print(f'{share:.0%} of the power of the local field are no field of any map: noise = {noise:.2f}')

    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'mine.toml').write_text(RECIPE.format(steps=steps, noise=noise))
    qsmbids_train([str(folder / 'mine.toml'), str(folder / 'run'), '--device', 'cpu'])
    print((folder / 'run' / 'log.csv').read_text())

    # On the command line: qsmbids-tool invert --method pocsnet2 -p weights=FOLDER/best.safetensors ...
    weights = str(folder / 'run' / 'best.safetensors')
    for name, parameters in (('tikhonov', {}), ('pocsnet2', {'weights': weights, 'flips': 1})):
        chi = solve(name, mine.local_field, mine.qsm_mask, voxel, parameters=parameters).chi
        print(f'{name:10s} NRMSE {nrmse(chi, scan.chi, scan.mask):5.1f} %')


# The patches are made by a process of its own, which imports this file.
if __name__ == '__main__':
    main(Path(sys.argv[1] if len(sys.argv) > 1 else 'build/examples') / 'train',
         int(sys.argv[2]) if len(sys.argv) > 2 else 12)
