"""Masks."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.masks import brain_mask, reliable_mask
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import check_grid, load_array, load_mask, save_array


class BrainMaskInputSpec(NumericInputSpec):
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')


class MaskOutputSpec(TraitedSpec):
    mask = File(desc='uint8')


class BrainMask(NumericInterface):
    input_spec = BrainMaskInputSpec
    output_spec = MaskOutputSpec

    def _compute(self, folder):
        mask = brain_mask(load_array(self.inputs.magnitude), self.inputs.voxel_size)
        self._results['mask'] = save_array(folder / 'brain.nii', mask, self.inputs.magnitude)


class UseMaskInputSpec(NumericInputSpec):
    mask = File(exists=True, mandatory=True, desc='mask of another pipeline')
    like = File(exists=True, mandatory=True, desc='image whose grid it must have')


class UseMask(NumericInterface):
    """Take over the mask of another pipeline after checking that it fits."""

    input_spec = UseMaskInputSpec
    output_spec = MaskOutputSpec

    def _compute(self, folder):
        mask = load_mask(self.inputs.mask)
        check_grid(self.inputs.mask, self.inputs.like)
        self._results['mask'] = save_array(folder / 'brain.nii', mask, self.inputs.like)


class ReliableMaskInputSpec(NumericInputSpec):
    mask = File(exists=True, mandatory=True, desc='brain mask')
    residual = File(exists=True, mandatory=True, desc='relative residual of the echo fit')
    quality = File(exists=True, desc='voxel quality of the unwrapping')
    threshold = traits.Float(0.3, usedefault=True, desc='largest residual to trust')


class ReliableMask(NumericInterface):
    input_spec = ReliableMaskInputSpec
    output_spec = MaskOutputSpec

    def _compute(self, folder):
        quality = given(self.inputs.quality)
        mask = reliable_mask(load_mask(self.inputs.mask), load_array(self.inputs.residual),
                             None if quality is None else load_array(quality), threshold=self.inputs.threshold)
        self._results['mask'] = save_array(folder / 'reliable.nii', mask, self.inputs.mask)
