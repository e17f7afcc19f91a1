"""Susceptibility-weighted images."""

from qsmbids.core.methods import SWI
from qsmbids.interfaces.swi import WeightBySusceptibility
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node


def init_swi_wf(*, echo_times, voxel_size, b0_dir, voxels, threads=1, name='swi_wf'):
    """Return a workflow that weighs the magnitude by the phase and projects the minimum over slices.

    Parameters
    ----------
    echo_times : tuple of float
        s.
    voxel_size, b0_dir : tuple of float
        mm; direction of the main field in voxel axes.
    voxels : int
        Voxels of one volume, for the memory.
    threads : int

    Inputs
    ------
    magnitude
        4D, echo last.
    field
        Total field, ppm.
    brain_mask, reliable_mask

    Outputs
    -------
    swi, minip
    """
    method, = SWI.values()
    slices = method.parameters()['slices']
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = (f'The magnitude was turned into an image by {cite(method)}, and its minimum taken over '
                         f'{slices} slices.')
    inputnode = fields('magnitude', 'field', 'brain_mask', 'reliable_mask', name='inputnode')
    outputnode = fields('swi', 'minip', name='outputnode')
    weigh = numeric_node(
        WeightBySusceptibility(echo_times=list(echo_times), voxel_size=voxel_size, b0_dir=b0_dir), 'weigh',
        buffers=8 + 2 * len(echo_times), voxels=voxels, threads=threads)
    workflow.connect([
        (inputnode, weigh, [('magnitude', 'magnitude'), ('field', 'field'), ('brain_mask', 'mask'),
                            ('reliable_mask', 'trusted')]),
        (weigh, outputnode, [('swi', 'swi'), ('minip', 'minip')])])
    return workflow
