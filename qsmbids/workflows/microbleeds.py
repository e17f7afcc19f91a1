"""Microbleeds and what is taken for them."""

from qsmbids.interfaces.microbleeds import FindMicrobleeds
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node

FILES = ('mask', 'dseg', 'labels', 'probseg', 'lesions', 'counts')


def init_microbleed_wf(*, voxels, grading='network', chi_map=None, threads=1, name='microbleed_wf'):
    """Return a workflow that takes the census of microbleeds.

    Parameters
    ----------
    voxels : int
        Voxels of one volume, for the memory.
    grading : {'network', 'rules'}
    chi_map : path, optional
        Map of another software, in the place of `chi`.
    threads : int

    Inputs
    ------
    brain_mask
    chi, r2star
        One of them at least.
    regions
        Optional; indices of :mod:`qsmbids.core.labels`.
    field
        Optional; total field, ppm, which tells the sign of lesions without signal.

    Outputs
    -------
    mask, dseg, labels, probseg, lesions, counts
        Microbleeds; all lesions by index, and a TSV of these; score; tables.
    metadata, metrics
    """
    workflow = DescribedWorkflow(name=name)
    by = {'network': 'a network, trained on simulated scans, that sees the map around them and how far they meet rules',
          'rules': 'rules'}[grading]
    looked_at = 'susceptibility map of another software' if chi_map else 'susceptibility'
    workflow.__desc__ = ('Microbleeds and calcifications were found as extrema of the Laplacian of Gaussian of the '
                         f'{looked_at} and graded by {by} after those for readers [@greenberg2009]; this is for '
                         'research use only and no diagnosis.')
    inputnode = fields('brain_mask', 'chi', 'r2star', 'regions', 'field', name='inputnode')
    outputnode = fields(*FILES, 'metadata', 'metrics', name='outputnode')
    find = numeric_node(FindMicrobleeds(), 'find', buffers=22, voxels=voxels, threads=threads)
    if grading == 'network':
        find.inputs.weights = 'cmb'
    if chi_map:
        find.inputs.other_chi = str(chi_map)
    workflow.connect([
        (inputnode, find, [('brain_mask', 'mask'), ('chi', 'chi'), ('r2star', 'r2star'), ('regions', 'regions'),
                           ('field', 'field')]),
        (find, outputnode, [(name, name) for name in (*FILES, 'metadata', 'metrics')])])
    return workflow
