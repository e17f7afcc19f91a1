"""Susceptibility-weighted images."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.swi import weight_by_susceptibility
from qsmbids.interfaces.base import GridInputSpec, NumericInterface
from qsmbids.interfaces.images import load_array, load_echoes, load_mask, save_array


class WeightBySusceptibilityInputSpec(GridInputSpec):
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    field = File(exists=True, mandatory=True, desc='total field, ppm')
    mask = File(exists=True, mandatory=True, desc='brain')
    trusted = File(exists=True, mandatory=True, desc='where the field is known')
    echo_times = traits.List(traits.Float, mandatory=True, desc='s')


class WeightBySusceptibilityOutputSpec(TraitedSpec):
    swi = File(desc='weighted magnitude')
    minip = File(desc='its minimum-intensity projection')


class WeightBySusceptibility(NumericInterface):
    input_spec = WeightBySusceptibilityInputSpec
    output_spec = WeightBySusceptibilityOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        result = weight_by_susceptibility(load_echoes([chosen.magnitude]), load_array(chosen.field),
                                          load_mask(chosen.mask), load_mask(chosen.trusted), chosen.voxel_size,
                                          echo_times=chosen.echo_times, b0_dir=chosen.b0_dir)
        for name in ('swi', 'minip'):
            self._results[name] = save_array(folder / f'{name}.nii', getattr(result, name), chosen.mask)
