"""Field maps."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.certainty import data_weight
from qsmbids.core.fieldmap import total_field
from qsmbids.core.mending import mend_field
from qsmbids.core.methods import BIPOLAR, ECHO_FITS, OFFSETS, UNWRAPPING, WEIGHTINGS
from qsmbids.core.phase import ppm_to_hz
from qsmbids.interfaces.base import GridInputSpec, NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array


class TotalFieldInputSpec(NumericInputSpec):
    phase = File(exists=True, mandatory=True, desc='4D, echo last, rad')
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    mask = File(exists=True, mandatory=True, desc='where to compute')
    echo_times = traits.List(traits.Float, mandatory=True, desc='s')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    center_frequency_hz = traits.Float(mandatory=True, desc='turns Hz into ppm')
    offset = traits.Enum(*OFFSETS, usedefault=True)
    unwrapping = traits.Enum(*UNWRAPPING, usedefault=True)
    fit = traits.Enum(*ECHO_FITS, usedefault=True)
    bipolar = traits.Enum(*BIPOLAR, usedefault=True, desc='whether to correct a phase that alternates between echoes')


class TotalFieldOutputSpec(TraitedSpec):
    field = File(desc='ppm')
    residual = File(desc='relative residual of the echo fit')
    quality = File(desc='voxel quality of the unwrapping')
    unwrapped = File(desc='unwrapped phase of the last echo, rad')
    notes = traits.List(traits.Str, desc='what was done')


class TotalField(NumericInterface):
    input_spec = TotalFieldInputSpec
    output_spec = TotalFieldOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        result = total_field(load_array(chosen.phase), load_array(chosen.magnitude), chosen.echo_times,
                             load_mask(chosen.mask), chosen.voxel_size, chosen.center_frequency_hz,
                             offset=chosen.offset, unwrapping=chosen.unwrapping, fit=chosen.fit,
                             bipolar=chosen.bipolar)
        self._results['notes'] = list(result.notes)
        for name, volume in (('field', result.field), ('residual', result.residual), ('quality', result.quality),
                             ('unwrapped', result.unwrapped[..., -1])):
            self._results[name] = save_array(folder / f'{name}.nii', volume, chosen.mask)


class MendFieldInputSpec(GridInputSpec):
    field = File(exists=True, mandatory=True, desc='total field, ppm')
    mask = File(exists=True, mandatory=True, desc='where it is to be used')
    residual = File(exists=True, mandatory=True, desc='relative residual of the echo fit')
    quality = File(exists=True, mandatory=True, desc='voxel quality of the unwrapping')
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    echo_times = traits.List(traits.Float, mandatory=True, desc='s')
    center_frequency_hz = traits.Float(mandatory=True, desc='turns Hz into ppm')
    threshold = traits.Float(0.3, usedefault=True, desc='largest residual and least quality to trust')
    notes = traits.List(traits.Str, desc='what was done before')


class MendFieldOutputSpec(TraitedSpec):
    field = File(desc='ppm')
    notes = traits.List(traits.Str, desc='what was done')


class MendField(NumericInterface):
    input_spec = MendFieldInputSpec
    output_spec = MendFieldOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        result = mend_field(load_array(chosen.field), load_mask(chosen.mask), load_array(chosen.residual),
                            load_array(chosen.quality), load_array(chosen.magnitude), chosen.echo_times,
                            chosen.voxel_size, chosen.center_frequency_hz, b0_dir=chosen.b0_dir,
                            threshold=chosen.threshold)
        self._results['field'] = save_array(folder / 'field.nii', result.field, chosen.field)
        self._results['notes'] = [*given(chosen.notes, []), *result.notes]


class DataWeightInputSpec(NumericInputSpec):
    weighting = traits.Enum(*WEIGHTINGS, mandatory=True, desc='by what voxels are weighed')
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    residual = File(exists=True, mandatory=True, desc='relative residual of the echo fit')
    mask = File(exists=True, mandatory=True, desc='where to weigh')
    echo_times = traits.List(traits.Float, mandatory=True, desc='s')
    threshold = traits.Float(0.3, usedefault=True, desc='residual that counts as nothing')


class DataWeightOutputSpec(TraitedSpec):
    weight = File(desc='0 to 1')


class DataWeight(NumericInterface):
    input_spec = DataWeightInputSpec
    output_spec = DataWeightOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        magnitude = load_array(chosen.magnitude) if chosen.weighting == 'certainty' else None
        weight = data_weight(chosen.weighting, magnitude, load_array(chosen.residual),
                             chosen.echo_times, load_mask(chosen.mask), chosen.threshold)
        self._results['weight'] = save_array(folder / 'weight.nii', weight, chosen.residual)


class FieldToHertzInputSpec(NumericInputSpec):
    field = File(exists=True, mandatory=True, desc='ppm')
    center_frequency_hz = traits.Float(mandatory=True)


class FieldToHertzOutputSpec(TraitedSpec):
    field = File(desc='Hz')


class FieldToHertz(NumericInterface):
    input_spec = FieldToHertzInputSpec
    output_spec = FieldToHertzOutputSpec

    def _compute(self, folder):
        field = ppm_to_hz(load_array(self.inputs.field), self.inputs.center_frequency_hz)
        self._results['field'] = save_array(folder / 'field_hz.nii', field, self.inputs.field)
