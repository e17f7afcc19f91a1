"""Positive and negative sources of susceptibility."""

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe

from qsmbids.core.methods import SEPARATION
from qsmbids.core.separation import relaxivity_at
from qsmbids.interfaces.separation import SeparateSources
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node

SIGNS = ('positive', 'negative')


def init_separation_wf(*, inversion, b0_tesla, voxels, threads=1, name='separation_wf'):
    """Return a workflow that separates susceptibility maps into positive and negative sources.

    Parameters
    ----------
    inversion : sequence of str
        The methods that the maps are from.
    b0_tesla : float
        Field strength.
    voxels : int
        Voxels of one volume, for the memory.
    threads : int

    Inputs
    ------
    chi_<method>
        ppm.
    r2prime
        1/s.
    mask
        Where the susceptibility is known.

    Outputs
    -------
    chi_<method>positive, chi_<method>negative
        ppm.
    maps
        All of these, in the order of the methods, the positive first.
    """
    method, = SEPARATION.values()
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = (f'Positive and negative sources were told apart by {cite(method)} with a relaxivity of '
                         f'{relaxivity_at(b0_tesla):.4g} 1/s per ppm.')
    names = separated(inversion)
    inputnode = fields(*(f'chi_{name}' for name in inversion), 'r2prime', 'mask', name='inputnode')
    outputnode = fields(*(f'chi_{name}' for name in names), 'maps', name='outputnode')
    gather = pe.Node(Merge(len(names)), name='gather', run_without_submitting=True)
    for name in inversion:
        separate = numeric_node(SeparateSources(b0_tesla=b0_tesla), f'separate_{name}', buffers=8, voxels=voxels,
                                threads=threads)
        workflow.connect([
            (inputnode, separate, [(f'chi_{name}', 'chi'), ('r2prime', 'r2prime'), ('mask', 'mask')]),
            (separate, outputnode, [(sign, f'chi_{name}{sign}') for sign in SIGNS]),
            (separate, gather, [(sign, f'in{1 + names.index(name + sign)}') for sign in SIGNS])])
    workflow.connect([(gather, outputnode, [('out', 'maps')])])
    return workflow


def separated(inversion):
    """Return the names of the maps that the maps of some methods are separated into."""
    return [name + sign for name in inversion for sign in SIGNS]
