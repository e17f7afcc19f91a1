"""A first map in a notebook: read the echoes, reconstruct, look.

    python examples/first_map.py [FOLDER]

The scan is one of `data/testbids`: a simulated head of 4 mm, 3 echoes. The picture goes into the folder.
"""

import json
import sys
from pathlib import Path

import matplotlib
import nibabel
import numpy as np

from qsmbids import reconstruct

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'build/examples')
folder.mkdir(parents=True, exist_ok=True)
anat = Path(__file__).parents[1] / 'data/testbids/sub-01/ses-baseline/anat'

# The echoes, along the last axis, and what their sidecars say.
files = {part: sorted(anat.glob(f'*part-{part}_MEGRE.nii.gz')) for part in ('mag', 'phase')}
images = {part: [nibabel.load(path) for path in paths] for part, paths in files.items()}
magnitude, phase = (np.stack([image.get_fdata(dtype=np.float32) for image in images[part]], -1)
                    for part in ('mag', 'phase'))
sidecars = [json.loads(Path(str(path).replace('.nii.gz', '.json')).read_text()) for path in files['phase']]

result = reconstruct(phase, magnitude, [sidecar['EchoTime'] for sidecar in sidecars],
                     b0_tesla=sidecars[0]['MagneticFieldStrength'],
                     imaging_frequency_mhz=sidecars[0].get('ImagingFrequency'), affine=images['mag'][0].affine,
                     phase_units=sidecars[0]['Units'], manufacturer=sidecars[0]['Manufacturer'])

print('chi:', result.chi.shape, f'SD {1000 * result.chi[result.qsm_mask].std():.1f} ppb')
print('zero:', result.reference)
for region in result.references:
    print(f'    {region.name}: {1000 * region.mean:+.1f} +- {1000 * region.sd:.1f} ppb, {region.voxels} voxels')
print('parameters:', {name: round(value, 6) for name, value in result.parameters.items()})
print('chosen from the field:', ', '.join(result.automatic))
print('R2*:', f'{np.median(result.relaxation.r2star[result.brain_mask]):.1f} 1/s, median of the brain')
print('notes:', *result.notes, sep='\n    ')
print('warnings:', *(result.warnings or ('none',)), sep='\n    ')

middle = result.chi.shape[2] // 2
panels = {'magnitude': magnitude[..., 0], 'phase, rad': phase[..., -1], 'local field, ppm': result.local_field,
          'chi, ppm': result.chi, 'R2*, 1/s': result.relaxation.r2star}
limits = {'local field, ppm': (-.02, .02), 'chi, ppm': (-.05, .08), 'R2*, 1/s': (0, 50)}
figure, axes = plt.subplots(1, len(panels), figsize=(12, 3))
for axis, (name, volume) in zip(axes, panels.items()):
    axis.imshow(volume[:, :, middle].T, origin='lower', cmap='gray',
                **dict(zip(('vmin', 'vmax'), limits.get(name, ()))))
    axis.set_title(name, fontsize=10)
    axis.axis('off')
figure.tight_layout()
figure.savefig(folder / 'first_map.png', dpi=80)

# As NIfTI, on the grid of the scan.
nibabel.save(nibabel.Nifti1Image(result.chi, images['mag'][0].affine), folder / 'chi.nii.gz')
