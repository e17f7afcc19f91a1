"""The total field map and the mask of where it can be trusted."""

from qsmbids.core.methods import ECHO_FITS, OFFSETS, UNWRAPPING
from qsmbids.interfaces.field import MendField, TotalField
from qsmbids.interfaces.masking import ReliableMask
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node


def init_field_wf(*, echo_times, voxel_size, center_frequency_hz, voxels, b0_dir=(0., 0., 1.), offset='mcpc3ds',
                  unwrapping='romeo', fit='nonlinear', bipolar='auto', mending=True, residual_threshold=0.3,
                  erosion=False, threads=1, name='field_wf'):
    """Return a workflow from wrapped phase to total field.

    Parameters
    ----------
    echo_times : tuple of float
        s.
    voxel_size : tuple of float
        mm.
    center_frequency_hz : float
    b0_dir : tuple of float
        Direction of the main field in voxel axes.
    voxels : int
        Voxels of one volume, for the memory.
    offset, unwrapping, fit : str
        Names in the tables of :mod:`qsmbids.core.methods`.
    bipolar : {'auto', 'yes', 'no'}
        Whether to correct a phase that alternates between the echoes.
    mending : bool
        Whether doubtful voxels are moved by whole turns.
    residual_threshold : float
        Largest relative residual of the echo fit to trust.
    erosion : bool
        Whether the mask of what is trusted loses its outermost voxel everywhere, not just beside what is not.
    threads : int

    Inputs
    ------
    phase, magnitude
        4D, echo last.
    brain_mask
    field_mask
        Where to compute the field: the brain, and maybe its surroundings.

    Outputs
    -------
    field
        ppm.
    residual, quality, unwrapped
    trusted_mask, reliable_mask
        Where the field can be trusted; the part of it inside the brain.
    notes
        What was done to the field.
    """
    several = len(echo_times) > 1
    offset = offset if several else 'none'
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = _describe(len(echo_times), offset, unwrapping, fit, bipolar, mending, residual_threshold,
                                 erosion)
    inputnode = fields('phase', 'magnitude', 'brain_mask', 'field_mask', name='inputnode')
    outputnode = fields('field', 'residual', 'quality', 'unwrapped', 'trusted_mask', 'reliable_mask', 'notes',
                        name='outputnode')
    total_field = numeric_node(
        TotalField(echo_times=list(echo_times), voxel_size=voxel_size, center_frequency_hz=center_frequency_hz,
                   offset=offset, unwrapping=unwrapping, fit=fit, bipolar=bipolar),
        'total_field', buffers=12 + 4 * len(echo_times), voxels=voxels, threads=threads)
    trust = numeric_node(ReliableMask(threshold=residual_threshold, erosion=erosion), 'trust', buffers=6,
                         voxels=voxels)
    maps = [(name, name) for name in ('residual', 'quality')]
    workflow.connect([
        (inputnode, total_field, [('phase', 'phase'), ('magnitude', 'magnitude'), ('field_mask', 'mask')]),
        (inputnode, trust, [('field_mask', 'mask'), ('brain_mask', 'brain')]),
        (total_field, trust, maps),
        (total_field, outputnode, [('unwrapped', 'unwrapped'), *maps]),
        (trust, outputnode, [('mask', 'trusted_mask'), ('brain', 'reliable_mask')])])
    last = total_field
    if mending:
        last = numeric_node(
            MendField(echo_times=list(echo_times), voxel_size=voxel_size, b0_dir=b0_dir,
                      center_frequency_hz=center_frequency_hz, threshold=residual_threshold),
            'mend', buffers=8 + len(echo_times), voxels=voxels, threads=threads)
        workflow.connect([
            (inputnode, last, [('magnitude', 'magnitude')]),
            (total_field, last, [('field', 'field'), ('notes', 'notes'), *maps]),
            (trust, last, [('mask', 'mask')])])
    workflow.connect([(last, outputnode, [('field', 'field'), ('notes', 'notes')])])
    return workflow


def _describe(echoes, offset, unwrapping, fit, bipolar, mending, threshold, erosion):
    several, sentences = echoes > 1, []
    if echoes > 2 and bipolar != 'no':
        sentences.append('A phase that alternates between the echoes, as a bipolar readout leaves it, was looked for '
                         'and taken out [@li2015bipolar].')
    if offset != 'none':
        sentences.append(f'The phase offset of the coils was removed ({cite(OFFSETS[offset])}).')
    sentences.append(f'Phase was unwrapped ({cite(UNWRAPPING[unwrapping])}).')
    if several:
        sentences.append(f'The total field was found by {cite(ECHO_FITS[fit])}; voxels with a relative residual of '
                         f'{threshold:g} or more were left out'
                         + (', and one voxel all along the border.' if erosion else
                            ', at the border together with those beside them.'))
    if mending:
        sentences.append('Doubtful voxels that trusted ones enclose were moved by whole turns where dipoles that '
                         'explain the field around them say so; those that hold nothing but noise took the field of '
                         'these dipoles.')
    return ' '.join(sentences)
