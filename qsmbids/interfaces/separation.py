"""Chi separation."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.separation import separate_sources
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface
from qsmbids.interfaces.images import load_array, load_mask, save_array


class SeparateSourcesInputSpec(NumericInputSpec):
    chi = File(exists=True, mandatory=True, desc='susceptibility, ppm')
    r2prime = File(exists=True, mandatory=True, desc='1/s')
    mask = File(exists=True, mandatory=True, desc='where the susceptibility is known')
    b0_tesla = traits.Float(mandatory=True, desc='field strength')


class SeparateSourcesOutputSpec(TraitedSpec):
    positive = File(desc='of paramagnetic sources, ppm')
    negative = File(desc='of diamagnetic sources, ppm')


class SeparateSources(NumericInterface):
    input_spec = SeparateSourcesInputSpec
    output_spec = SeparateSourcesOutputSpec

    def _compute(self, folder):
        sources = separate_sources(load_array(self.inputs.chi), load_array(self.inputs.r2prime),
                                   load_mask(self.inputs.mask), self.inputs.b0_tesla)
        for name in ('positive', 'negative'):
            self._results[name] = save_array(folder / f'{name}.nii', getattr(sources, name), self.inputs.chi)
