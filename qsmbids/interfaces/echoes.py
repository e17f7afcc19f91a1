"""From raw images to magnitude and phase in radians."""

from nipype.interfaces.base import File, TraitedSpec, traits

from qsmbids.core.echoes import combine_magnitude
from qsmbids.core.methods import PHASE_SIGNS
from qsmbids.files import FileError
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, files, given
from qsmbids.interfaces.channels import read_echoes
from qsmbids.interfaces.images import save_array


class PrepareEchoesInputSpec(NumericInputSpec):
    magnitude = files(desc='one file per echo, 4D if it holds channels, or one 4D file of all echoes')
    phase = files(desc='the same for the phase')
    real = files(desc='the same for the real part')
    imaginary = files(desc='the same for the imaginary part')
    phase_units = traits.Str(desc='Units of the phase sidecar')
    echo_times = traits.List(traits.Float, desc='s; needed for channels')
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, desc='mm; needed for channels')
    manufacturer = traits.Str(desc='Manufacturer of the sidecar')
    phase_sign = traits.Enum(*PHASE_SIGNS, usedefault=True, desc='whether the stored phase grows with the field')


class PrepareEchoesOutputSpec(TraitedSpec):
    magnitude = File(desc='4D, echo last')
    phase = File(desc='4D, echo last, rad')
    combined = File(desc='3D, root mean square over the echoes')
    notes = traits.List(traits.Str, desc='what was done')
    warnings = traits.List(traits.Str, desc='what to check')


class PrepareEchoes(NumericInterface):
    input_spec = PrepareEchoesInputSpec
    output_spec = PrepareEchoesOutputSpec

    def _compute(self, folder):
        paths = {name: given(getattr(self.inputs, name)) for name in ('magnitude', 'phase', 'real', 'imaginary')}
        paths = {name: found for name, found in paths.items() if found}
        first = next(iter(paths.values()))[0]
        try:
            echoes = read_echoes(paths, folder, echo_times=given(self.inputs.echo_times),
                                 voxel_size=given(self.inputs.voxel_size), phase_units=given(self.inputs.phase_units),
                                 manufacturer=given(self.inputs.manufacturer), phase_sign=self.inputs.phase_sign)
        except ValueError as error:
            raise FileError(f'{first}: {error}. Check this file and its siblings.') from None
        self._results['magnitude'] = save_array(folder / 'magnitude.nii', echoes.magnitude, first)
        self._results['combined'] = save_array(folder / 'combined.nii', combine_magnitude(echoes.magnitude), first)
        if echoes.phase is not None:
            self._results['phase'] = save_array(folder / 'phase.nii', echoes.phase, first)
        self._results['notes'], self._results['warnings'] = list(echoes.notes), list(echoes.warnings)
