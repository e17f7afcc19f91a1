import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qsmbids.core.phase import complex_to_polar, phase_to_radians, ppm_to_radians
from qsmbids.simulation.testbids import NAMES, acquisition, write

TESTBIDS = Path(__file__).parents[2] / 'data' / 'testbids'


def load(path):
    return nib.load(TESTBIDS / path).get_fdata(dtype=np.float32)


def test_data_testbids_is_what_the_code_makes(tmp_path):
    write(tmp_path)
    made, kept = ({p.relative_to(root): p for p in root.rglob('*') if p.is_file()}
                  for root in (tmp_path, TESTBIDS))
    assert set(made) == set(kept)
    for name in made:
        contents = [gzip.decompress(p.read_bytes()) if p.suffix == '.gz' else p.read_bytes()
                    for p in (made[name], kept[name])]
        assert contents[0] == contents[1], name


def test_data_testbids_is_small():
    assert sum(p.stat().st_size for p in TESTBIDS.rglob('*') if p.is_file()) < 3e6


def test_only_the_broken_participant_fails_the_bids_validator(validator_errors):
    errors = validator_errors(TESTBIDS)
    assert errors
    assert all(field == 'EchoTime' and location.startswith('/sub-broken/') for _, field, location in errors)


@pytest.mark.parametrize('session', ['baseline', 'followup'])
def test_siemens_levels_hold_the_simulated_phase(session):
    scan = acquisition(f'sub-01_ses-{session}')
    stem = f'sub-01/ses-{session}/anat/sub-01_ses-{session}_echo-3_part'
    phase, rule, warning = phase_to_radians(load(f'{stem}-phase_MEGRE.nii.gz'), 'arbitrary', 'Siemens')
    assert rule == '4096 levels from 0' and warning is None
    error = np.angle(np.exp(1j * phase) * scan.signal[..., 2].conj())
    assert np.abs(error[scan.mask & (np.abs(scan.signal[..., 0]) > .1 * np.abs(scan.signal).max())]).max() < 1e-3
    magnitude = load(f'{stem}-mag_MEGRE.nii.gz')
    assert np.corrcoef(magnitude.ravel(), np.abs(scan.signal[..., 2]).ravel())[0, 1] > .9999


def test_real_and_imaginary_part_hold_the_simulated_phase():
    scan = acquisition('sub-02')
    real, imaginary = (load(f'sub-02/anat/sub-02_echo-1_part-{part}_MEGRE.nii.gz') for part in ('real', 'imag'))
    _, phase = complex_to_polar(real, imaginary)
    error = np.angle(np.exp(1j * phase) * scan.signal[..., 0].conj())[scan.mask]
    assert np.percentile(np.abs(error), 99) < .01
    assert scan.sequence.b0_dir[2] == pytest.approx(np.cos(np.deg2rad(25)), abs=.01)


def test_the_single_echo_is_sagittal_and_in_radians():
    scan = acquisition('sub-03')
    stored = load('sub-03/anat/sub-03_part-phase_T2starw.nii.gz')
    assert -np.pi - 1e-5 <= stored.min() < -3.1 and 3.1 < stored.max() <= np.pi + 1e-5
    assert scan.sequence.b0_dir == pytest.approx((0, 1, 0))
    bright = scan.mask & (np.abs(scan.signal[..., 0]) > .1 * np.abs(scan.signal).max())
    assert np.abs(np.angle(np.exp(1j * stored) * scan.signal[..., 0].conj()))[bright].max() < 2e-3


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'sub-broken'])
def test_unwrapping_is_needed_and_possible(name):
    scan = acquisition(name)
    phase = ppm_to_radians(scan.field, scan.sequence.echo_times[-1], scan.sequence.center_frequency_hz)
    assert np.abs(phase[scan.mask]).max() > np.pi
    for axis in range(3):
        both = scan.mask & np.roll(scan.mask, 1, axis)
        assert np.mean(np.abs(phase - np.roll(phase, 1, axis))[both] > np.pi) < .02


def test_the_sessions_show_one_brain_in_two_places():
    first, second = acquisition('sub-01_ses-baseline'), acquisition('sub-01_ses-followup')
    assert second.mask.sum() == pytest.approx(first.mask.sum(), rel=.02)
    assert .02 < np.mean(first.mask != second.mask) / first.mask.mean() < .3
    assert second.chi[second.mask].mean() == pytest.approx(first.chi[first.mask].mean(), abs=.003)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='sub-01_ses-baseline'):
        acquisition('sub-99')
