"""What all numerical interfaces share: threads, the working directory, and errors that name their input."""

from pathlib import Path

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, SimpleInterface, isdefined, traits

from qsmbids.core.threads import use_threads


class NumericInputSpec(BaseInterfaceInputSpec):
    num_threads = traits.Range(low=1, value=1, usedefault=True, nohash=True, desc='threads to use')


class GridInputSpec(NumericInputSpec):
    voxel_size = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True, desc='mm')
    b0_dir = traits.Tuple(traits.Float, traits.Float, traits.Float, mandatory=True,
                          desc='direction of the main field in voxel axes')


class NumericInterface(SimpleInterface):
    """Run :meth:`_compute` with the number of threads asked for, in the node's own directory."""

    def _run_interface(self, runtime):
        with use_threads(self.inputs.num_threads):
            self._compute(Path(runtime.cwd))
        return runtime

    def _compute(self, folder):
        raise NotImplementedError


def given(value, default=None):
    """Return the value of a trait, or `default` if it was not set."""
    return value if isdefined(value) else default


def files(**kwargs):
    """A trait for one or more existing files, in order."""
    return InputMultiObject(File(exists=True), **kwargs)
