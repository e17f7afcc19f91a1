"""Write simulated scans as a BIDS data set, stored as a vendor would, and their ground truth as a derivative of it.

The same scan gives the same bytes: no time stamps, numbers rounded from double precision. Each file
appears under its name only when it is whole.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from qsmbids.bids import BIDS_VERSION
from qsmbids.core.phase import ppm_to_hz
from qsmbids.core.threads import over_slabs
from qsmbids.files import write_bytes, write_json, write_text, write_tsv
from qsmbids.simulation.lesions import LESION_COLUMNS, lesion_labels, lesion_table
from qsmbids.simulation.tissues import LABELS

COMPRESSION = 6  # more of it takes twice the time and saves 1 %


@dataclass(frozen=True)
class Stored:
    """Values as they lie in a file, shape (nx, ny, nz, ne), with what turns them into the scanner's values."""

    values: np.ndarray
    slope: float = 1.
    intercept: float = 0.
    units: str = 'arbitrary'


def _magnitude(signal, peak):
    return Stored(np.rint(np.abs(signal) * peak).astype(np.uint16))


def _levels(phase):
    """Return 12 bits of phase: level 2048 is zero, and one turn is 4096 levels."""
    return (np.rint(phase * (2048 / np.pi)).astype(int) + 2048).astype(np.uint16) % 4096


def _siemens(signal, phase, peak):
    return {'mag': _magnitude(signal, peak), 'phase': Stored(_levels(phase), 2., -4096.)}


def _siemens_levels(signal, phase, peak):
    return {'mag': _magnitude(signal, peak), 'phase': Stored(_levels(phase))}


def _philips(signal, phase, peak):
    raw = np.rint((phase + np.pi) * (4095 / (2 * np.pi))).astype(np.uint16)
    return {'mag': _magnitude(signal, peak), 'phase': Stored(raw, 2 * np.pi / 4095, -np.pi, 'rad')}


def _radians(signal, phase, peak):
    return {'mag': _magnitude(signal, peak), 'phase': Stored(phase.astype(np.float32), units='rad')}


def _complex(signal, phase, peak):
    return {'real': Stored(np.rint(signal.real * peak).astype(np.int16)),
            'imag': Stored(np.rint(signal.imag * peak).astype(np.int16))}


def _ge(signal, phase, peak):
    # The other handedness, and a shift of pi in every other slice.
    signs = (-1.) ** np.arange(signal.shape[2])[:, None]
    return _complex(signal.conj() * signs, phase, peak)


VENDORS = {'siemens': _siemens, 'siemens_levels': _siemens_levels, 'philips': _philips, 'ge': _ge,
           'radians': _radians, 'complex': _complex}
MANUFACTURERS = {'siemens': 'Siemens', 'siemens_levels': 'Siemens', 'philips': 'Philips', 'ge': 'GE',
                 'radians': 'Simulated', 'complex': 'Simulated'}


def store(signal, vendor, peak=4095, silence=0., loudest=None):
    """Return what a vendor stores of a complex signal.

    Parameters
    ----------
    signal : ndarray, complex, shape (nx, ny, nz, ne)
    vendor : str
        A key of `VENDORS`: 'siemens' (phase 0..4095, slope 2, intercept -4096), 'siemens_levels' (0..4095 as such),
        'philips' (integers whose slope makes radians), 'radians' (float), 'complex' (real and imaginary part) or
        'ge' (the same with the opposite sign of phase and a shift of pi in every other slice).
    peak : int, default 4095
        Stored value of the highest magnitude.
    silence : float, default 0
        Share of the highest magnitude of a voxel's first echo under which phase is stored as zero, as scanners do
        with air.
    loudest : float, optional
        The highest magnitude, if that is not in `signal`.

    Returns
    -------
    dict
        Part ('mag' and 'phase', or 'real' and 'imag') to `Stored`.

    Raises
    ------
    ValueError
        If `vendor` is unknown or `signal` is not four-dimensional.
    """
    if vendor not in VENDORS:
        raise ValueError(f'vendor is {vendor!r}, must be one of {", ".join(VENDORS)}')
    signal = np.asarray(signal, complex)
    if signal.ndim != 4:
        raise ValueError(f'signal has the shape {signal.shape}, must be (nx, ny, nz, ne)')
    magnitude = np.abs(signal)
    phase = np.angle(signal)
    loudest = loudest or magnitude.max()
    phase[magnitude[..., 0] < silence * loudest] = 0
    return VENDORS[vendor](signal / loudest, phase, peak)


