"""The workflow of a run. Of all workflow modules only this one reads the configuration."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe

from qsmbids import __version__
from qsmbids.bids import find_brain_mask, find_chi_map, find_r2_map
from qsmbids.core.methods import BACKGROUND, departures
from qsmbids.core.relaxometry import applicable_method
from qsmbids.core.separation import tissue_r2
from qsmbids.interfaces.echoes import PrepareEchoes
from qsmbids.interfaces.field import DataWeight, FieldToHertz
from qsmbids.interfaces.figures import DrawFigures
from qsmbids.interfaces.quality import AssessQuality
from qsmbids.segmentations import choose_source, find_t1w
from qsmbids.templates import find_space
from qsmbids.workflows.derivatives import init_ds_wf, list_outputs, list_space_outputs
from qsmbids.workflows.engine import DescribedWorkflow, numeric_node
from qsmbids.workflows.field import init_field_wf
from qsmbids.workflows.masking import init_masking_wf
from qsmbids.workflows.microbleeds import FILES, init_microbleed_wf
from qsmbids.workflows.qsm import companion_maps, init_qsm_wf
from qsmbids.workflows.relaxometry import init_relaxometry_wf
from qsmbids.workflows.separation import init_separation_wf, separated
from qsmbids.workflows.subcortical import init_space_wf, init_subcortical_wf
from qsmbids.workflows.swi import init_swi_wf
from qsmbids.workflows.twopass import init_two_pass_wf

# Bump when nodes change: results of an older layout in the work directory are then left alone.
WORKFLOW_NAME = f'qsmbids_{__version__.replace(".", "_")}_wf'
# The settings that decide about results; all others are about how to run.
METHOD_SETTINGS = ('preset', 'unwrapping', 'phase_offset', 'echo_fit', 'phase_sign', 'bipolar', 'mending',
                   'mask_method', 'mask_margin', 'residual_threshold', 'erosion', 'weighting', 'background',
                   'two_pass', 'inversion', 'inversion_lambda', 'reference', 'relaxometry', 'swi', 'chi_separation',
                   'subcortical', 'atlas', 'microbleeds', 'microbleed_grading', 'output_spaces', 'level')
_TOO_YOUNG = ('subcortical: the network that finds the regions learnt from the heads of adults, and this participant '
              'is {:.2g} years old; look at the outlines, or give regions with -d or --atlas')
_WEIGHTS = {'residual': 'the relative residual of the echo fit', 'certainty': 'the certainty of the field'}


def method_settings(config):
    """Return the settings of a run that decide about results."""
    return {name: getattr(config, name) for name in METHOD_SETTINGS}


def init_qsmbids_wf(config, acquisitions, threads, on_failure=None):
    """Return the workflow of a set of acquisitions.

    Parameters
    ----------
    config : qsmbids.config.Config
    acquisitions : list of qsmbids.bids.Acquisition
        Usable ones.
    threads : int
        Threads for one node.
    on_failure : callable, optional
        Called with an acquisition and an exception if its workflow cannot be made, which then is left out.
    """
    workflow = DescribedWorkflow(name=WORKFLOW_NAME, base_dir=str(config.work_dir))
    workflow.__desc__ = (f'Results were obtained with qsmbids {__version__}, built on Nipype [@gorgolewski2011], from '
                         'data in the Brain Imaging Data Structure [@gorgolewski2016], after the consensus '
                         'recommendation for quantitative susceptibility mapping [@bilgic2024].')
    settings = method_settings(config)
    if config.preset != 'none':
        workflow.__desc__ += f' {_describe_preset(settings)}'
    for acquisition in acquisitions:
        try:
            single = init_single_wf(config, acquisition, threads)
        except Exception as error:  # whatever it is: the others go on
            if on_failure is None:
                raise
            on_failure(acquisition, error)
            continue
        single.config['execution']['crashdump_dir'] = str(crash_folder(config.output_dir, acquisition))
        for node in single._get_all_nodes():
            node.config = deepcopy(single.config)
            # Of a job of its own, where the SLURM plugin makes one of each node.
            node.plugin_args = {'sbatch_args': f'--mem={node.mem_gb * 1e3:.0f}M --cpus-per-task={node.n_procs}'}
        workflow.add_nodes([single])
    return workflow


def init_single_wf(config, acquisition, threads):
    """Return the workflow of one acquisition with the settings of a run and the derivatives that these name."""
    return init_acquisition_wf(acquisition, method_settings(config), output_dir=config.output_dir, threads=threads,
                               brain_mask=find_brain_mask(config.derivatives, acquisition),
                               r2_map=find_r2_map(config.derivatives, acquisition),
                               chi_map=find_chi_map(config.derivatives, acquisition),
                               regions=find_regions(config, acquisition),
                               t1w=find_t1w(config.bids_dir, acquisition))


def find_regions(config, acquisition):
    """Return where the regions of an acquisition come from, or None, and why what comes before did not apply."""
    return choose_source(config.subcortical, config.derivatives, acquisition, bids_dir=config.bids_dir,
                         atlas=config.atlas)


def _describe_preset(settings):
    """Say which preset was used and what was set otherwise."""
    changed = [f'{name.replace("_", " ")} ({", ".join(value) if isinstance(value, tuple) else value})'
               for name, value in departures(settings).items()]
    return f'Settings were those of the {settings["preset"]} preset' + (
        f' but for {", ".join(changed)}.' if changed else '.')


def crash_folder(output_dir, acquisition):
    """Return where the crash files of an acquisition go."""
    return output_dir / 'logs' / f'sub-{acquisition.subject}' / acquisition.name


def init_acquisition_wf(acquisition, settings, *, output_dir, brain_mask=None, r2_map=None, chi_map=None,
                        regions=(None, ()), t1w=None, threads=1):
    """Return the workflow of one acquisition.

    Parameters
    ----------
    acquisition : qsmbids.bids.Acquisition
    settings : dict
        :data:`METHOD_SETTINGS`.
    output_dir : path
    brain_mask : str, optional
        Mask to use instead of finding one.
    r2_map : str, optional
        Path of a measured R2 or T2 map.
    chi_map : str, optional
        Susceptibility map of another software, in which microbleeds are looked for instead of in ours.
    regions : tuple, optional
        As from :func:`find_regions`.
    t1w : str, optional
        T1w image of the participant, to register templates by.
    threads : int
    """
    if chi_map and settings['microbleeds']:
        acquisition = replace(acquisition, notes=(*acquisition.notes, f'microbleeds: looked for in {chi_map}'))
    workflow = DescribedWorkflow(name=acquisition.name.replace('-', '_') + '_wf')
    voxels = acquisition.shape[0] * acquisition.shape[1] * acquisition.shape[2]
    sizes = dict(voxels=voxels, threads=threads)
    outputs = list_outputs(acquisition, settings, r2_map, regions[0], brain_mask)
    ds_wf = init_ds_wf(acquisition, output_dir, outputs, brain_mask)
    ports = {port for output in outputs for port in (output.port, output.extra)}
    prepare = numeric_node(_prepare_echoes(acquisition, settings), 'prepare',
                           buffers=6 + 8 * max(len(acquisition.echo_times), 1), **sizes)
    masking_wf = init_masking_wf(voxel_size=acquisition.voxel_size, brain_mask=brain_mask,
                                 method=settings['mask_method'], margin=settings['mask_margin'], **sizes)
    assess = numeric_node(_assess_quality(acquisition, settings, brain_mask), 'assess',
                          buffers=18 + len(settings['inversion']) + len(acquisition.echo_times), **sizes)
    draw = numeric_node(DrawFigures(output_dir=str(output_dir), subject=acquisition.subject, stem=acquisition.name,
                                    b0_dir=acquisition.b0_dir), 'draw', buffers=16, voxels=voxels)
    workflow.connect([
        (prepare, masking_wf, [('magnitude', 'inputnode.magnitude')]),
        (prepare, assess, [('magnitude', 'magnitude'), ('notes', 'notes'), ('warnings', 'input_warnings')]),
        (prepare, draw, [('combined', 'magnitude')]),
        (masking_wf, assess, [('outputnode.brain_mask', 'brain')]),
        (masking_wf, draw, [('outputnode.brain_mask', 'brain')]),
        (masking_wf, ds_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
        (assess, ds_wf, [('quality', 'inputnode.quality'), ('compliance', 'inputnode.compliance')])])
    if 'combined' in ports:
        workflow.connect([(prepare, ds_wf, [('combined', 'inputnode.combined')])])
    relaxometry_wf = _add_relaxometry(workflow, acquisition, settings, sizes, ports, r2_map)
    if acquisition.has_phase:
        _add_susceptibility(workflow, acquisition, settings, sizes, ports, relaxometry_wf)
    microbleed_wf = None
    if settings['microbleeds'] and (acquisition.has_phase or relaxometry_wf is not None):
        graded = settings['microbleed_grading'] if acquisition.has_phase or chi_map else 'rules'
        microbleed_wf = init_microbleed_wf(grading=graded, chi_map=chi_map, **sizes)
        if chi_map:
            draw.inputs.lesion_chi = chi_map
    said = _add_regions(workflow, acquisition, settings, sizes, regions, relaxometry_wf, microbleed_wf)
    if microbleed_wf is not None:
        _add_microbleeds(workflow, acquisition, microbleed_wf, relaxometry_wf)
    said += _add_spaces(workflow, acquisition, settings, sizes, t1w, relaxometry_wf)
    if said:
        gather = pe.Node(Merge(len(said), no_flatten=True), name='gather_warnings', run_without_submitting=True)
        workflow.connect([(source, gather, [(port, f'in{number}')]) for number, (source, port) in enumerate(said, 1)])
        workflow.connect([(gather, assess, [('out', 'region_warnings')])])
    return workflow


def _prepare_echoes(acquisition, settings):
    known = {'phase_units': acquisition.phase_units, 'manufacturer': acquisition.manufacturer,
             'phase_sign': settings['phase_sign'], 'echo_times': list(acquisition.echo_times),
             'voxel_size': acquisition.voxel_size}
    names = {'mag': 'magnitude', 'phase': 'phase', 'real': 'real', 'imag': 'imaginary'}
    images = {names[part]: list(paths) for part, paths in acquisition.files.items()}
    if 'phase' in images:
        images = {name: paths for name, paths in images.items() if name in ('magnitude', 'phase')}
    return PrepareEchoes(**{name: value for name, value in (known | images).items() if value})


def _assess_quality(acquisition, settings, brain_mask):
    facts = {'echo_times': list(acquisition.echo_times), 'voxel_size': list(acquisition.voxel_size),
             'shape': list(acquisition.shape), 'center_frequency_hz': acquisition.center_frequency_hz,
             'b0_dir': list(acquisition.b0_dir), 'has_phase': acquisition.has_phase, 'own_mask': brain_mask or '',
             'metadata': acquisition.metadata,
             'settings': {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}}
    return AssessQuality(voxel_size=acquisition.voxel_size, b0_dir=acquisition.b0_dir, facts=facts,
                         metadata_notes=list(acquisition.notes), metadata_warnings=list(acquisition.warnings),
                         chi_names=list(settings['inversion']) if acquisition.has_phase else [])


def _add_relaxometry(workflow, acquisition, settings, sizes, ports, r2_map):
    """Connect R2* and its kin; return that workflow, or None for a single echo."""
    if len(acquisition.echo_times) < 2:
        return None
    relaxometry_wf = init_relaxometry_wf(echo_times=acquisition.echo_times, voxel_size=acquisition.voxel_size,
                                         method=settings['relaxometry'], r2_map=r2_map,
                                         r2=tissue_r2(acquisition.b0_tesla) if settings['chi_separation'] else None,
                                         age=acquisition.age.years if acquisition.age else None,
                                         **sizes)
    node = workflow.get_node
    workflow.connect([
        (node('prepare'), relaxometry_wf, [('magnitude', 'inputnode.magnitude')]),
        (node('masking_wf'), relaxometry_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
        (relaxometry_wf, node('assess'), [('outputnode.r2star', 'r2star'), ('outputnode.warnings', 'csf_warnings')]),
        (relaxometry_wf, node('draw'), [('outputnode.r2star', 'r2star'), ('outputnode.csf_mask', 'csf')])])
    if 'r2star' in ports:
        workflow.connect([(relaxometry_wf, node('ds_wf'), [
            (f'outputnode.{port}', f'inputnode.{port}') for port in ('r2star', 't2star', 's0')]
            + [('outputnode.csf_mask', 'inputnode.reference_mask')])])
    if 'r2prime' in ports:
        workflow.connect([(relaxometry_wf, node('ds_wf'), [('outputnode.r2prime', 'inputnode.r2prime')])])
    return relaxometry_wf


def _add_susceptibility(workflow, acquisition, settings, sizes, ports, relaxometry_wf):
    """Connect field mapping, background removal and inversion."""
    node, methods = workflow.get_node, settings['inversion']
    parameters = None if settings['inversion_lambda'] is None else {'lambda': settings['inversion_lambda']}
    field_wf = init_field_wf(
        echo_times=acquisition.echo_times, voxel_size=acquisition.voxel_size,
        b0_dir=acquisition.b0_dir, center_frequency_hz=acquisition.center_frequency_hz, offset=settings['phase_offset'],
        unwrapping=settings['unwrapping'], fit=settings['echo_fit'], bipolar=settings['bipolar'],
        mending=settings['mending'], residual_threshold=settings['residual_threshold'], erosion=settings['erosion'],
        **sizes)
    init_wf = partial(init_two_pass_wf, residual_threshold=settings['residual_threshold']) if settings['two_pass'] \
        else init_qsm_wf
    qsm_wf = init_wf(
        voxel_size=acquisition.voxel_size, b0_dir=acquisition.b0_dir, background=settings['background'],
        inversion=methods, inversion_parameters=parameters, reference=settings['reference'],
        csf=relaxometry_wf is not None, **sizes)
    workflow.connect([
        (node('prepare'), field_wf, [('phase', 'inputnode.phase'), ('magnitude', 'inputnode.magnitude')]),
        (node('masking_wf'), field_wf, [(f'outputnode.{name}', f'inputnode.{name}')
                                        for name in ('brain_mask', 'field_mask')]),
        (node('masking_wf'), qsm_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
        (field_wf, qsm_wf, [('outputnode.field', 'inputnode.field'), ('outputnode.trusted_mask', 'inputnode.mask')]),
        (field_wf, node('assess'), [('outputnode.residual', 'residual'), ('outputnode.field', 'total_field'),
                                    ('outputnode.reliable_mask', 'reliable'), ('outputnode.notes', 'field_notes')]),
        (qsm_wf, node('assess'), [('outputnode.qsm_mask', 'qsm'), ('outputnode.local_field', 'local_field'),
                                  ('outputnode.chi', 'chi'), ('outputnode.references', 'references'),
                                  ('outputnode.warnings', 'reference_warnings')]),
        (node('prepare'), qsm_wf, [('combined', 'inputnode.magnitude')]),
        (node('prepare'), node('draw'), [('phase', 'phase')]),
        (field_wf, node('draw'), [('outputnode.unwrapped', 'unwrapped'), ('outputnode.field', 'total_field'),
                                  ('outputnode.residual', 'residual'), ('outputnode.reliable_mask', 'reliable')]),
        (qsm_wf, node('draw'), [('outputnode.local_field', 'local_field'), ('outputnode.qsm_mask', 'qsm'),
                                ('outputnode.chi', 'chi')]),
        (field_wf, node('ds_wf'), [('outputnode.reliable_mask', 'inputnode.reliable_mask')]),
        (qsm_wf, node('ds_wf'), [('outputnode.qsm_mask', 'inputnode.qsm_mask')])])
    _add_weight(workflow, acquisition, settings, sizes)
    if settings['two_pass']:
        workflow.connect([
            (node('masking_wf'), qsm_wf, [('outputnode.field_mask', 'inputnode.field_mask')]),
            (field_wf, qsm_wf, [(f'outputnode.{name}', f'inputnode.{name}') for name in ('residual', 'quality')])])
    node('draw').inputs.chi_names = list(methods)
    if companion_maps(methods) and not settings['two_pass']:
        workflow.connect([(qsm_wf, node('draw'), [('outputnode.companions', 'companions')])])
        node('draw').inputs.companion_names = companion_maps(methods)
    if relaxometry_wf is not None:
        workflow.connect([(relaxometry_wf, qsm_wf, [('outputnode.csf_mask', 'inputnode.csf_mask')])])
    for index, method in enumerate(methods):
        workflow.connect([(qsm_wf, node('ds_wf'), [
            (('outputnode.chi', _pick, index), f'inputnode.chi_{method}'),
            (('outputnode.references', _pick, index), f'inputnode.references_{method}')])])
    for index, name in enumerate(companion_maps(methods) if not settings['two_pass'] else ()):
        workflow.connect([(qsm_wf, node('ds_wf'), [
            (('outputnode.companions', _pick, index), f'inputnode.chi_{name}')])])
    if 'residual' in ports:
        workflow.connect([(field_wf, node('ds_wf'), [('outputnode.residual', 'inputnode.residual')])])
    if relaxometry_wf is not None and settings['chi_separation']:
        _add_separation(workflow, acquisition, methods, sizes)
    if 'swi' in ports:
        _add_swi(workflow, acquisition, sizes)
    _add_fieldmaps(workflow, acquisition, sizes, ports)


def _add_fieldmaps(workflow, acquisition, sizes, ports):
    """Connect the sinks of both fields, which are written in Hz."""
    node = workflow.get_node
    for port, source, out in (('total_field', node('field_wf'), 'outputnode.field'),
                              ('local_field', node('qsm_wf'), 'outputnode.local_field')):
        if port in ports:
            to_hertz = numeric_node(FieldToHertz(center_frequency_hz=acquisition.center_frequency_hz),
                                    f'{port}_to_hertz', buffers=3, **sizes)
            workflow.connect([(source, to_hertz, [(out, 'field')]),
                              (to_hertz, node('ds_wf'), [('field', f'inputnode.{port}')])])


def _add_weight(workflow, acquisition, settings, sizes):
    """Connect what says how much each voxel counts in the inversion, and in a background removal that can weigh."""
    if settings['weighting'] == 'none':
        return
    node = workflow.get_node
    workflow.__desc__ = f'Inversions weigh voxels by {_WEIGHTS[settings["weighting"]]}.'
    wanted = [('weigh', settings['weighting'], 'reliable_mask', 'weight')]
    if BACKGROUND[settings['background']].takes('weight'):
        wanted.append(('weigh_background', 'certainty', 'trusted_mask', 'background_weight'))
        workflow.__desc__ += f' Background removal weighs them by {_WEIGHTS["certainty"]}.'
    for name, weighting, mask, port in wanted:
        weigh = numeric_node(
            DataWeight(weighting=weighting, echo_times=list(acquisition.echo_times),
                       threshold=settings['residual_threshold']),
            name, buffers=4 + len(acquisition.echo_times), **sizes)
        workflow.connect([
            (node('prepare'), weigh, [('magnitude', 'magnitude')]),
            (node('field_wf'), weigh, [('outputnode.residual', 'residual'), (f'outputnode.{mask}', 'mask')]),
            (weigh, node('qsm_wf'), [('weight', f'inputnode.{port}')])])


def _add_separation(workflow, acquisition, methods, sizes):
    """Connect the separation of positive and negative sources."""
    node, names = workflow.get_node, separated(methods)
    separation_wf = init_separation_wf(inversion=methods, b0_tesla=acquisition.b0_tesla, **sizes)
    workflow.connect([
        (node('relaxometry_wf'), separation_wf, [('outputnode.r2prime', 'inputnode.r2prime')]),
        (node('qsm_wf'), separation_wf, [('outputnode.qsm_mask', 'inputnode.mask')]
         + [(('outputnode.chi', _pick, index), f'inputnode.chi_{name}') for index, name in enumerate(methods)]),
        (separation_wf, node('draw'), [('outputnode.maps', 'separated')]),
        (separation_wf, node('ds_wf'), [(f'outputnode.chi_{name}', f'inputnode.chi_{name}') for name in names])])
    node('draw').inputs.separated_names = names


def _add_swi(workflow, acquisition, sizes):
    """Connect the susceptibility-weighted image and its projection."""
    node = workflow.get_node
    swi_wf = init_swi_wf(echo_times=acquisition.echo_times, voxel_size=acquisition.voxel_size,
                         b0_dir=acquisition.b0_dir, **sizes)
    maps = ('swi', 'minip')
    workflow.connect([
        (node('prepare'), swi_wf, [('magnitude', 'inputnode.magnitude')]),
        (node('masking_wf'), swi_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
        (node('field_wf'), swi_wf, [('outputnode.field', 'inputnode.field'),
                                    ('outputnode.reliable_mask', 'inputnode.reliable_mask')]),
        (swi_wf, node('draw'), [(f'outputnode.{name}', name) for name in maps]),
        (swi_wf, node('ds_wf'), [(f'outputnode.{name}', f'inputnode.{name}') for name in maps])])


def _add_regions(workflow, acquisition, settings, sizes, regions, relaxometry_wf, microbleed_wf):
    """Connect the regions and the table of their values, or say why there are none; return who gives warnings."""
    (source, skipped), node = regions, workflow.get_node
    known = [f'subcortical: {reason}' for reason in skipped]
    if source is None:
        if skipped:
            node('assess').inputs.metadata_warnings = [
                *acquisition.warnings, f'subcortical: no values of regions: {"; ".join(skipped)}']
        return []
    node('assess').inputs.metadata_notes = [*acquisition.notes, *known,
                                            f'subcortical: regions are {source.rung} ({source.name})']
    child = acquisition.age is not None and not acquisition.age.is_adult
    if child and source.rung == 'network':
        node('assess').inputs.metadata_warnings = [*acquisition.warnings, _TOO_YOUNG.format(acquisition.age.years)]
    names = list(settings['inversion']) if acquisition.has_phase else []
    apart = separated(names) if workflow.get_node('separation_wf') else []
    r2star = applicable_method(settings['relaxometry'], acquisition.echo_times) if relaxometry_wf else ''
    identity = {'participant': f'sub-{acquisition.subject}', 'session': acquisition.session or 'n/a',
                'run': acquisition.entities.get('run', 'n/a'), 'acquisition': acquisition.name}
    subcortical_wf = init_subcortical_wf(source, voxel_size=acquisition.voxel_size, identity=identity, chi_names=names,
                                         separated_names=apart, r2star_name=r2star, adult=not child,
                                         microbleed_wf=microbleed_wf, **sizes)
    workflow.connect([
        (node('prepare'), subcortical_wf, [(port, f'inputnode.{port}') for port in ('magnitude', 'combined')]),
        (node('masking_wf'), subcortical_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
        (subcortical_wf, node('draw'), [('outputnode.labels', 'regions')]),
        (subcortical_wf, node('ds_wf'), [(f'outputnode.{name}', f'inputnode.{name}')
                                         for name in ('labels', 'label_table', 'statistics', 'metadata')])])
    if names:
        workflow.connect([(node('qsm_wf'), subcortical_wf, [
            (f'outputnode.{port}', f'inputnode.{port}') for port in ('chi', 'references', 'qsm_mask')])])
    if apart:
        workflow.connect([(node('separation_wf'), subcortical_wf, [('outputnode.maps', 'inputnode.separated')])])
    if r2star:
        workflow.connect([(relaxometry_wf, subcortical_wf, [
            (f'outputnode.{port}', f'inputnode.{port}') for port in ('r2star', 'csf_mask')])])
    return [(subcortical_wf, f'outputnode.{kind}_warnings') for kind in ('region', 'value')]


def _add_microbleeds(workflow, acquisition, microbleed_wf, relaxometry_wf):
    """Connect the census of microbleeds; where there are regions, it is a part of the workflow of these."""
    node = workflow.get_node
    holder, prefix = node('subcortical_wf'), 'microbleed_wf.outputnode'
    if holder is None:
        holder, prefix = microbleed_wf, 'outputnode'
        workflow.connect([(node('masking_wf'), microbleed_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')])])
        if acquisition.has_phase:
            workflow.connect([(node('qsm_wf'), microbleed_wf, [(('outputnode.chi', _pick, 0), 'inputnode.chi')])])
        if relaxometry_wf is not None:
            workflow.connect([(relaxometry_wf, microbleed_wf, [('outputnode.r2star', 'inputnode.r2star')])])
    if acquisition.has_phase:
        workflow.connect([(node('field_wf'), holder, [
            ('outputnode.field', f'{prefix.removesuffix("outputnode")}inputnode.field')])])
    workflow.connect([
        (holder, node('ds_wf'), [(f'{prefix}.{name}', f'inputnode.cmb_{name}') for name in (*FILES, 'metadata')]),
        (holder, node('draw'), [(f'{prefix}.lesions', 'lesions')]),
        (holder, node('assess'), [(f'{prefix}.metrics', 'lesion_metrics')])])


def _add_spaces(workflow, acquisition, settings, sizes, t1w, relaxometry_wf):
    """Connect the maps in the spaces of templates; return who gives warnings."""
    node, said, outputs = workflow.get_node, [], list_space_outputs(acquisition, settings)
    for space in dict.fromkeys(output.space for output in outputs):
        space_wf = init_space_wf(find_space(space), image=t1w, has_chi=acquisition.has_phase, name=f'space_{space}_wf',
                                 **sizes)
        maps = pe.Node(Merge(2), name=f'maps_{space}', run_without_submitting=True)
        workflow.connect([
            (node('prepare'), space_wf, [('combined', 'inputnode.combined')]),
            (node('masking_wf'), space_wf, [('outputnode.brain_mask', 'inputnode.brain_mask')]),
            (maps, space_wf, [('out', 'inputnode.maps')])])
        if acquisition.has_phase:
            workflow.connect([(node('qsm_wf'), maps, [('outputnode.chi', 'in1')]),
                              (node('qsm_wf'), space_wf, [('outputnode.chi', 'inputnode.chi')])])
        if relaxometry_wf is not None:
            workflow.connect([(relaxometry_wf, maps, [('outputnode.r2star', 'in2')])])
        own = [output for output in outputs if output.space == space]
        workflow.connect([(space_wf, node('ds_wf'), [
            *((('outputnode.maps', _pick, index), f'inputnode.{output.port}') for index, output in enumerate(own)),
            ('outputnode.metadata', f'inputnode.{own[0].extra}')])])
        said.append((space_wf, 'outputnode.warnings'))
    return said


def _pick(values, index):
    return values[index]
