import gzip
import json
from dataclasses import replace
from functools import partial

import nibabel as nib
import numpy as np
import pytest

from qsmbids.core.phase import complex_to_polar, has_alternating_slices, phase_to_radians, undo_alternating_slices
from qsmbids.simulation.bids import (VENDORS, sidecar, store, write_channels, write_description, write_scan,
                                     write_truth, write_volume)
from qsmbids.simulation.head import digital_head
from qsmbids.simulation.signal import Sequence, simulate
from qsmbids.simulation.tissues import LABELS

SHAPE = (16, 20, 14)
TILT = np.array([[.8, -.6, 0, -90], [.6, .8, 0, -131], [0, 0, 1, -66], [0, 0, 0, 1]])


@pytest.fixture(scope='module')
def scan():
    affine = TILT @ np.diag([11, 12, 13, 1])
    affine[:3, 3] = np.array([0, -17, 12]) - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return simulate(partial(digital_head, seed=2), Sequence(SHAPE, affine, (.004, .012), supersampling=2), seed=1)


def read(paths, part):
    """Return the values of all echoes of a part as a reader sees them, and the first sidecar."""
    found = sorted(path for path in paths if f'_part-{part}_' in path.name)
    values = np.stack([nib.load(path).get_fdata(dtype=np.float32) for path in found], axis=-1)
    return values, json.loads(found[0].with_name(found[0].name.replace('.nii.gz', '.json')).read_text())


@pytest.mark.parametrize('vendor', VENDORS)
def test_every_storage_decodes_to_the_same_signal(tmp_path, scan, vendor):
    paths = write_scan(tmp_path, scan, {'sub': '01'}, vendor)
    if vendor in ('complex', 'ge'):
        magnitude, phase = complex_to_polar(read(paths, 'real')[0], read(paths, 'imag')[0])
    else:
        magnitude = read(paths, 'mag')[0]
        stored, fields = read(paths, 'phase')
        phase, _, warning = phase_to_radians(stored, fields['Units'], fields['Manufacturer'])
        assert warning is None
    assert has_alternating_slices(phase, magnitude) == (vendor == 'ge')
    if vendor == 'ge':
        phase = -undo_alternating_slices(phase)
    bright = magnitude > 800
    assert bright[..., 0].mean() > .2
    error = np.angle(np.exp(1j * (phase - np.angle(scan.signal)).astype(float)))[bright]
    assert np.abs(error).max() < 1.01 * (np.pi / 4096 if vendor not in ('complex', 'ge') else np.sqrt(.5) / 800)
    scale = np.abs(scan.signal).max() / 4095
    assert np.abs(magnitude * scale - np.abs(scan.signal)).max() < .72 * scale


def test_siemens_and_philips_scale_phase_in_the_header(scan):
    siemens, philips = (store(scan.signal, vendor)['phase'] for vendor in ('siemens', 'philips'))
    assert (siemens.slope, siemens.intercept) == (2, -4096)
    for stored in (siemens, philips):
        assert stored.values.dtype == np.uint16
        assert stored.values.min() <= 10 and 4085 <= stored.values.max() <= 4095


def test_silence_hides_the_phase_of_air_only(scan):
    quiet, loud = (store(scan.signal, 'radians', silence=share)['phase'].values for share in (.1, 0))
    air = np.abs(scan.signal[..., 0]) < .1 * np.abs(scan.signal).max()
    assert air.mean() > .2 and not quiet[air].any()
    assert np.array_equal(quiet[~air], loud[~air])


def test_store_refuses_what_it_does_not_know(scan):
    with pytest.raises(ValueError, match='vendor'):
        store(scan.signal, 'bruker')
    with pytest.raises(ValueError, match='signal'):
        store(scan.signal[..., 0], 'ge')


def test_a_volume_is_written_as_it_is(tmp_path):
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    path = tmp_path / 'deep' / 'volume.nii.gz'
    write_volume(path, values, TILT, 2, -4096)
    image = nib.load(path)
    assert np.array_equal(image.dataobj.get_unscaled(), values)
    assert np.array_equal(image.get_fdata(), 2. * values - 4096)
    assert image.affine == pytest.approx(TILT, abs=1e-5)
    assert image.header.get_qform() == pytest.approx(TILT, abs=1e-4)
    assert image.header.get_xyzt_units()[0] == 'mm'
    raw = path.read_bytes()
    # No file name and no time in the gzip header.
    assert raw[3] == 0 and raw[4:8] == bytes(4)
    assert len(gzip.decompress(raw)) == 352 + values.nbytes


