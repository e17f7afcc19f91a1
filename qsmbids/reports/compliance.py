"""How a run stands to the consensus recommendation for QSM: its thirteen requirements, one by one.

Bilgic B, Costagli M, Chan K-S, et al. Recommended implementation of quantitative susceptibility mapping for clinical
research in the brain: a consensus of the ISMRM electro-magnetic tissue properties study group. Magn Reson Med 2024;
91:1834-1862.
"""

from pathlib import Path

from qsmbids import __version__
from qsmbids.core.methods import BACKGROUND, ECHO_FITS, INVERSION, UNWRAPPING, departures
from qsmbids.files import read_json

_SCANNER = ('Manufacturer', 'ManufacturersModelName', 'MagneticFieldStrength', 'ImagingFrequency', 'SoftwareVersions',
            'RepetitionTime', 'FlipAngle', 'MRAcquisitionType', 'CoilCombinationMethod')


def compliance(facts, metrics, references, warnings):
    """Return the state of each requirement.

    Parameters
    ----------
    facts : dict
        ``echo_times`` (s), ``voxel_size`` (mm), ``shape``, ``center_frequency_hz``, ``has_phase``, ``own_mask``,
        ``metadata`` (sidecar) and ``settings`` (as in :class:`qsmbids.config.Config`) of the run.
    metrics : dict
        As from :func:`qsmbids.core.quality.quality_metrics`.
    references : dict
        Referencing metadata by inversion method.
    warnings : list of str

    Returns
    -------
    dict
        ``C1`` to ``C13``, each with ``requirement``, ``state`` (``met``, ``not met``, ``unknown`` or
        ``not applicable``) and ``evidence``.
    """
    settings, sidecar = facts['settings'], facts['metadata']
    phase = facts['has_phase']
    scanner = {key: sidecar[key] for key in _SCANNER if key in sidecar}
    rows = {
        'C1': ('3D multi-echo gradient echo', _acquisition(facts, sidecar), _acquisition_evidence(facts, sidecar)),
        'C2': ('phase-preserving coil combination', _coils(sidecar),
               f'CoilCombinationMethod: {sidecar.get("CoilCombinationMethod", "not in the sidecar")}'),
        'C3': ('exact phase unwrapping', _met(UNWRAPPING[settings['unwrapping']].consensus),
               UNWRAPPING[settings['unwrapping']].title),
        'C4': ('echoes combined before background removal', 'met' if len(facts['echo_times']) > 1 else
               'not applicable', ECHO_FITS[settings['echo_fit']].title),
        'C5': ('brain mask and phase-quality mask', 'met',
               f'{"given" if facts["own_mask"] else "computed"} brain mask; relative residual below '
               f'{settings["residual_threshold"]:g}: {metrics.get("reliable_fraction", float("nan")):.1%} of it'),
        'C6': ('background removal of the SHARP family or PDF', _met(BACKGROUND[settings['background']].consensus),
               BACKGROUND[settings['background']].title),
        'C7': ('inversion by optimisation with a sparsity-type regulariser',
               _met(any(INVERSION[name].consensus for name in settings['inversion'])),
               '; '.join(f'{name}: {INVERSION[name].title}{"" if INVERSION[name].consensus else " (off-consensus)"}'
                         for name in settings['inversion'])),
        'C8': ('reference region stated, whole brain available', _met(bool(references)), references),
        'C9': ('explicit units', 'met', 'ppm, in each sidecar'),
        'C10': ('tool, version, algorithms and all parameters recorded', 'met',
                f'qsmbids {__version__}; sidecars; preset: {settings["preset"]}{_departures(settings)}'),
        'C11': ('transforms, interpolation and header edits recorded', 'met', _transforms(settings)),
        'C12': ('scanner and protocol recorded',
                _met({'Manufacturer', 'ManufacturersModelName', 'RepetitionTime', 'ImagingFrequency'} <= set(scanner)),
                scanner | {'EchoTimes': facts['echo_times'], 'Matrix': facts['shape'],
                           'VoxelSize': facts['voxel_size'], 'CenterFrequencyHz': facts['center_frequency_hz']}),
        'C13': ('inclusion, exclusion and artefact criteria recorded', 'met',
                {'quality table': 'the _qc.json of this acquisition', 'warnings': warnings}),
    }
    for key in ('C2', 'C3', 'C4', 'C5', 'C6', 'C7', 'C8'):
        if not phase:
            rows[key] = (rows[key][0], 'not applicable', 'magnitude only')
    return {key: dict(zip(('requirement', 'state', 'evidence'), row)) for key, row in rows.items()}


def read_protocol(folder, stem):
    """Return what is recorded of scanner and protocol (C12) of an acquisition; empty if there is nothing.

    Parameters
    ----------
    folder : path
        Of the session.
    stem : str
        What the names of the acquisition's files begin with.
    """
    path = Path(folder) / 'anat' / f'{stem}_desc-consensus_compliance.json'
    found = read_json(path)['C12']['evidence'] if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _transforms(settings):
    spaces = [space for space in settings.get('output_spaces', ()) if space != 'native']
    if not spaces:
        return 'none: all maps lie on the grid of the acquisition'
    return f'maps in {", ".join(spaces)}: one composed affine and SyN transform, linear; all others: none'


def _departures(settings):
    changed = departures(settings)
    return f' but for {", ".join(changed)}' if changed else ''


def _met(condition):
    return 'met' if condition else 'not met'


def _acquisition(facts, sidecar):
    kind = str(sidecar.get('MRAcquisitionType', '')).upper()
    if len(facts['echo_times']) < 2 or kind == '2D':
        return 'not met'
    return 'met' if kind == '3D' else 'unknown'


def _acquisition_evidence(facts, sidecar):
    return (f'{sidecar.get("MRAcquisitionType", "MRAcquisitionType not in the sidecar")}, '
            f'{len(facts["echo_times"])} echoes; partial Fourier: {sidecar.get("PartialFourier", "not stated")}; '
            'readout polarity is not stated by BIDS sidecars')


def _coils(sidecar):
    text = str(sidecar.get('CoilCombinationMethod', '')).lower()
    if not text:
        return 'unknown'
    return 'not met' if 'sum of squares' in text else 'met'
