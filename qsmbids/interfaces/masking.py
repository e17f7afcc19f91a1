"""Masks."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.masks import find_brain, merge_two_pass, reliable_mask, two_pass_masks, widen_mask
from qsmbids.core.methods import MASKING
from qsmbids.headers import check_grid, load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array


class BrainMaskInputSpec(NumericInputSpec):
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    method = traits.Enum(*MASKING, usedefault=True)


class MaskOutputSpec(TraitedSpec):
    mask = File(desc='uint8')


class BrainMask(NumericInterface):
    input_spec = BrainMaskInputSpec
    output_spec = MaskOutputSpec

    def _compute(self, folder):
        magnitude = self.inputs.magnitude
        mask = find_brain(self.inputs.method, load_array(magnitude), self.inputs.voxel_size,
                          load_image(magnitude).affine)
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


class WidenMaskInputSpec(NumericInputSpec):
    mask = File(exists=True, mandatory=True, desc='brain mask')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    margin = traits.Float(mandatory=True, desc='mm')


class WidenMask(NumericInterface):
    input_spec = WidenMaskInputSpec
    output_spec = MaskOutputSpec

    def _compute(self, folder):
        mask = widen_mask(load_mask(self.inputs.mask), self.inputs.voxel_size, self.inputs.margin)
        self._results['mask'] = save_array(folder / 'wide.nii', mask, self.inputs.mask)


class TrustInputSpec(NumericInputSpec):
    mask = File(exists=True, mandatory=True, desc='where the field was computed')
    residual = File(exists=True, mandatory=True, desc='relative residual of the echo fit')
    quality = File(exists=True, desc='voxel quality of the unwrapping')
    threshold = traits.Float(0.3, usedefault=True, desc='largest residual to trust')


class ReliableMaskInputSpec(TrustInputSpec):
    brain = File(exists=True, mandatory=True, desc='brain mask')
    erosion = traits.Bool(False, usedefault=True, desc='take a voxel off everywhere')


class ReliableMaskOutputSpec(MaskOutputSpec):
    brain = File(desc='the part of the mask inside the brain, uint8')


class ReliableMask(NumericInterface):
    input_spec = ReliableMaskInputSpec
    output_spec = ReliableMaskOutputSpec

    def _compute(self, folder):
        quality, brain = given(self.inputs.quality), load_mask(self.inputs.brain)
        mask = reliable_mask(load_mask(self.inputs.mask), load_array(self.inputs.residual),
                             None if quality is None else load_array(quality), within=brain,
                             threshold=self.inputs.threshold, erosion=self.inputs.erosion)
        self._results['mask'] = save_array(folder / 'trusted.nii', mask, self.inputs.mask)
        self._results['brain'] = save_array(folder / 'reliable.nii', mask & brain, self.inputs.mask)


class TwoPassMasksInputSpec(TrustInputSpec):
    reliable = File(exists=True, mandatory=True, desc='where the echo fit is trusted')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')


class TwoPassMasksOutputSpec(TraitedSpec):
    strict = File(desc='of the first pass, uint8')
    filled = File(desc='of the second pass, uint8')


class TwoPassMasks(NumericInterface):
    input_spec = TwoPassMasksInputSpec
    output_spec = TwoPassMasksOutputSpec

    def _compute(self, folder):
        quality = given(self.inputs.quality)
        masks = two_pass_masks(load_mask(self.inputs.mask), load_mask(self.inputs.reliable),
                               load_array(self.inputs.residual), None if quality is None else load_array(quality),
                               self.inputs.voxel_size, threshold=self.inputs.threshold)
        for name, mask in zip(('strict', 'filled'), masks):
            self._results[name] = save_array(folder / f'{name}.nii', mask, self.inputs.mask)


class MergeTwoPassInputSpec(NumericInputSpec):
    chi = File(exists=True, mandatory=True, desc='of the first pass, ppm; or a field')
    reliable = File(exists=True, mandatory=True, desc='where it is known')
    filled_chi = File(exists=True, mandatory=True, desc='of the second pass')
    filled = File(exists=True, mandatory=True, desc='where that is known')
    align = traits.Bool(True, usedefault=True, desc='bring both to one zero')


class MergeTwoPassOutputSpec(TraitedSpec):
    chi = File(desc='ppm')
    mask = File(desc='where either is known, uint8')


class MergeTwoPass(NumericInterface):
    input_spec = MergeTwoPassInputSpec
    output_spec = MergeTwoPassOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        chi, mask = merge_two_pass(load_array(chosen.chi), load_mask(chosen.reliable), load_array(chosen.filled_chi),
                                   load_mask(chosen.filled), align=chosen.align)
        self._results['chi'] = save_array(folder / 'merged.nii', chi, chosen.chi)
        self._results['mask'] = save_array(folder / 'merged_mask.nii', mask, chosen.chi)
