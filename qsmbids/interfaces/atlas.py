"""Registration to a template by antspyx: regions of an atlas on the data, and maps in the space of a template."""

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from qsmbids.core.registration import LEAST_GAIN, align_rigid, resample_volume
from qsmbids.files import write_atomically
from qsmbids.headers import load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array
from qsmbids.interfaces.subcortical import LabelsInterface, translate
from qsmbids.segmentations import read_table

HYBRID = 400.  # what a ppm takes off a T1w image from 0 to 255
LEAST_CORRELATION = .3  # of a map and the template on it, of one contrast


class RegisterTemplateInputSpec(NumericInputSpec):
    template = File(exists=True, mandatory=True, desc='its image')
    contrast = traits.Enum('T1w', 'chi', 'hybrid', 'magnitude', usedefault=True, desc='what that shows')
    name = traits.Str(mandatory=True)
    magnitude = File(exists=True, mandatory=True, desc='3D')
    mask = File(exists=True, mandatory=True, desc='brain')
    chi = File(exists=True, desc='ppm')
    image = File(exists=True, desc='T1w image of the participant')
    quick = traits.Bool(False, usedefault=True, desc='coarse levels alone')


class RegisterTemplateOutputSpec(TraitedSpec):
    to_native = traits.List(File(), desc='transforms of the template to the data, the last first')
    to_template = traits.List(File(), desc='the other way')
    metadata = traits.Dict(desc='for sidecars')
    warnings = traits.List(traits.Str)


class RegisterTemplate(NumericInterface):
    """Bring a template to the data by an affine and a symmetric diffeomorphic transform."""

    input_spec = RegisterTemplateInputSpec
    output_spec = RegisterTemplateOutputSpec

    def _compute(self, folder):
        ants, chosen = import_ants(self.inputs.num_threads), self.inputs
        volume, shown, metadata, warnings = self._fixed()
        fixed = ants.image_read(save_array(folder / 'fixed.nii', volume, chosen.magnitude))
        levels = {'reg_iterations': (20, 10, 0)} if chosen.quick else {'reg_iterations': (70, 50, 20)}
        found = ants.registration(fixed=fixed, moving=ants.image_read(chosen.template), type_of_transform='SyN',
                                  outprefix=str(folder / 'to_native_'), random_seed=1, **levels)
        same = shown == chosen.contrast
        warped, brain = found['warpedmovout'].numpy(), volume != 0
        agreement = float(np.corrcoef(volume[brain], warped[brain])[0, 1])
        if same and agreement < LEAST_CORRELATION:
            warnings.append(f'subcortical: the template {chosen.name} fits the data badly (correlation '
                            f'{agreement:.2f}); look at the outlines of the nuclei')
        self._results |= {
            'to_native': found['fwdtransforms'], 'to_template': found['invtransforms'], 'warnings': warnings,
            'metadata': {'Template': chosen.name, 'TemplateFile': chosen.template, 'Registration': metadata | {
                'Name': 'affine and SyN (antspyx)', 'Fixed': shown, 'Moving': chosen.contrast,
                'Correlation': agreement}}}

    def _fixed(self):
        """Return the participant's image that is most like the template, what it shows, and what is said of it."""
        chosen, mask = self.inputs, load_mask(self.inputs.mask)
        magnitude = load_array(chosen.magnitude) * mask
        if chosen.contrast == 'chi' and given(chosen.chi):
            return load_array(chosen.chi), 'chi', {}, []
        if chosen.contrast in ('T1w', 'hybrid') and given(chosen.image):
            t1w, metadata, warnings = self._on_grid(magnitude, mask)
            if chosen.contrast == 'hybrid' and given(chosen.chi):
                t1w = np.where(mask, t1w - HYBRID * load_array(chosen.chi), 0)
                return t1w.astype(np.float32), 'hybrid', metadata, warnings
            return t1w, 'T1w', metadata, warnings
        return magnitude, 'magnitude', {}, []

    def _on_grid(self, magnitude, mask):
        """Return the T1w image on the grid of the data, from 0 to 255 in the brain."""
        chosen, target, image = self.inputs, load_image(self.inputs.magnitude), load_image(self.inputs.image)
        volume = load_array(chosen.image)
        found = align_rigid(magnitude, target.affine, volume, image.affine, mask)
        there = resample_volume(volume, image.affine, magnitude.shape, target.affine, found.matrix) * mask
        there *= np.float32(255 / max(np.percentile(there[mask], 99), 1e-6))
        warnings = [] if found.gain >= LEAST_GAIN else [
            'subcortical: the T1w image does not fit the magnitude anywhere in particular; look at the outlines']
        return there, {'Image': chosen.image, 'Matrix': found.matrix.tolist(), 'Gain': found.gain}, warnings


class AtlasRegionsInputSpec(NumericInputSpec):
    name = traits.Str(mandatory=True)
    labels = File(exists=True, mandatory=True, desc='label map on the template')
    in_table = File(exists=True, desc="TSV of its indices; FreeSurfer's without it")
    transforms = traits.List(File(), mandatory=True, desc='of the template to the data')
    magnitude = File(exists=True, mandatory=True, desc='the grid')
    registration = traits.Dict(desc='for the sidecar')
    registration_warnings = traits.List(traits.Str)


class AtlasRegions(LabelsInterface):
    """Bring the regions of an atlas to the data by one composed transform."""

    input_spec = AtlasRegionsInputSpec

    def _compute(self, folder):
        ants, chosen = import_ants(self.inputs.num_threads), self.inputs
        meaning = read_table(given(chosen.in_table))
        target = ants.image_read(chosen.magnitude)
        moved = ants.apply_transforms(fixed=target, moving=ants.image_read(chosen.labels),
                                      transformlist=chosen.transforms, interpolator='genericLabel').numpy()
        labels = translate(np.rint(moved).astype(np.int32), meaning)
        self._write(folder, labels, {}, sorted(set(meaning.values())), chosen.magnitude,
                    {'SegmentationSource': f'atlas {chosen.name}', 'SegmentationFile': chosen.labels,
                     'Interpolation': 'Gaussian of each label, the largest share'} | given(chosen.registration, {}),
                    given(chosen.registration_warnings, []))


class ToTemplateInputSpec(NumericInputSpec):
    maps = InputMultiObject(File(exists=True), mandatory=True)
    template = File(exists=True, mandatory=True)
    transforms = traits.List(File(), mandatory=True, desc='of the data to the template')


class ToTemplateOutputSpec(TraitedSpec):
    maps = traits.List(File(), desc='in the order of the input')


class ToTemplate(NumericInterface):
    """Bring maps to the grid of a template by one composed transform and one linear interpolation."""

    input_spec = ToTemplateInputSpec
    output_spec = ToTemplateOutputSpec

    def _compute(self, folder):
        ants, chosen = import_ants(self.inputs.num_threads), self.inputs
        template, found = ants.image_read(chosen.template), []
        for number, path in enumerate(chosen.maps):
            moved = ants.apply_transforms(
                fixed=template, moving=ants.image_read(path), transformlist=chosen.transforms,
                whichtoinvert=[name.endswith('.mat') for name in chosen.transforms], interpolator='linear')
            target = folder / f'map{number}.nii'
            write_atomically(target, lambda temporary, image=moved: ants.image_write(image, temporary))
            found.append(str(target))
        self._results['maps'] = found


def import_ants(threads):
    """Return antspyx, told how many threads to use."""
    import os
    os.environ['ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'] = str(threads)
    import ants
    return ants
