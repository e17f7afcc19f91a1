"""What leaves the workflow: names, sidecars, sinks."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from nipype.pipeline import engine as pe

from qsmbids.core.methods import (BACKGROUND, ECHO_FITS, INVERSION, MASKING, OFFSETS, RELAXOMETRY, SEPARATION, SWI,
                                  UNWRAPPING, departures)
from qsmbids.core.relaxometry import applicable_method
from qsmbids.core.separation import relaxivity_at, tissue_r2
from qsmbids.interfaces.derivatives import WriteDerivative
from qsmbids.reports.dataset import generated_by
from qsmbids.interfaces.microbleeds import SIDECARS
from qsmbids.interfaces.subcortical import describe_table
from qsmbids.networks.shipped import sha256, shipped
from qsmbids.workflows.engine import DescribedWorkflow, fields
from qsmbids.workflows.qsm import companion_maps

# desc- values and what they mean; methods name themselves. The one text for descriptions.tsv and the documentation.
DESCRIPTIONS = {
    'brain': 'Brain mask',
    'reliable': 'Part of the brain mask where the echo fit of the phase can be trusted',
    'qsm': 'Where the local field, and so the susceptibility, is known',
    'reference': 'Ventricular cerebrospinal fluid, the region of the CSF reference',
    'total': 'Total field: of the susceptibility inside and outside of the brain',
    'local': 'Local field: background removed',
    'fit': 'Relative residual of the echo fit of the complex signal, 0 to 2',
    'consensus': 'How the run stands to the requirements of the consensus recommendation for QSM',
    'given': 'Regions of a segmentation that was given with --derivatives, and values in them',
    'network': 'Regions found by the network for deep nuclei, and values in them',
    'atlas': 'Regions of an atlas brought to the data, and values in them',
    'cmb': 'Microbleeds: mask of those that count, label map and scores of all in the tables; research use only, not a '
           'diagnosis',
    **{name: f'Computed by {method.title}' for name, method in (INVERSION | RELAXOMETRY | SWI).items()},
    **{f'{name}{companion}': meaning for name, method in INVERSION.items()
       for companion, meaning in method.companions.items()},
    **{f'{name}{sign}': f'{kind} sources in the map of desc-{name}' for name in INVERSION
       for sign, kind in (('positive', 'Paramagnetic'), ('negative', 'Diamagnetic'))},
}


@dataclass(frozen=True)
class Output:
    """One derivative of an acquisition.

    Attributes
    ----------
    port : str
        Field of the sink workflow that feeds it.
    suffix, desc, datatype, extension : str
        What its name is made of; `desc` may be None.
    metadata : dict
        Its sidecar; none for files that are JSON themselves.
    extra : str
        Port of further metadata, known only when the workflow runs.
    origin : str
        Port of the further metadata of the map that it was made from.
    segmentation : str, optional
        Value of the entity ``seg-``.
    space : str, optional
        Template whose space it is in, at 1 mm; that of the acquisition without it.
    """

    port: str
    suffix: str
    desc: str | None
    datatype: str = 'anat'
    extension: str = '.nii.gz'
    metadata: dict = field(default_factory=dict)
    extra: str = ''
    origin: str = ''
    segmentation: str | None = None
    space: str | None = None

    def path(self, acquisition):
        return acquisition.path(self.suffix, desc=self.desc, datatype=self.datatype, extension=self.extension,
                                segmentation=self.segmentation, space=self.space,
                                resolution='1' if self.space else None)


def list_outputs(acquisition, settings, r2_map=None, source=None, brain_mask=None):
    """Return the outputs that an acquisition will have.

    Parameters
    ----------
    acquisition : qsmbids.bids.Acquisition
    settings : dict
        As in :class:`qsmbids.config.Config`: methods and level.
    r2_map : str, optional
        Path of a measured R2 or T2 map.
    source : qsmbids.segmentations.Source, optional
        Where the regions come from.
    brain_mask : str, optional
        The mask of another pipeline, if one is used.
    """
    full, several = settings['level'] == 'full', len(acquisition.echo_times) > 1
    outputs = [_mask('brain_mask', 'brain', 'Brain', {} if brain_mask else {
        'EstimationAlgorithm': _algorithm(MASKING, settings['mask_method'])})]
    if acquisition.has_phase:
        outputs += [_mask('reliable_mask', 'reliable', 'ROI'), _mask('qsm_mask', 'qsm', 'ROI')]
        outputs += [_chi(method, settings) for method in settings['inversion']]
        if not settings['two_pass']:
            outputs += [Output(f'chi_{name}', 'Chimap', name, metadata={'Units': 'ppm'})
                        for name in companion_maps(settings['inversion'])]
        if several and settings['chi_separation']:
            outputs += _separated_outputs(acquisition, settings, r2_map)
        if full:
            outputs += _field_outputs(settings, several)
            outputs += _weighted_outputs(settings) if settings['swi'] else []
    if several and (full or not acquisition.has_phase):
        outputs += [_mask('reference_mask', 'reference', 'ROI'), *_relaxometry_outputs(acquisition, settings)]
        if r2_map:
            outputs.append(Output('r2prime', 'R2primemap', outputs[-1].desc, metadata={
                'Units': '1/s', 'EstimationAlgorithm': 'R2* - R2', 'R2Source': Path(r2_map).as_uri()}))
    outputs += _region_outputs(source.rung) if source else []
    if settings['microbleeds'] and (acquisition.has_phase or several):
        outputs += _lesion_outputs()
    outputs += list_space_outputs(acquisition, settings)
    outputs += [Output('quality', 'qc', 'qsm', extension='.json'),
                Output('compliance', 'compliance', 'consensus', extension='.json')]
    return outputs


def list_space_outputs(acquisition, settings):
    """Return the maps in the spaces of templates: of each space the susceptibility maps, then R2*."""
    native = [_chi(method, settings) for method in settings['inversion']] if acquisition.has_phase else []
    if len(acquisition.echo_times) > 1:
        native.append(_relaxometry_outputs(acquisition, settings)[0])
    return [replace(output, port=f'{space}_{output.port}', space=space, origin=output.extra,
                    extra=f'{space}_metadata')
            for space in settings['output_spaces'] if space != 'native' for output in native]


def init_ds_wf(acquisition, output_dir, outputs, brain_mask=None, name='ds_wf'):
    """Return a workflow that writes the outputs of an acquisition.

    Parameters
    ----------
    acquisition : qsmbids.bids.Acquisition
    output_dir : str
    outputs : list of Output
    brain_mask : str, optional
        The mask of another pipeline, if one was used: a source of everything.

    Inputs
    ------
    The ports of `outputs`.
    """
    workflow = DescribedWorkflow(name=name)
    ports = dict.fromkeys(port for output in outputs for port in (output.port, output.extra, output.origin) if port)
    inputnode = fields(*ports, name='inputnode')
    sources = [*acquisition.sources, *([Path(brain_mask).as_uri()] if brain_mask else [])]
    common = {'Sources': sources, 'SkullStripped': True, 'SpatialReference': 'orig',
              'GeneratedBy': generated_by()}
    for output in outputs:
        sink = WriteDerivative(output_dir=str(output_dir), path=output.path(acquisition))
        if output.suffix in ('stats', 'lesions', 'counts'):
            sink.inputs.metadata = output.metadata  # the dictionary of its columns
        elif output.metadata:
            described = {'Description': DESCRIPTIONS[output.desc]} if output.desc else {}
            sink.inputs.metadata = output.metadata | common | described
        node = pe.Node(sink, name=f'ds_{output.port}', mem_gb=0.5)
        workflow.connect([(inputnode, node, [(output.port, 'in_file')])])
        if output.extra:
            workflow.connect([(inputnode, node, [(output.extra, 'extra')])])
        if output.origin:
            workflow.connect([(inputnode, node, [(output.origin, 'origin')])])
    return workflow


def _mask(port, desc, kind, said=None):
    return Output(port, 'mask', desc, metadata={'Type': kind} | (said or {}))


def _chi(method, settings):
    chosen = {} if settings['inversion_lambda'] is None else {'lambda': settings['inversion_lambda']}
    estimation = {
        'EstimationAlgorithm': INVERSION[method].title,
        'EstimationParameters': INVERSION[method].parameters(chosen),
        'ConsensusMethod': INVERSION[method].consensus}
    return Output(f'chi_{method}', 'Chimap', method, extra=f'references_{method}', metadata={
        'Units': 'ppm', **estimation, 'BackgroundRemoval': _background(method, settings),
        'FieldMapping': _field_mapping(settings), 'TwoPass': settings['two_pass'],
        'DataWeight': settings['weighting'] if INVERSION[method].takes('weight') else 'none',
        'Preset': settings['preset'], 'PresetDepartures': departures(settings)})


def _field_outputs(settings, several):
    total = {'Units': 'Hz', 'EstimationAlgorithm': _field_mapping(settings)}
    outputs = [
        Output('total_field', 'fieldmap', 'total', 'fmap', metadata=total),
        Output('local_field', 'fieldmap', 'local', 'fmap',
               metadata=total | {'BackgroundRemoval': _algorithm(BACKGROUND, settings['background']),
                                 'DataWeight': 'certainty' if settings['weighting'] != 'none' and
                                 BACKGROUND[settings['background']].takes('weight') else 'none'}),
        # Without a desc-, so that it counts as the magnitude that BIDS wants beside both field maps.
        Output('combined', 'magnitude', None, 'fmap', metadata={
            'Units': 'arbitrary', 'Description': 'Root mean square of the magnitude over the echoes'})]
    if several:
        outputs.append(Output('residual', 'residual', 'fit', metadata={'Units': 'arbitrary'}))
    return outputs


def _separated_outputs(acquisition, settings, r2_map):
    """Return the maps of positive and negative sources, with the constants that they depend on."""
    (method,), b0 = SEPARATION.values(), acquisition.b0_tesla
    estimate = f'{tissue_r2(b0):.4g} 1/s for all tissue: an estimate, so that grey and white matter are confused'
    outputs = []
    for inversion in settings['inversion']:
        metadata = _chi(inversion, settings).metadata | {
            'SeparationAlgorithm': method.title, 'Relaxivity': relaxivity_at(b0), 'RelaxivityUnits': '1/s per ppm',
            'R2Source': Path(r2_map).as_uri() if r2_map else estimate, 'R2IsMeasured': bool(r2_map)}
        outputs += [Output(f'chi_{inversion}{sign}', 'Chimap', f'{inversion}{sign}', metadata=metadata,
                           extra=f'references_{inversion}') for sign in ('positive', 'negative')]
    return outputs


def _weighted_outputs(settings):
    (name, method), = SWI.items()
    metadata = {'Units': 'arbitrary', 'EstimationAlgorithm': method.title,
                'EstimationParameters': method.parameters(), 'FieldMapping': _field_mapping(settings)}
    return [Output('swi', 'swi', name, metadata=metadata), Output('minip', 'minIP', name, metadata=metadata)]


def _region_outputs(rung):
    named = {'desc': rung, 'segmentation': 'subcortical'}
    return [Output('labels', 'dseg', extra='metadata', metadata={'Type': 'ROI'}, **named),
            Output('label_table', 'dseg', extension='.tsv', **named),
            Output('statistics', 'stats', extension='.tsv', metadata=describe_table(), **named)]


def _lesion_outputs():
    images = [Output(f'cmb_{suffix}', suffix, 'cmb', extra='cmb_metadata', metadata=SIDECARS[suffix])
              for suffix in ('mask', 'dseg', 'probseg')]
    tables = [Output(f'cmb_{suffix}', suffix, 'cmb', extension='.tsv', metadata=SIDECARS[suffix])
              for suffix in ('lesions', 'counts')]
    return [*images, Output('cmb_labels', 'dseg', 'cmb', extension='.tsv'), *tables]


def _relaxometry_outputs(acquisition, settings):
    method = applicable_method(settings['relaxometry'], acquisition.echo_times)
    metadata = {'EstimationAlgorithm': RELAXOMETRY[method].title, 'EchoTimes': list(acquisition.echo_times)}
    return [Output(port, suffix, method, metadata=metadata | {'Units': units}) for port, suffix, units in
            (('r2star', 'R2starmap', '1/s'), ('t2star', 'T2starmap', 's'), ('s0', 'S0map', 'arbitrary'))]


def _background(method, settings):
    """Return what removed the background for an inversion."""
    if INVERSION[method].takes_total:
        return {'Name': 'none: the inversion takes the total field'}
    return _algorithm(BACKGROUND, settings['background'])


def _field_mapping(settings):
    return {'PhaseOffset': _algorithm(OFFSETS, settings['phase_offset']),
            'Unwrapping': _algorithm(UNWRAPPING, settings['unwrapping']),
            'EchoFit': _algorithm(ECHO_FITS, settings['echo_fit']),
            'ResidualThreshold': settings['residual_threshold'], 'PhaseSign': settings['phase_sign'],
            'Bipolar': settings['bipolar'], 'Mending': settings['mending'], 'Erosion': settings['erosion'],
            'GivenMaskMargin': settings['mask_margin']}


def _algorithm(table, name):
    method = table[name]
    weights = {'WeightsSHA256': sha256(shipped(method.weights))} if method.weights else {}
    return {'Name': method.title, **(method.parameters() if method.location else {}), **weights}
