"""The brain mask."""

from qsmbids.interfaces.masking import BrainMask, UseMask, WidenMask
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node


def init_masking_wf(*, voxel_size, voxels, brain_mask=None, margin=2.0, threads=1, name='masking_wf'):
    """Return a workflow that finds the brain, or takes over a mask.

    Parameters
    ----------
    voxel_size : tuple of float
        mm.
    voxels : int
        Voxels of one volume, for the memory.
    brain_mask : str, optional
        Path of a mask to use instead.
    margin : float
        How far beyond such a mask the field is computed, mm. The mask that is found needs no margin: it reaches into
        the fluid around the brain.
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
        workflow.__desc__ = 'A brain mask was taken over from other derivatives' + (
            f'; the field was computed up to {margin:g} mm beyond it.' if margin else '.')
        use_mask = numeric_node(UseMask(mask=brain_mask), 'use_mask', buffers=2, voxels=voxels)
        widen = numeric_node(WidenMask(voxel_size=voxel_size, margin=margin), 'widen', buffers=6, voxels=voxels)
        workflow.connect([(inputnode, use_mask, [('magnitude', 'like')]),
                          (use_mask, widen, [('mask', 'mask')]),
                          (use_mask, outputnode, [('mask', 'brain_mask')]),
                          (widen, outputnode, [('mask', 'field_mask')])])
        return workflow
    workflow.__desc__ = ('The brain was extracted from the magnitude by a deformable surface after flattening of the '
                         'receive field [@smith2002].')
    find_brain = numeric_node(BrainMask(voxel_size=voxel_size), 'find_brain', buffers=10, voxels=voxels,
                              threads=threads)
    workflow.connect([(inputnode, find_brain, [('magnitude', 'magnitude')]),
                      (find_brain, outputnode, [('mask', 'brain_mask'), ('mask', 'field_mask')])])
    return workflow
