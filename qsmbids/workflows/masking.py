"""The brain mask."""

from qsmbids.interfaces.masking import BrainMask, UseMask
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node


def init_masking_wf(*, voxel_size, voxels, brain_mask=None, threads=1, name='masking_wf'):
    """Return a workflow that finds the brain, or takes over a mask.

    Parameters
    ----------
    voxel_size : tuple of float
        mm.
    voxels : int
        Voxels of one volume, for the memory.
    brain_mask : str, optional
        Path of a mask to use instead.
    threads : int

    Inputs
    ------
    magnitude
        4D, echo last.

    Outputs
    -------
    brain_mask
    """
    workflow = DescribedWorkflow(name=name)
    inputnode, outputnode = fields('magnitude', name='inputnode'), fields('brain_mask', name='outputnode')
    if brain_mask:
        workflow.__desc__ = 'A brain mask was taken over from other derivatives.'
        use_mask = numeric_node(UseMask(mask=brain_mask), 'use_mask', buffers=2, voxels=voxels)
        workflow.connect([(inputnode, use_mask, [('magnitude', 'like')]),
                          (use_mask, outputnode, [('mask', 'brain_mask')])])
        return workflow
    workflow.__desc__ = ('The brain was extracted from the magnitude by a deformable surface after flattening of the '
                         'receive field [@smith2002].')
    find_brain = numeric_node(BrainMask(voxel_size=voxel_size), 'find_brain', buffers=10, voxels=voxels,
                              threads=threads)
    workflow.connect([(inputnode, find_brain, [('magnitude', 'magnitude')]),
                      (find_brain, outputnode, [('mask', 'brain_mask')])])
    return workflow
