"""R2*, T2*, S0, R2', and the ventricular fluid that R2* shows."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.methods import RELAXOMETRY
from qsmbids.core.regions import find_csf
from qsmbids.core.relaxometry import fit_r2star, r2_prime
from qsmbids.files import FileError, read_json
from qsmbids.headers import check_grid
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array

PLAUSIBLE_R2 = 2., 200.  # 1/s, of the median of a brain at any field strength


class FitR2StarInputSpec(NumericInputSpec):
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    mask = File(exists=True, mandatory=True)
    echo_times = traits.List(traits.Float, mandatory=True, desc='s')
    method = traits.Enum(*RELAXOMETRY, usedefault=True)


class FitR2StarOutputSpec(TraitedSpec):
    r2star = File(desc='1/s')
    t2star = File(desc='s')
    s0 = File(desc='units of the magnitude')


class FitR2Star(NumericInterface):
    input_spec = FitR2StarInputSpec
    output_spec = FitR2StarOutputSpec

    def _compute(self, folder):
        fit = fit_r2star(load_array(self.inputs.magnitude), self.inputs.echo_times, load_mask(self.inputs.mask),
                         method=self.inputs.method)
        for name in ('r2star', 't2star', 's0'):
            self._results[name] = save_array(folder / f'{name}.nii', getattr(fit, name), self.inputs.mask)


class CsfMaskInputSpec(NumericInputSpec):
    r2star = File(exists=True, mandatory=True, desc='1/s')
    mask = File(exists=True, mandatory=True)
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    age = traits.Float(desc='years, if it is known')


class CsfMaskOutputSpec(TraitedSpec):
    mask = File(desc='uint8; empty if no ventricles were found')
    warnings = traits.List(traits.Str)


class CsfMask(NumericInterface):
    input_spec = CsfMaskInputSpec
    output_spec = CsfMaskOutputSpec

    def _compute(self, folder):
        brain = load_mask(self.inputs.mask)
        mask, self._results['warnings'] = find_csf(load_array(self.inputs.r2star), brain, self.inputs.voxel_size,
                                                   given(self.inputs.age))
        self._results['mask'] = save_array(folder / 'csf.nii', mask, self.inputs.mask)


class R2PrimeInputSpec(NumericInputSpec):
    r2star = File(exists=True, mandatory=True, desc='1/s')
    mask = File(exists=True, mandatory=True)
    r2_map = File(exists=True, desc='R2map in 1/s or T2map in s')
    r2 = traits.Float(desc='R2 of all tissue in 1/s, where there is no map')


class R2PrimeOutputSpec(TraitedSpec):
    r2prime = File(desc='1/s')


class R2Prime(NumericInterface):
    input_spec = R2PrimeInputSpec
    output_spec = R2PrimeOutputSpec

    def _compute(self, folder):
        mask, path = load_mask(self.inputs.mask), given(self.inputs.r2_map)
        r2 = self.inputs.r2 if path is None else load_r2(path, self.inputs.mask)
        volume = r2_prime(load_array(self.inputs.r2star), r2, mask)
        self._results['r2prime'] = save_array(folder / 'r2prime.nii', volume, self.inputs.mask)


def load_r2(path, mask):
    """Return R2 in 1/s from an R2map or T2map that lies on the grid of the image `mask`.

    Raises
    ------
    FileError
        If the grid is another, or the values in the mask cannot be those of a brain.
    """
    check_grid(path, mask)
    volume, inside = load_array(path), load_mask(mask)
    if Path(path).name.split('_')[-1].startswith('T2map'):
        sidecar = Path(path.removesuffix('.gz').removesuffix('.nii') + '.json')
        units = read_json(sidecar).get('Units') if sidecar.is_file() else None
        scale = np.float32(1e-3 if units == 'ms' else 1)
        volume = np.divide(1, volume * scale, out=np.zeros_like(volume), where=volume > 0)
    values = volume[inside & (volume > 0) & np.isfinite(volume)]
    middle = float(np.median(values)) if values.size else 0.
    low, high = PLAUSIBLE_R2
    if not low < middle < high:
        raise FileError(f'{path}: the median R2 of the brain would be {middle:.3g} per second, which cannot be. An '
                        'R2map must be in 1/s; a T2map in s, or in ms if its sidecar says so.')
    return volume
