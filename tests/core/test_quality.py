import numpy as np
import pytest

from qsmbids.core.quality import quality_metrics


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
