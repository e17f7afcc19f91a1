"""The brain mask."""

from qsmbids.core.methods import MASKING
from qsmbids.interfaces.masking import BrainMask, UseMask, WidenMask
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node

NETWORK_GB = .4


def init_masking_wf(*, voxel_size, voxels, brain_mask=None, method='surface', margin=2.0, threads=1,
                    name='masking_wf'):
    """Return a workflow that finds the brain, or takes over a mask.

    Parameters
    ----------
    voxel_size : tuple of float
        mm.
    voxels : int
        Voxels of one volume, for the memory.
    brain_mask : str, optional
        Path of a mask to use instead.
    method : str
        Name in `core.methods.MASKING` of what finds it otherwise.
    margin : float
        How far beyond the mask the field is computed, mm. One that is not tight needs no margin: it reaches into the
        fluid around the brain.
    threads : int

    Inputs
    ------
    magnitude
        4D, echo last.

    Outputs
    -------
    brain_mask
    field_mask
        Where to compute the field.
    """
    workflow = DescribedWorkflow(name=name)
    inputnode = fields('magnitude', name='inputnode')
    outputnode = fields('brain_mask', 'field_mask', name='outputnode')
    if brain_mask:
        workflow.__desc__ = 'A brain mask was taken over from other derivatives'
        source = numeric_node(UseMask(mask=brain_mask), 'use_mask', buffers=2, voxels=voxels)
        workflow.connect([(inputnode, source, [('magnitude', 'like')])])
    else:
        workflow.__desc__ = f'The brain was extracted from the magnitude by {cite(MASKING[method])}'
        source = numeric_node(BrainMask(voxel_size=voxel_size, method=method), 'find_brain', buffers=10, voxels=voxels,
                              threads=threads, network_gb=NETWORK_GB if MASKING[method].weights else 0)
        workflow.connect([(inputnode, source, [('magnitude', 'magnitude')])])
    workflow.connect([(source, outputnode, [('mask', 'brain_mask')])])
    if brain_mask or MASKING[method].tight:
        widen = numeric_node(WidenMask(voxel_size=voxel_size, margin=margin), 'widen', buffers=6, voxels=voxels)
        workflow.connect([(source, widen, [('mask', 'mask')]), (widen, outputnode, [('mask', 'field_mask')])])
        workflow.__desc__ += f'; the field was computed up to {margin:g} mm beyond it' if margin else ''
    else:
        workflow.connect([(source, outputnode, [('mask', 'field_mask')])])
    workflow.__desc__ += '.'
    return workflow
