"""Quality metrics, warnings and the compliance with the consensus, as files."""

from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from qsmbids.core.quality import agreement_metrics, consistency_metrics, quality_metrics
from qsmbids.files import write_json
from qsmbids.headers import load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask
from qsmbids.reports.compliance import compliance
from qsmbids.reports.glass import brain_box

_MASKS = ('brain', 'reliable', 'qsm')
_MAPS = ('residual', 'total_field', 'local_field', 'r2star')


class AssessQualityInputSpec(NumericInputSpec):
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    b0_dir = traits.Tuple(traits.Float, traits.Float, traits.Float, desc='direction of the main field in voxel axes')
    magnitude = File(exists=True, mandatory=True, desc='4D, echo last')
    brain = File(exists=True, mandatory=True)
    reliable = File(exists=True)
    qsm = File(exists=True)
    residual = File(exists=True)
    total_field = File(exists=True, desc='ppm')
    local_field = File(exists=True, desc='ppm')
    r2star = File(exists=True, desc='1/s')
    chi = InputMultiObject(File(exists=True), desc='one map per method, ppm')
    chi_names = traits.List(traits.Str, desc='the methods, in the order of the maps')
    references = InputMultiObject(traits.Dict, desc='metadata of each referenced map')
    lesion_metrics = traits.Dict(desc='numbers of lesions')
    facts = traits.Dict(desc='what is known of the acquisition and the settings')
    notes = traits.List(traits.Str)
    metadata_notes = traits.List(traits.Str)
    field_notes = traits.List(traits.Str)
    metadata_warnings = traits.List(traits.Str)
    input_warnings = traits.List(traits.Str)
    csf_warnings = traits.List(traits.Str)
    reference_warnings = InputMultiObject(traits.List(traits.Str))
    region_warnings = InputMultiObject(traits.List(traits.Str))


class AssessQualityOutputSpec(TraitedSpec):
    quality = File(desc='JSON: metrics, notes, warnings')
    compliance = File(desc='JSON: C1 to C13')


class AssessQuality(NumericInterface):
    input_spec = AssessQualityInputSpec
    output_spec = AssessQualityOutputSpec

    def _compute(self, folder):
        chosen = self.inputs
        volumes = {name: load_mask(getattr(chosen, name)) for name in _MASKS if given(getattr(chosen, name))}
        volumes |= {name: load_array(getattr(chosen, name)) for name in _MAPS if given(getattr(chosen, name))}
        chi = {name: load_array(path) for name, path in zip(given(chosen.chi_names, []), given(chosen.chi, []))}
        metrics = quality_metrics(voxel_size=chosen.voxel_size, magnitude=load_array(chosen.magnitude), chi=chi,
                                  **volumes)
        contradictions, agreement = [], []
        if chi and given(chosen.b0_dir):
            found, contradictions = consistency_metrics(volumes['local_field'], chi, volumes['qsm'], chosen.voxel_size,
                                                        chosen.b0_dir)
            metrics |= found
        if len(chi) > 1:
            found, agreement = agreement_metrics(chi, volumes['qsm'])
            metrics |= found
        metrics |= given(chosen.lesion_metrics, {})
        references = dict(zip(chi, given(chosen.references, [])))
        warnings = [*given(chosen.metadata_warnings, []), *given(chosen.input_warnings, []),
                     *given(chosen.csf_warnings, [])]
        for found in (*given(chosen.reference_warnings, []), *given(chosen.region_warnings, []), contradictions):
            warnings += [w for w in found if w not in warnings]
        content = {'metrics': metrics, 'references': references, 'warnings': warnings,
                   'brain_box_mm': brain_box(volumes['brain'], load_image(chosen.brain).affine),
                   'notes': [note for found in (chosen.metadata_notes, chosen.notes, chosen.field_notes)
                             for note in given(found, [])]}
        if agreement:
            content['agreement'] = agreement
        self._results['quality'] = write_json(folder / 'qc.json', content)
        self._results['compliance'] = write_json(
            folder / 'compliance.json', compliance(given(chosen.facts, {}), metrics, references, warnings))
