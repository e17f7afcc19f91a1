"""The whole chain on arrays, for notebooks: the functions that the workflow runs, in the same order."""

import os
from dataclasses import dataclass

import numpy as np

from qsmbids.core.certainty import data_weight, field_weight
from qsmbids.core.dipole import b0_direction, voxel_size_of
from qsmbids.core.echoes import combine_magnitude, prepare_echoes
from qsmbids.core.fieldmap import total_field
from qsmbids.core.inversion.solve import solve
from qsmbids.core.masks import find_brain, reliable_mask, widen_mask
from qsmbids.core.mending import mend_field
from qsmbids.core.methods import BACKGROUND, INVERSION, MASKING, WEIGHTINGS
from qsmbids.core.phase import center_frequency
from qsmbids.core.regions import Reference, find_csf, reference_chi
from qsmbids.core.relaxometry import R2StarFit, fit_r2star
from qsmbids.core.threads import use_threads


@dataclass(frozen=True)
class QSMResult:
    """What a reconstruction gives; volumes have the shape ``(nx, ny, nz)`` and are zero outside their mask.

    Attributes
    ----------
    chi : ndarray, float32
        Susceptibility in ppm relative to `reference`; paramagnetic is positive.
    qsm_mask, brain_mask, reliable_mask : ndarray, bool
        Where `chi` is known; the brain; where the echo fit is trusted.
    total_field, local_field : ndarray, float32
        ppm of B0.
    residual, quality : ndarray, float32
        Relative residual of the echo fit, 0 to 2; voxel quality of the unwrapping, 0 to 1. These two and the total
        field reach beyond a given brain mask by its margin.
    relaxation : R2StarFit or None
        R2*, T2* and S0; None for a single echo.
    csf_mask : ndarray, bool, or None
        Ventricular fluid, where it was found.
    reference : str
        The region whose mean is zero in `chi`.
    references : tuple of Reference
        Mean and SD of each region, relative to the whole brain.
    parameters : dict
        Every tuning parameter of the inversion with the value that was used.
    automatic : tuple of str
        Those of them that the data chose.
    notes, warnings : tuple of str
        What was done to the input; what to check.
    """

    chi: np.ndarray
    qsm_mask: np.ndarray
    brain_mask: np.ndarray
    reliable_mask: np.ndarray
    total_field: np.ndarray
    local_field: np.ndarray
    residual: np.ndarray
    quality: np.ndarray
    relaxation: R2StarFit | None
    csf_mask: np.ndarray | None
    reference: str
    references: tuple[Reference, ...]
    parameters: dict
    automatic: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def reconstruct(phase, magnitude, echo_times, *, b0_tesla, affine=None, voxel_size=None, b0_dir=None,
                imaging_frequency_mhz=None, mask=None, mask_method='surface', mask_margin=2.0, phase_units=None,
                manufacturer=None, phase_sign='auto', phase_offset='mcpc3ds', unwrapping='romeo',
                echo_fit='nonlinear', bipolar='auto', mending=True, residual_threshold=0.3, erosion=False,
                weighting='residual', background='pdf',
                background_parameters=None, inversion='tv', inversion_parameters=None, reference='wholebrain',
                relaxometry='arlo', threads=None):
    """Compute a susceptibility map from gradient-echo phase and magnitude.

    Parameters
    ----------
    phase, magnitude : ndarray, shape (nx, ny, nz) or (nx, ny, nz, ne)
        As the scanner stored them, the echo last.
    echo_times : sequence of float
        s, one per echo.
    b0_tesla : float
        Field strength in T.
    affine : array_like, shape (4, 4), optional
        Voxel-to-scanner matrix in mm. Gives `voxel_size` and `b0_dir` unless they are set.
    voxel_size : sequence of float, optional
        mm.
    b0_dir : sequence of float, optional
        Direction of the main field in voxel axes; the third axis if there is no `affine` either.
    imaging_frequency_mhz : float, optional
        The exact frequency; without it 42.577 MHz/T times `b0_tesla`.
    mask : ndarray of bool, shape (nx, ny, nz), optional
        Brain mask; found in the magnitude otherwise.
    mask_method : str, default 'surface'
        Name in `core.methods.MASKING` of what finds it.
    mask_margin : float, default 2
        How far beyond `mask` field and background are computed, mm: the map is better at its border if they are. What
        the surface finds in the magnitude needs none: it reaches into the fluid around the brain.
    phase_units, manufacturer, phase_sign
        As in :func:`qsmbids.core.echoes.prepare_echoes`.
    phase_offset, unwrapping, echo_fit, background, inversion, relaxometry : str
        Names in the tables of :mod:`qsmbids.core.methods`.
    bipolar : {'auto', 'yes', 'no'}
        Whether to correct a phase that alternates between the echoes.
    mending : bool, default True
        Whether doubtful voxels of the field are moved by whole turns (:func:`qsmbids.core.mending.mend_field`).
    residual_threshold : float, default 0.3
        Largest relative residual of the echo fit to trust.
    erosion : bool, default False
        Whether the mask of what is trusted loses its outermost voxel everywhere, not just beside what is not.
    weighting : {'none', 'residual', 'certainty'}
        How much a voxel counts in an inversion that can weigh: all alike, by the relative residual of the echo fit, or
        by how certain its field is. Background removal that can weigh takes the last, unless it is 'none'.
    background_parameters, inversion_parameters : dict, optional
        Parameters of these methods other than their defaults.
    reference : {'wholebrain', 'csf', 'none'}
        Region whose mean becomes zero.
    threads : int, optional
        All cores by default.

    Returns
    -------
    QSMResult

    Raises
    ------
    ValueError
        If there is neither `affine` nor `voxel_size`, or for any input that a step refuses.

    Examples
    --------
    >>> import numpy as np
    >>> from qsmbids.simulation.head import digital_head
    >>> from qsmbids.simulation.signal import Sequence, simulate
    >>> affine = np.diag([6., 6., 6., 1.])
    >>> affine[:3, 3] = -87, -113, -75
    >>> sequence = Sequence((30, 35, 28), affine, (.004, .012, .020), snr=40, supersampling=1)
    >>> scan = simulate(lambda shape, grid: digital_head(shape, grid, seed=5), sequence, seed=1, surround_mm=0)
    >>> result = reconstruct(np.angle(scan.signal), np.abs(scan.signal), sequence.echo_times, b0_tesla=3, affine=affine)
    >>> result.chi.shape, result.reference, result.automatic
    ((30, 35, 28), 'wholebrain', ('lambda',))
    >>> bool(np.corrcoef(result.chi[scan.mask], scan.chi[scan.mask])[0, 1] > .5)
    True
    """
    if affine is None and voxel_size is None:
        raise ValueError('give affine, or voxel_size (and b0_dir if the field is not along the third axis)')
    if weighting not in WEIGHTINGS:
        raise ValueError(f'weighting is {weighting!r}, must be one of {", ".join(WEIGHTINGS)}')
    if voxel_size is None:
        voxel_size = voxel_size_of(affine)
    if b0_dir is None:
        b0_dir = (0., 0., 1.) if affine is None else b0_direction(affine)
    voxel_size = tuple(float(v) for v in voxel_size)
    with use_threads(threads or len(os.sched_getaffinity(0))):
        echoes = prepare_echoes(magnitude, phase, phase_units=phase_units, manufacturer=manufacturer,
                                phase_sign=phase_sign)
        several = echoes.magnitude.shape[3] > 1
        brain = np.asarray(mask, bool) if mask is not None \
            else find_brain(mask_method, echoes.magnitude, voxel_size, affine)
        tight = mask is not None or MASKING[mask_method].tight
        region = widen_mask(brain, voxel_size, mask_margin) if tight else brain
        field = total_field(echoes.phase, echoes.magnitude, echo_times, region, voxel_size,
                            center_frequency(b0_tesla, imaging_frequency_mhz),
                            offset=phase_offset if several else 'none', unwrapping=unwrapping, fit=echo_fit,
                            bipolar=bipolar)
        reliable = reliable_mask(region, field.residual, field.quality, within=brain, threshold=residual_threshold,
                                 erosion=erosion)
        total, notes = field.field, (*echoes.notes, *field.notes)
        if mending:
            mended = mend_field(total, reliable, field.residual, field.quality, echoes.magnitude, echo_times,
                                voxel_size, center_frequency(b0_tesla, imaging_frequency_mhz), b0_dir=b0_dir,
                                threshold=residual_threshold)
            total, notes = mended.field, (*notes, *mended.notes)
        remove, beside = BACKGROUND[background], {}
        if weighting != 'none' and remove.takes('weight'):
            beside['weight'] = field_weight(echoes.magnitude, field.residual, echo_times, reliable)
        local, known = remove.load()(total, reliable, voxel_size, b0_dir=b0_dir, **beside,
                                     **remove.arguments(background_parameters))
        local, known = local * brain, known & brain
        weight = data_weight(weighting, echoes.magnitude, field.residual, echo_times, reliable, residual_threshold)
        relaxation = fit_r2star(echoes.magnitude, echo_times, brain, method=relaxometry) if several else None
        warnings = list(echoes.warnings)
        csf = None
        if several:
            fluid, found = find_csf(relaxation.r2star, brain, voxel_size)
            csf = fluid if fluid.any() else None
            warnings += found
        given = (total, reliable) if INVERSION[inversion].takes_total else (local, known)
        solution = solve(inversion, *given, voxel_size, b0_dir=b0_dir, weight=weight,
                         magnitude=combine_magnitude(echoes.magnitude), csf=csf, parameters=inversion_parameters)
    referenced = reference_chi(solution.chi, known, csf, reference)
    return QSMResult(chi=referenced.chi, qsm_mask=known, brain_mask=brain, reliable_mask=reliable & brain,
                     total_field=total, local_field=local, residual=field.residual, quality=field.quality,
                     relaxation=relaxation, csf_mask=csf, reference=referenced.used,
                     references=referenced.references, parameters=solution.parameters, automatic=solution.automatic,
                     notes=notes, warnings=(*warnings, *solution.warnings, *referenced.warnings))
