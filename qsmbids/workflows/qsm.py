"""From the total field to susceptibility."""

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe

from qsmbids.core.methods import BACKGROUND, INVERSION
from qsmbids.interfaces.qsm import Invert, ReferenceChi, RemoveBackground
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node

_REGIONS = {'wholebrain': 'the whole brain', 'csf': 'ventricular cerebrospinal fluid'}


def init_qsm_wf(*, voxel_size, b0_dir, voxels, background='pdf', inversion=('tv',), inversion_parameters=None,
                reference='wholebrain', csf=False, threads=1, name='qsm_wf'):
    """Return a workflow of background field removal, one or more inversions, and referencing.

    Parameters
    ----------
    voxel_size, b0_dir : tuple of float
        mm; direction of the main field in voxel axes.
    voxels : int
        Voxels of one volume, for the memory.
    background : str
    inversion : sequence of str
        Names in the tables of :mod:`qsmbids.core.methods`.
    inversion_parameters : dict, optional
        Parameters of the inversion other than its defaults.
    reference : {'wholebrain', 'csf', 'none'}
    csf : bool
        Whether a mask of ventricular fluid will be connected.
    threads : int

    Inputs
    ------
    field
        ppm.
    mask
        Where it is trusted.
    brain_mask
        Where susceptibility is wanted; all of `mask` without it.
    weight, background_weight
        0 to 1, of the inversion and of a background removal that can weigh; all voxels count alike without it.
    magnitude, csf_mask
        For inversions that use them.

    Outputs
    -------
    local_field, qsm_mask
    chi, references, warnings
        Lists, in the order of `inversion`.
    companions
        Maps that the inversions make beside chi: a list in the order of `companion_maps`.
    """
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = (
        f'Background fields were removed by {cite(BACKGROUND[background])}. Susceptibility was computed by '
        + ', and by '.join(cite(INVERSION[method]) for method in inversion)
        + (', with the strength of the regularisation chosen from the field itself' if not inversion_parameters
           and any(INVERSION[method].automatic for method in inversion) else '')
        + describe_reference(reference) + '.')
    inputnode = fields('field', 'mask', 'brain_mask', 'weight', 'background_weight', 'magnitude', 'csf_mask',
                       name='inputnode')
    outputnode = fields('local_field', 'qsm_mask', 'chi', 'references', 'warnings', 'companions', name='outputnode')
    remove_background = numeric_node(RemoveBackground(method=background, voxel_size=voxel_size, b0_dir=b0_dir),
                                     'remove_background', buffers=40 if BACKGROUND[background].weights else 14,
                                     voxels=voxels, threads=threads)
    workflow.connect([
        (inputnode, remove_background, [('field', 'field'), ('mask', 'mask'), ('brain_mask', 'within')]),
        (remove_background, outputnode, [('field', 'local_field'), ('mask', 'qsm_mask')])])
    if BACKGROUND[background].takes('weight'):
        workflow.connect([(inputnode, remove_background, [('background_weight', 'weight')])])
    gather = {out: pe.Node(Merge(len(inversion), no_flatten=True), name=f'gather_{out}', run_without_submitting=True)
              for out in ('chi', 'metadata', 'warnings')}
    companions = pe.Node(Merge(len(inversion)), name='gather_companions', run_without_submitting=True)
    for index, method in enumerate(inversion, 1):
        invert = numeric_node(
            Invert(method=method, voxel_size=voxel_size, b0_dir=b0_dir, parameters=inversion_parameters or {}),
            f'invert_{method}', buffers=24, voxels=voxels, threads=threads)
        refer = numeric_node(ReferenceChi(region=reference), f'reference_{method}', buffers=4, voxels=voxels)
        workflow.connect([
            (inputnode if INVERSION[method].takes_total else remove_background, invert,
             [('field', 'field'), ('mask', 'mask')]),
            (inputnode, invert, [('weight', 'weight')]),
            (remove_background, refer, [('mask', 'mask')]),
            (invert, refer, [('chi', 'chi'), ('metadata', 'estimation'), ('warnings', 'warnings')])])
        if INVERSION[method].companions:
            workflow.connect([(invert, companions, [('companions', f'in{index}')])])
        # Another magnitude need not change what does not look at it.
        for source, name in (('magnitude', 'magnitude'), ('csf_mask', 'csf')):
            if INVERSION[method].takes(name):
                workflow.connect([(inputnode, invert, [(source, name)])])
        if csf:
            workflow.connect([(inputnode, refer, [('csf_mask', 'csf')])])
        for out, node in gather.items():
            workflow.connect([(refer, node, [(out, f'in{index}')])])
    if companion_maps(inversion):
        workflow.connect([(companions, outputnode, [('out', 'companions')])])
    workflow.connect([(gather['chi'], outputnode, [('out', 'chi')]),
                      (gather['metadata'], outputnode, [('out', 'references')]),
                      (gather['warnings'], outputnode, [('out', 'warnings')])])
    return workflow


def companion_maps(inversion):
    """Return the names of the maps that inversions make beside chi: method and map, as a desc- value has them."""
    return [f'{method}{name}' for method in inversion for name in INVERSION[method].companions]


def describe_reference(reference):
    """Return what a map is relative to as the end of a sentence, with a comma; nothing if there is no reference."""
    return f', relative to the mean of {_REGIONS[reference]}' if reference in _REGIONS else ''
