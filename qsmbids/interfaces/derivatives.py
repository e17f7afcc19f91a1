"""Derivatives: an image or table under its BIDS name, with a sidecar."""

import shutil
from pathlib import Path

import nibabel
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, traits

from qsmbids.files import write_atomically, write_json
from qsmbids.headers import load_image
from qsmbids.interfaces.base import given


class WriteDerivativeInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    output_dir = traits.Directory(mandatory=True)
    path = traits.Str(mandatory=True, desc='relative to output_dir')
    metadata = traits.Dict(desc='sidecar')
    origin = traits.Dict(desc='more of the sidecar: that of the map which this one was made from')
    extra = traits.Dict(desc='more of the sidecar, known only when the node runs')


class WriteDerivativeOutputSpec(TraitedSpec):
    out_file = File()


class WriteDerivative(SimpleInterface):
    """Copy a file to its place; runs always, so that what was deleted comes back, but writes only what changed."""

    input_spec = WriteDerivativeInputSpec
    output_spec = WriteDerivativeOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        target = Path(self.inputs.output_dir) / self.inputs.path
        source = Path(self.inputs.in_file)
        if not (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
            if target.name.endswith('.nii.gz'):
                # The voxels go through as they are stored; nibabel compresses them at its fast default level.
                image = load_image(source)
                write_atomically(target, lambda temporary: nibabel.save(image, temporary))
            else:
                write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
        sidecar = given(self.inputs.metadata, {}) | given(self.inputs.origin, {}) | given(self.inputs.extra, {})
        if sidecar:
            write_json(target.with_name(target.name.split('.')[0] + '.json'), sidecar)
        self._results['out_file'] = str(target)
        return runtime