def write_scan(root, scan, entities, vendor='siemens', *, suffix='MEGRE', inherit=False, omit=(), peak=4095,
               silence=0.):
    """Write the images and sidecars of a scan into a BIDS data set.

    Parameters
    ----------
    root : path-like
        The data set.
    scan : Scan
    entities : dict
        In their order in the file name, e.g. ``{'sub': '01', 'ses': 'baseline'}``; `echo` and `part` are added.
    vendor, peak, silence
        See `store`.
    suffix : {'MEGRE', 'T2starw'}, default 'MEGRE'
        A scan of one echo may be a T2starw, which has no echo entity.
    inherit : bool, default False
        Put the sidecars at the root of the data set, named without participant and session.
    omit : sequence of str
        Sidecar fields to leave out (for broken data sets).

    Returns
    -------
    list of Path
        The images.
    """
    root = Path(root)
    folder = _folder(root, entities, 'anat')
    volumes = []
    for part, stored in store(scan.signal, vendor, peak, silence).items():
        for echo in range(stored.values.shape[3]):
            names = {**entities, **({} if suffix == 'T2starw' else {'echo': echo + 1}), 'part': part}
            path = folder / f'{_stem(names)}_{suffix}.nii.gz'
            volumes.append((path, stored.values[..., echo], scan.sequence.affine, stored.slope, stored.intercept))
            fields = sidecar(scan.sequence, echo, MANUFACTURERS[vendor], stored.units)
            if inherit:
                names = {key: value for key, value in names.items() if key not in ('sub', 'ses')}
            write_json((root if inherit else folder) / f'{_stem(names)}_{suffix}.json',
                       {key: value for key, value in fields.items() if key not in omit})
    _write_volumes(volumes)
    return [volume[0] for volume in volumes]


def write_channels(root, scan, entities, vendor='siemens'):
    """Write what every coil received under ``sourcedata/channels`` of a data set: BIDS has no place for it.

    The files are named as those of the combined images and hold the coils along their fourth axis; all share one scale.

    Parameters
    ----------
    root, entities, vendor
        See `write_scan`.
    scan : Scan
        With `channels`.

    Returns
    -------
    Path
        ``sourcedata/channels``.

    Raises
    ------
    ValueError
        If `scan` was not simulated with channels.
    """
    if scan.channels is None:
        raise ValueError('scan has no channels, must be simulated with sequence.channels above 0')
    channels = Path(root) / 'sourcedata' / 'channels'
    folder = _folder(channels, entities, 'anat')
    loudest = max(np.abs(scan.channels[..., echo, :]).max() for echo in range(scan.channels.shape[3]))
    for echo in range(scan.channels.shape[3]):
        volumes = []
        for part, stored in store(scan.channels[..., echo, :], vendor, loudest=loudest).items():
            stem = folder / f'{_stem({**entities, "echo": echo + 1, "part": part})}_MEGRE'
            volumes.append((f'{stem}.nii.gz', stored.values, scan.sequence.affine, stored.slope, stored.intercept))
            write_json(f'{stem}.json', sidecar(scan.sequence, echo, MANUFACTURERS[vendor], stored.units))
        _write_volumes(volumes)
    return channels


def sidecar(sequence, echo, manufacturer, units):
    """Return the BIDS metadata of one image of a scan."""
    fields = {
        'EchoTime': sequence.echo_times[echo],
        'FlipAngle': sequence.flip_angle,
        'MRAcquisitionType': '3D',
        'MagneticFieldStrength': sequence.b0_tesla,
        'Manufacturer': manufacturer,
        'ManufacturersModelName': 'qsmbids digital head',
        'PulseSequenceType': 'Multi-echo gradient echo' if len(sequence.echo_times) > 1 else 'Gradient echo',
        'RepetitionTime': sequence.repetition_time,
        'RepetitionTimeExcitation': sequence.repetition_time,
        'Units': units,
    }
    if sequence.imaging_frequency_mhz is not None:
        fields['ImagingFrequency'] = sequence.imaging_frequency_mhz
    if sequence.partial_fourier < 1:
        fields['PartialFourier'] = sequence.partial_fourier
        fields['PhaseEncodingDirection'] = 'ijk'[sequence.phase_encoding]
    return fields


