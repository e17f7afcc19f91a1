"""The figures of an acquisition, and the volumes of its viewer, as files beside the page of its participant."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, TraitedSpec, traits

from qsmbids.core.consistency import angle_between, backward_kernel, field_axis
from qsmbids.core.dipole import voxel_size_of
from qsmbids.core.labels import CSF, STRUCTURES
from qsmbids.files import read_tsv, write_atomically
from qsmbids.headers import load_image
from qsmbids.interfaces.base import NumericInputSpec, NumericInterface, given
from qsmbids.interfaces.images import load_array, load_mask
from qsmbids.reports.figures import draw_figure, view_brain
from qsmbids.reports.kernel import draw_kernel
from qsmbids.reports.lesionfigure import draw_lesions
from qsmbids.reports.viewer import pack_viewer

_IMAGES = ('magnitude', 'brain', 'reliable', 'qsm', 'csf', 'phase', 'unwrapped', 'total_field', 'local_field',
           'residual', 'r2star', 'swi', 'minip')


class DrawFiguresInputSpec(NumericInputSpec):
    output_dir = traits.Directory(mandatory=True)
    subject = traits.Str(mandatory=True, desc='label, without sub-')
    stem = traits.Str(mandatory=True, desc='what the names of the files begin with')
    b0_dir = traits.Tuple(traits.Float, traits.Float, traits.Float, desc='direction of the main field in voxel axes')
    magnitude = File(exists=True, mandatory=True, desc='3D, combined over the echoes')
    brain = File(exists=True, mandatory=True, desc='brain mask')
    reliable = File(exists=True, desc='where the echo fit is trusted')
    qsm = File(exists=True, desc='where the susceptibility is known')
    csf = File(exists=True, desc='reference region; shown on R2*')
    phase = File(exists=True, desc='4D, echo last, rad, wrapped')
    unwrapped = File(exists=True, desc='3D, last echo, rad')
    total_field = File(exists=True, desc='ppm')
    local_field = File(exists=True, desc='ppm')
    residual = File(exists=True, desc='relative residual of the echo fit')
    r2star = File(exists=True, desc='1/s')
    swi = File(exists=True, desc='susceptibility-weighted magnitude')
    minip = File(exists=True, desc='its minimum-intensity projection')
    chi = InputMultiObject(File(exists=True), desc='one map per method, ppm')
    chi_names = traits.List(traits.Str, desc='the methods, in the order of the maps')
    companions = InputMultiObject(File(exists=True), desc='maps that networks make beside theirs, ppm')
    companion_names = traits.List(traits.Str, desc='their names, in the order of the maps')
    separated = InputMultiObject(File(exists=True), desc='maps of positive and negative sources, ppm')
    separated_names = traits.List(traits.Str, desc='their names, in the order of the maps')
    regions = File(exists=True, desc='label map; outlined on the first map and on the magnitude')
    lesions = File(exists=True, desc='table of lesions; shown on the first map')
    lesion_chi = File(exists=True, desc='map that they are shown on instead, ppm')


class DrawFiguresOutputSpec(TraitedSpec):
    files = traits.List(File(), desc='PNG, in the order of the page; JSON of the viewer')


class DrawFigures(NumericInterface):
    """Draw what there is; runs always, so that what was deleted comes back, but draws only what changed."""

    input_spec = DrawFiguresInputSpec
    output_spec = DrawFiguresOutputSpec
    _always_run = True

    def _compute(self, folder):
        chosen, view = self.inputs, None
        target = Path(chosen.output_dir) / f'sub-{chosen.subject}' / 'figures'
        self._results['files'] = []
        for desc, job in self._plan().items():
            path = target / f'{chosen.stem}_desc-{desc}_figure.{"json" if job.figure == "viewer" else "png"}'
            self._results['files'].append(str(path))
            if not _is_current(path, job.sources + (chosen.brain,)):
                if view is None:
                    brain = _open(chosen.brain) > 0.5
                    view = view_brain(brain, load_image(chosen.brain).affine)
                content = self._make(job, view, brain)
                write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))

    def _make(self, job, view, brain):
        """Return the content of a file."""
        if job.figure == 'viewer':
            return self._pack(job, view)
        if job.figure == 'kernel':
            return _draw_kernel(job, self.inputs.b0_dir)
        if job.figure == 'background':
            field, mask = load_array(job.volume) - load_array(job.beside[0]), _open(job.beside[1]) > 0.5
            return draw_figure('background', view, {'': field}, mask)
        if job.figure == 'microbleeds':
            return draw_lesions(_open(job.volume), load_image(job.volume).affine, brain, read_tsv(job.beside[0]))
        return _draw_regions(job, brain) if 'regions' in job.figure else _draw(job, view, brain)

    def _pack(self, job, view):
        """Return the volumes of the interactive viewer."""
        regions, lesions = given(self.inputs.regions), given(self.inputs.lesions)
        content = pack_viewer(
            view, load_image(job.volume).affine, magnitude=_open(self.inputs.magnitude),
            chi={name: _open(path) for name, path in zip(self.inputs.chi_names, self.inputs.chi)},
            masks={name: _open(path) > 0.5 for name, path in job.outlines.items()},
            labels=_open(regions) if regions else None, lesions=read_tsv(lesions) if lesions else ())
        return json.dumps(content).encode()

    def _plan(self):
        """Return the figures that the inputs allow, by the ``desc-`` of their files."""
        paths = {name: given(getattr(self.inputs, name)) for name in _IMAGES}
        masks = {name: paths[name] for name in ('brain', 'reliable', 'qsm') if paths[name]}
        plan = {'magnitude': _Job('magnitude', paths['magnitude'], masks)}
        for name in ('phase', 'unwrapped', 'total_field', 'residual', 'local_field'):
            if name == 'local_field' and all(paths[needed] for needed in ('total_field', 'local_field', 'qsm')):
                plan['background'] = _Job('background', paths['total_field'], {}, (paths['local_field'], paths['qsm']))
            if paths[name]:
                figure = name.replace('_', '')
                trusted = masks if name == 'residual' else {}
                plan[figure] = _Job(figure, paths[name], {k: v for k, v in trusted.items() if k == 'reliable'})
        for method, path in zip(given(self.inputs.chi_names, []), given(self.inputs.chi, [])):
            plan[f'chi{method}'] = _Job('chi', path, {})
        if paths['local_field'] and paths['qsm'] and given(self.inputs.b0_dir):
            for method, path in zip(given(self.inputs.chi_names, []), given(self.inputs.chi, [])):
                plan[f'kernel{method}'] = _Job('kernel', path, {}, (paths['local_field'], paths['qsm']))
        for name, path in zip(given(self.inputs.separated_names, []), given(self.inputs.separated, [])):
            plan[f'chi{name}'] = _Job('chi', path, {})
        for name, path in zip(given(self.inputs.companion_names, []), given(self.inputs.companions, [])):
            plan[f'companion{name}'] = _Job('companion', path, {})
        if regions := given(self.inputs.regions):
            if given(self.inputs.chi):
                plan['regionschi'] = _Job('regionschi', self.inputs.chi[0], {}, (regions,))
            plan['regionsmagnitude'] = _Job('regionsmagnitude', paths['magnitude'], {}, (regions,))
        if given(self.inputs.chi):
            beside = [*self.inputs.chi, paths['magnitude'], given(self.inputs.regions), given(self.inputs.lesions)]
            plan['viewer'] = _Job('viewer', self.inputs.chi[0], masks, tuple(path for path in beside if path))
        looked_at = given(self.inputs.lesion_chi) or next(iter(given(self.inputs.chi, [])), None)
        if given(self.inputs.lesions) and looked_at:
            plan['microbleeds'] = _Job('microbleeds', looked_at, {}, (self.inputs.lesions,))
        for name in ('swi', 'minip'):
            if paths[name]:
                plan[name] = _Job(name, paths[name], {})
        if paths['r2star']:
            plan['r2star'] = _Job('r2star', paths['r2star'], {})
            if paths['csf']:
                plan['csf'] = _Job('csf', paths['r2star'], {'csf': paths['csf']})
        return plan


class _Job(NamedTuple):
    figure: str
    volume: str
    outlines: dict
    beside: tuple = ()

    @property
    def sources(self):
        return (self.volume, *self.outlines.values(), *self.beside)


def _is_current(path, sources):
    return path.is_file() and path.stat().st_mtime >= max(Path(source).stat().st_mtime for source in sources)


def _draw_kernel(job, b0_dir):
    """Return the figure of a map against its field."""
    field, mask = load_array(job.beside[0]), load_mask(job.beside[1])
    voxel_size = voxel_size_of(load_image(job.volume).affine)
    axis = field_axis(field, mask, voxel_size)
    kernel = backward_kernel(field, load_array(job.volume), mask, voxel_size, b0_dir=b0_dir, toward=axis.direction)
    return draw_kernel(kernel, angle_between(axis.direction, b0_dir), axis.contrast)


def _draw_regions(job, brain):
    """Return the outlines of the structures on a volume, around the nuclei."""
    labels, volume = np.asarray(_open(job.beside[0]), np.uint8), _open(job.volume)
    outlines = {}
    for name, structure in STRUCTURES.items():
        region = (labels == structure.index) | (labels == structure.index + structure.paired)
        if region.any():
            outlines[name] = region
    nuclei = (labels > 0) & (labels != CSF)
    view = view_brain(nuclei if nuclei.any() else brain, load_image(job.volume).affine, margin=12.)
    return draw_figure(job.figure, view, {'': volume}, brain, outlines)


def _draw(job, view, brain):
    volume = _open(job.volume)
    layers = {'': volume}
    if volume.ndim == 4:
        layers = {'first echo,': volume[..., 0], 'last echo,': volume[..., -1]} if volume.shape[3] > 1 else \
            {'': volume[..., 0]}
    outlines = {name: _open(source) > 0.5 for name, source in job.outlines.items()}
    if job.figure == 'magnitude':
        view = view.whole()
    elif job.figure == 'csf':
        view = view.through(outlines['csf'])
    return draw_figure(job.figure, view, layers, brain, outlines)


def _open(path):
    """Return the voxels of an image, read from the disk only where they are looked at."""
    return np.asanyarray(load_image(path).dataobj)