def test_the_same_scan_gives_the_same_bytes(tmp_path, scan):
    for name in ('a', 'b'):
        write_scan(tmp_path / name, scan, {'sub': '01', 'ses': 'x'}, 'siemens')
    files = sorted(p.relative_to(tmp_path / 'a') for p in (tmp_path / 'a').rglob('*.*'))
    assert len(files) == 8 and files[0].parts[:3] == ('sub-01', 'ses-x', 'anat')
    assert all((tmp_path / 'a' / f).read_bytes() == (tmp_path / 'b' / f).read_bytes() for f in files)


def test_coils_lie_along_the_fourth_axis_and_share_a_scale(tmp_path, scan):
    gains = np.array([.5, .3, .1j], np.complex64)
    write_channels(tmp_path, replace(scan, channels=scan.signal[..., None] * gains), {'sub': '01'}, 'radians')
    folder = tmp_path / 'sourcedata' / 'channels' / 'sub-01' / 'anat'
    assert sorted(p.name for p in folder.glob('*.nii.gz')) == [
        f'sub-01_echo-{echo}_part-{part}_MEGRE.nii.gz' for echo in (1, 2) for part in ('mag', 'phase')]
    magnitude = np.stack([nib.load(folder / f'sub-01_echo-{echo}_part-mag_MEGRE.nii.gz').get_fdata()
                          for echo in (1, 2)], axis=3)
    expected = np.abs(scan.signal[..., None] * gains)
    assert magnitude == pytest.approx(expected * 4095 / expected.max(), abs=.51)
    phase = nib.load(folder / 'sub-01_echo-2_part-phase_MEGRE.nii.gz').get_fdata()
    assert np.exp(1j * phase[..., 2]) == pytest.approx(1j * np.exp(1j * np.angle(scan.signal[..., 1])), abs=1e-3)
    with pytest.raises(ValueError, match='channels'):
        write_channels(tmp_path, scan, {'sub': '01'})


def test_partial_fourier_stands_in_the_sidecar(scan):
    assert 'PartialFourier' not in sidecar(scan.sequence, 0, 'Siemens', 'rad')
    fields = sidecar(replace(scan.sequence, partial_fourier=.75, phase_encoding=2), 0, 'Siemens', 'rad')
    assert (fields['PartialFourier'], fields['PhaseEncodingDirection']) == (.75, 'k')


def test_sidecars_can_be_inherited_and_broken(tmp_path, scan):
    write_scan(tmp_path, scan, {'sub': '01', 'acq': 'x'}, 'complex', inherit=True, omit=('EchoTime',))
    assert not list((tmp_path / 'sub-01').rglob('*.json'))
    fields = json.loads((tmp_path / 'acq-x_echo-2_part-imag_MEGRE.json').read_text())
    assert fields == {key: value for key, value in sidecar(scan.sequence, 1, 'Simulated', 'arbitrary').items()
                      if key != 'EchoTime'}


def test_truth_is_a_valid_derivative(tmp_path, scan, validator_errors):
    write_description(tmp_path, 'test')
    (tmp_path / 'README').write_text('Simulated for a test of the writer; it holds one participant and no person.')
    write_scan(tmp_path, scan, {'sub': '01'})
    truth = write_truth(tmp_path, scan, {'sub': '01'})
    chi = nib.load(truth / 'sub-01' / 'anat' / 'sub-01_desc-truth_Chimap.nii.gz')
    assert np.array_equal(chi.get_fdata(dtype=np.float32), scan.chi)
    positive, negative = (nib.load(truth / 'sub-01' / 'anat' / f'sub-01_desc-{sign}_Chimap.nii.gz').get_fdata()
                          for sign in ('positive', 'negative'))
    assert positive.min() >= 0 and negative.max() < 1e-6
    assert positive + negative == pytest.approx(scan.chi, abs=1e-6)
    white = scan.labels == LABELS['white_matter']
    assert -negative[white].mean() > positive[white].mean() > 0
    local = nib.load(truth / 'sub-01' / 'fmap' / 'sub-01_desc-local_fieldmap.nii.gz').get_fdata()
    assert local == pytest.approx(scan.local_field * 127.731, rel=1e-4, abs=1e-6)  # 42.577 MHz/T at 3 T
    assert validator_errors(tmp_path) == [] and validator_errors(truth) == []
