"""R2*, T2*, S0, and the ventricular fluid that R2* shows."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.methods import RELAXOMETRY
from qsmbids.core.regions import find_csf
from qsmbids.core.relaxometry import fit_r2star
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface
from qsmbids.interfaces.images import load_array, load_mask, save_array


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


class CsfMaskOutputSpec(TraitedSpec):
    mask = File(desc='uint8; empty if no ventricles were found')
    warnings = traits.List(traits.Str)


class CsfMask(NumericInterface):
    input_spec = CsfMaskInputSpec
    output_spec = CsfMaskOutputSpec

    def _compute(self, folder):
        brain = load_mask(self.inputs.mask)
        mask, self._results['warnings'] = find_csf(load_array(self.inputs.r2star), brain, self.inputs.voxel_size)
        self._results['mask'] = save_array(folder / 'csf.nii', mask, self.inputs.mask)