def write_truth(root, scan, entities, lesions=()):
    """Write the ground truth of a scan under ``derivatives/truth`` of a data set.

    Chi (ppm; also the shares of its paramagnetic and diamagnetic sources), R2* (1/s), brain mask and labels go to
    ``anat``, the total (shimmed) and local field in Hz to ``fmap``, beside a magnitude as BIDS wants it. Lesions (see
    `qsmbids.simulation.lesions`) become a label map and a table, which has no row where there are none.

    Returns
    -------
    Path
        The derivative data set.
    """
    truth = Path(root) / 'derivatives' / 'truth'
    write_description(truth, 'Ground truth of a simulated data set', kind='derivative')
    write_tsv(truth / 'desc-truth_dseg.tsv', [{'index': i, 'name': name} for name, i in LABELS.items()],
              ['index', 'name'])
    anat, fmap = (_folder(truth, entities, kind) for kind in ('anat', 'fmap'))
    affine, frequency = scan.sequence.affine, scan.sequence.center_frequency_hz
    magnitude = np.abs(scan.signal[..., 0])
    volumes = []
    # BIDS wants a magnitude beside every field map.
    for folder, name, values, fields in (
            (anat, 'desc-truth_Chimap', scan.chi, {'Units': 'ppm'}),
            (anat, 'desc-positive_Chimap', scan.chi_positive, {'Units': 'ppm'}),
            (anat, 'desc-negative_Chimap', scan.chi - scan.chi_positive, {'Units': 'ppm'}),
            (anat, 'desc-truth_R2starmap', scan.r2star, {'Units': '1/s'}),
            (anat, 'desc-brain_mask', scan.mask.astype(np.uint8), {'Type': 'Brain'}),
            (anat, 'desc-truth_dseg', scan.labels, {'Manual': False}),
            (fmap, 'desc-total_fieldmap', ppm_to_hz(scan.field, frequency).astype(np.float32), {'Units': 'Hz'}),
            (fmap, 'desc-total_magnitude', magnitude, {}),
            (fmap, 'desc-local_fieldmap', ppm_to_hz(scan.local_field, frequency).astype(np.float32), {'Units': 'Hz'}),
            (fmap, 'desc-local_magnitude', magnitude, {})):
        volumes.append((folder / f'{_stem(entities)}_{name}.nii.gz', values, affine))
        write_json(folder / f'{_stem(entities)}_{name}.json', {'SkullStripped': False, **fields})
    _write_volumes(volumes)
    _write_lesions(anat / _stem(entities), scan.sequence, lesions)
    # BIDS has no name for lists of lesions.
    write_text(truth / '.bidsignore', '*_lesions.tsv\n*_lesions.json\n')
    return truth


def _write_lesions(stem, sequence, lesions):
    rows = lesion_table(lesions)
    write_tsv(f'{stem}_desc-truth_lesions.tsv', rows, list(LESION_COLUMNS))
    write_json(f'{stem}_desc-truth_lesions.json', LESION_COLUMNS)
    write_volume(f'{stem}_seg-lesions_desc-truth_dseg.nii.gz',
                 lesion_labels(lesions, sequence.shape, sequence.affine), sequence.affine)
    write_json(f'{stem}_seg-lesions_desc-truth_dseg.json', {'SkullStripped': False, 'Manual': False})
    # Without a table of its own it would inherit that of the tissues.
    write_tsv(f'{stem}_seg-lesions_desc-truth_dseg.tsv',
              [{'index': row['index'], 'name': row['class']} for row in rows], ['index', 'name'])


def write_description(root, name, kind='raw', **fields):
    """Write ``dataset_description.json``."""
    description = {'Name': name, 'BIDSVersion': BIDS_VERSION, 'DatasetType': kind, 'License': 'CC0',
                   'GeneratedBy': [{'Name': 'qsmbids.simulation', 'Description': 'Simulated; nobody was scanned.'}]}
    write_json(Path(root) / 'dataset_description.json', {**description, **fields})


def write_volume(path, values, affine, slope=1., intercept=0.):
    """Write an array as compressed NIfTI, exactly as it is: `slope` and `intercept` only go into the header."""
    header = nib.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header.set_xyzt_units('mm', 'sec')
    header.set_sform(affine, code='scanner')
    header.set_qform(affine, code='scanner')
    for field in ('quatern_b', 'quatern_c', 'quatern_d'):
        # The last bits of an eigenvector depend on the processor.
        header[field] = np.round(header[field], 6) + 0.
    header['scl_slope'], header['scl_inter'] = slope, intercept
    header['vox_offset'] = 352
    header['magic'] = b'n+1'
    content = header.binaryblock + bytes(4) + np.asfortranarray(values).tobytes('F')
    write_bytes(path, gzip.compress(content, compresslevel=COMPRESSION, mtime=0))


def _write_volumes(volumes):
    """Write volumes, each the arguments of `write_volume`, in as many threads as `use_threads` allows."""
    def write(some):
        for volume in volumes[some]:
            write_volume(*volume)

    over_slabs(write, len(volumes), 1)


def _folder(root, entities, kind):
    return root.joinpath(*(f'{key}-{entities[key]}' for key in ('sub', 'ses') if key in entities), kind)


def _stem(entities):
    return '_'.join(f'{key}-{value}' for key, value in entities.items())
