import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.core.quality import consistency_metrics, quality_metrics


def test_metrics_of_a_known_case():
    rng = np.random.default_rng(0)
    brain = np.zeros((40, 40, 40), bool)
    brain[10:30, 10:30, 10:30] = True
    noise = rng.standard_normal((*brain.shape, 2, 2)) @ [1, 1j]
    magnitude = np.abs(np.where(brain[..., None], 50.0, 0) + noise)
    magnitude[:, :, 35:] = 80  # scalp
    qsm = brain.copy()
    qsm[10] = False
    chi = np.where(qsm, 0.05 * rng.standard_normal(brain.shape), 0)
    metrics = quality_metrics(voxel_size=(1, 1, 2), magnitude=magnitude, brain=brain, reliable=brain, qsm=qsm,
                              residual=np.full(brain.shape, 0.1), chi={'tv': chi})
    assert metrics['brain_volume_ml'] == pytest.approx(16) and metrics['qsm_fraction'] == pytest.approx(0.95)
    assert metrics['chi_tv_sd_ppm'] == pytest.approx(0.05, rel=0.05)
    assert metrics['snr_first_echo'] == pytest.approx(50, rel=0.05)
    assert metrics['residual_median'] == pytest.approx(0.1)
    assert all(isinstance(value, float) for value in metrics.values())


def test_what_cannot_be_known_is_left_out():
    brain = np.ones((4, 4, 4), bool)
    assert set(quality_metrics(voxel_size=(1, 1, 1), magnitude=np.ones((4, 4, 4, 1)), brain=brain)) == {
        'brain_volume_ml'}


@pytest.fixture(scope='module')
def measured():
    """A map of noise, the field that it makes along a tilted B0, and that direction."""
    b0_dir = (0.0, 0.6, 0.8)
    mask = np.zeros((40, 42, 44), bool)
    mask[3:-3, 3:-3, 3:-3] = True
    chi = np.where(mask, np.random.default_rng(1).standard_normal(mask.shape), 0).astype(np.float32)
    chi[mask] -= chi[mask].mean()
    return forward_field(chi, (1, 1, 1), b0_dir), chi, mask, b0_dir


def test_maps_that_make_their_field_have_no_flag(measured):
    field, chi, mask, b0_dir = measured
    metrics, warnings = consistency_metrics(field, {'tv': chi, 'tkd': 1.1 * chi}, mask, (1, 1, 1), b0_dir)
    assert warnings == [] and metrics['chi_tv_flag'] == metrics['chi_tkd_flag'] == 0
    assert metrics['chi_tv_kernel_gain'] == pytest.approx(1.1 * metrics['chi_tkd_kernel_gain'], rel=1e-3)
    assert metrics['field_b0_angle_deg'] < 3
    assert all(isinstance(value, float) for value in metrics.values())


def test_flags_name_their_map_and_their_worst_counts(measured):
    field, chi, mask, b0_dir = measured
    metrics, warnings = consistency_metrics(field, {'tv': 0.7 * chi, 'tkd': 0.4 * chi}, mask, (1, 1, 1), b0_dir)
    assert (metrics['chi_tv_flag'], metrics['chi_tkd_flag']) == (1, 2)
    assert warnings[0].startswith('tv map: ') and warnings[1].startswith('tkd map is not to be trusted: ')
    _, warnings = consistency_metrics(field, {'tv': chi}, mask, (1, 1, 1), (0, 0, 1))
    assert 'local field' in warnings[0] and '37 degrees' in warnings[0] and len(warnings) >= 2


def test_what_cannot_be_known_of_a_map_is_left_out(measured):
    _, chi, mask, b0_dir = measured
    metrics, warnings = consistency_metrics(0 * chi, {'tv': 0 * chi}, mask, (1, 1, 1), b0_dir)
    assert metrics == {'field_b0_contrast': 0, 'chi_tv_flag': 0} and warnings == []
