"""Background removal, dipole inversion, referencing."""

from dataclasses import asdict

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.inversion.solve import solve
from qsmbids.core.methods import BACKGROUND, INVERSION, REFERENCES
from qsmbids.core.regions import reference_chi
from qsmbids.interfaces.base import GridInputSpec, NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask, save_array
from qsmbids.networks.shipped import sha256, shipped


class RemoveBackgroundInputSpec(GridInputSpec):
    field = File(exists=True, mandatory=True, desc='total field, ppm')
    mask = File(exists=True, mandatory=True, desc='where the field is trusted')
    weight = File(exists=True, desc='how much each voxel counts, 0 to 1, for methods that can weigh')
    within = File(exists=True, desc='brain mask: of the result, its part in here')
    method = traits.Enum(*BACKGROUND, usedefault=True)
    parameters = traits.Dict(traits.Str, desc='other than the defaults')


class RemoveBackgroundOutputSpec(TraitedSpec):
    field = File(desc='local field, ppm')
    mask = File(desc='where the local field is known')


class RemoveBackground(NumericInterface):
    input_spec = RemoveBackgroundInputSpec
    output_spec = RemoveBackgroundOutputSpec

    def _compute(self, folder):
        method = BACKGROUND[self.inputs.method]
        weight = given(self.inputs.weight)
        field, mask = method.load()(load_array(self.inputs.field), load_mask(self.inputs.mask), self.inputs.voxel_size,
                                    b0_dir=self.inputs.b0_dir, **{'weight': load_array(weight)} if weight else {},
                                    **method.arguments(given(self.inputs.parameters)))
        if within := given(self.inputs.within):
            brain = load_mask(within)
            field, mask = field * brain, mask & brain
        self._results['field'] = save_array(folder / 'local.nii', field, self.inputs.field)
        self._results['mask'] = save_array(folder / 'qsm_mask.nii', mask, self.inputs.field)


class InvertInputSpec(GridInputSpec):
    field = File(exists=True, mandatory=True, desc='local field, ppm')
    mask = File(exists=True, mandatory=True, desc='where it is known')
    weight = File(exists=True, desc='how much each voxel counts, 0 to 1, for methods that can weigh')
    magnitude = File(exists=True, desc='for methods that take edges from it')
    csf = File(exists=True, desc='mask of ventricular fluid, for methods that make it uniform')
    method = traits.Enum(*INVERSION, usedefault=True)
    parameters = traits.Dict(traits.Str, desc='other than the defaults')


class InvertOutputSpec(TraitedSpec):
    chi = File(desc='susceptibility, ppm')
    companions = traits.List(File(exists=True), desc='maps beside it, in the order of the table of methods')
    metadata = traits.Dict(desc='parameters as used, for the sidecar')
    warnings = traits.List(traits.Str)


class Invert(NumericInterface):
    input_spec = InvertInputSpec
    output_spec = InvertOutputSpec

    def _compute(self, folder):
        beside = {name: load_array(path) for name in ('weight', 'magnitude', 'csf')
                  if (path := given(getattr(self.inputs, name)))}
        if 'csf' in beside:
            beside['csf'] = beside['csf'] > 0.5
        found = solve(self.inputs.method, load_array(self.inputs.field), load_mask(self.inputs.mask),
                      self.inputs.voxel_size, b0_dir=self.inputs.b0_dir, parameters=given(self.inputs.parameters),
                      **beside)
        self._results['chi'] = save_array(folder / 'chi.nii', found.chi, self.inputs.field)
        self._results['metadata'] = {'EstimationParameters': found.parameters,
                                     'AutomaticParameters': list(found.automatic)}
        if weights := found.parameters.get('weights'):
            self._results['metadata']['WeightsSHA256'] = sha256(shipped(weights))
        self._results['companions'] = [save_array(folder / f'{name}.nii', volume, self.inputs.field)
                                       for name, volume in found.companions.items()]
        self._results['warnings'] = list(found.warnings)


class ReferenceChiInputSpec(NumericInputSpec):
    chi = File(exists=True, mandatory=True, desc='susceptibility, ppm')
    mask = File(exists=True, mandatory=True, desc='where it is known')
    csf = File(exists=True, desc='mask of ventricular fluid')
    region = traits.Enum(*REFERENCES, usedefault=True, desc='whose mean becomes zero')
    estimation = traits.Dict(desc='how the map was computed, for the sidecar')
    warnings = traits.List(traits.Str, desc='of the inversion')


class ReferenceChiOutputSpec(TraitedSpec):
    chi = File(desc='susceptibility, ppm, relative to the reference')
    metadata = traits.Dict(desc='for the sidecar: SusceptibilityReference, all references, and what was given')
    warnings = traits.List(traits.Str)


class ReferenceChi(NumericInterface):
    input_spec = ReferenceChiInputSpec
    output_spec = ReferenceChiOutputSpec

    def _compute(self, folder):
        csf = given(self.inputs.csf)
        result = reference_chi(load_array(self.inputs.chi), load_mask(self.inputs.mask),
                               None if csf is None else load_array(csf) > 0.5, self.inputs.region)
        self._results['chi'] = save_array(folder / 'chi.nii', result.chi, self.inputs.chi)
        self._results['metadata'] = {'SusceptibilityReference': result.used,
                                     'References': {r.name: asdict(r) for r in result.references},
                                     **given(self.inputs.estimation, {})}
        self._results['warnings'] = [*given(self.inputs.warnings, []), *result.warnings]
