"""From the total field to susceptibility in two passes: what can be trusted, and then all of the brain."""

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe

from qsmbids.interfaces.masking import MergeTwoPass, TwoPassMasks
from qsmbids.interfaces.qsm import ReferenceChi
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node
from qsmbids.workflows.qsm import describe_reference, init_qsm_wf


def init_two_pass_wf(*, voxel_size, inversion, voxels, reference='wholebrain', csf=False, residual_threshold=0.3,
                     threads=1, name='qsm_wf', **options):
    """Return a workflow that computes susceptibility twice and merges the maps.

    Parameters
    ----------
    voxel_size, inversion, voxels, reference, csf, threads, options
        As for :func:`qsmbids.workflows.qsm.init_qsm_wf`.
    residual_threshold : float
        Largest relative residual of the echo fit to trust.

    Inputs
    ------
    Those of :func:`qsmbids.workflows.qsm.init_qsm_wf`, and ``field_mask`` (where the field is computed), ``residual``,
    ``quality``.

    Outputs
    -------
    Those of :func:`qsmbids.workflows.qsm.init_qsm_wf`.
    """
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = ('Susceptibility was computed twice: without the doubtful parts of the brain, and from all of '
                         f'it for where the first map has no value [@stewart2022]{describe_reference(reference)}.')
    first, second = (init_qsm_wf(voxel_size=voxel_size, inversion=inversion, voxels=voxels, reference='none',
                                 threads=threads, name=name, **options) for name in ('first_wf', 'second_wf'))
    given = [name for name in first.get_node('inputnode').interface._fields if name != 'mask']
    inputnode = fields(*given, 'mask', 'field_mask', 'residual', 'quality', name='inputnode')
    outputnode = fields('local_field', 'qsm_mask', 'chi', 'references', 'warnings', name='outputnode')
    size = dict(voxels=voxels)
    masks = numeric_node(TwoPassMasks(voxel_size=voxel_size, threshold=residual_threshold), 'masks', buffers=8, **size)
    merge_field = numeric_node(MergeTwoPass(align=False), 'merge_field', buffers=6, **size)
    workflow.connect([
        (inputnode, masks, [('field_mask', 'mask'), ('mask', 'reliable'), ('residual', 'residual'),
                            ('quality', 'quality')]),
        (inputnode, first, [(name, f'inputnode.{name}') for name in given]),
        (inputnode, second, [(name, f'inputnode.{name}') for name in given if not name.endswith('weight')]),
        (masks, first, [('strict', 'inputnode.mask')]),
        (masks, second, [('filled', 'inputnode.mask')]),
        (first, merge_field, [('outputnode.local_field', 'chi'), ('outputnode.qsm_mask', 'reliable')]),
        (second, merge_field, [('outputnode.local_field', 'filled_chi'), ('outputnode.qsm_mask', 'filled')]),
        (merge_field, outputnode, [('chi', 'local_field'), ('mask', 'qsm_mask')])])
    gather = {out: pe.Node(Merge(len(inversion), no_flatten=True), name=f'gather_{out}', run_without_submitting=True)
              for out in ('chi', 'metadata', 'warnings')}
    for index, method in enumerate(inversion):
        merge = numeric_node(MergeTwoPass(), f'merge_{method}', buffers=6, **size)
        refer = numeric_node(ReferenceChi(region=reference), f'reference_{method}', buffers=4, **size)
        workflow.connect([
            (first, merge, [(('outputnode.chi', _pick, index), 'chi'), ('outputnode.qsm_mask', 'reliable')]),
            (second, merge, [(('outputnode.chi', _pick, index), 'filled_chi'), ('outputnode.qsm_mask', 'filled')]),
            (merge, refer, [('chi', 'chi'), ('mask', 'mask')]),
            (first, refer, [(('outputnode.references', _estimation, index), 'estimation'),
                            (('outputnode.warnings', _pick, index), 'warnings')])])
        if csf:
            workflow.connect([(inputnode, refer, [('csf_mask', 'csf')])])
        workflow.connect([(refer, node, [(out, f'in{index + 1}')]) for out, node in gather.items()])
    workflow.connect([(gather['chi'], outputnode, [('out', 'chi')]),
                      (gather['metadata'], outputnode, [('out', 'references')]),
                      (gather['warnings'], outputnode, [('out', 'warnings')])])
    return workflow


def _pick(values, index):
    return values[index]


def _estimation(metadata, index):
    """Return how the map of the first pass was computed, without what it refers to."""
    return {name: value for name, value in metadata[index].items()
            if name not in ('SusceptibilityReference', 'References')}
