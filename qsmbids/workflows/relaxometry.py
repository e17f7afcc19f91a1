"""R2*, T2*, S0, R2' and the ventricular fluid."""

from qsmbids.core.methods import RELAXOMETRY
from qsmbids.core.regions import fluid_limit
from qsmbids.core.relaxometry import applicable_method
from qsmbids.interfaces.relaxometry import CsfMask, FitR2Star, R2Prime
from qsmbids.reports.methods import cite
from qsmbids.workflows.engine import DescribedWorkflow, fields, numeric_node


def init_relaxometry_wf(*, echo_times, voxel_size, voxels, method='arlo', r2_map=None, r2=None, age=None, threads=1,
                        name='relaxometry_wf'):
    """Return a workflow that fits the decay of the magnitude and finds the ventricles by their slow decay.

    Parameters
    ----------
    echo_times : tuple of float
        s; two or more.
    voxel_size : tuple of float
        mm.
    voxels : int
        Voxels of one volume, for the memory.
    method : str
        Name in :data:`qsmbids.core.methods.RELAXOMETRY`.
    r2_map : str, optional
        Path of an R2map or T2map, for R2'.
    r2 : float, optional
        R2 of all tissue in 1/s, for an estimate of R2' without a map.
    age : float, optional
        Years: what is fluid depends on it.
    threads : int

    Inputs
    ------
    magnitude
        4D, echo last.
    brain_mask

    Outputs
    -------
    r2star, t2star, s0, csf_mask, warnings
    r2prime
        If there is `r2_map` or `r2`.
    """
    method = applicable_method(method, echo_times)
    workflow = DescribedWorkflow(name=name)
    workflow.__desc__ = f'R2* was fitted by {cite(RELAXOMETRY[method])}; cerebrospinal fluid is where it is ' \
                        f'below {fluid_limit(age):g} 1/s [@liu2018].'
    inputnode = fields('magnitude', 'brain_mask', name='inputnode')
    outputnode = fields('r2star', 't2star', 's0', 'r2prime', 'csf_mask', 'warnings', name='outputnode')
    fit = numeric_node(FitR2Star(echo_times=list(echo_times), method=method), 'fit',
                       buffers=6 + 3 * len(echo_times), voxels=voxels, threads=threads)
    known = {} if age is None else {'age': age}
    find_csf = numeric_node(CsfMask(voxel_size=voxel_size, **known), 'find_csf', buffers=6, voxels=voxels)
    workflow.connect([
        (inputnode, fit, [('magnitude', 'magnitude'), ('brain_mask', 'mask')]),
        (inputnode, find_csf, [('brain_mask', 'mask')]),
        (fit, find_csf, [('r2star', 'r2star')]),
        (fit, outputnode, [(out, out) for out in ('r2star', 't2star', 's0')]),
        (find_csf, outputnode, [('mask', 'csf_mask'), ('warnings', 'warnings')])])
    if r2_map or r2:
        workflow.__desc__ += (" R2' is the difference to a measured map of R2." if r2_map else
                              f" R2' is the difference to {r2:.3g} 1/s, one R2 for all tissue.")
        subtract = numeric_node(R2Prime(**({'r2_map': r2_map} if r2_map else {'r2': r2})), 'subtract', buffers=6,
                                voxels=voxels)
        workflow.connect([(inputnode, subtract, [('brain_mask', 'mask')]), (fit, subtract, [('r2star', 'r2star')]),
                          (subtract, outputnode, [('r2prime', 'r2prime')])])
    return workflow
