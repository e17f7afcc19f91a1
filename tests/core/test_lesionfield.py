"""Lesions without signal: their field tells the sign and the moment."""

import numpy as np
import pytest

from qsmbids.core.dipole import b0_direction, forward_field
from qsmbids.core.microbleeds import find_microbleeds

SHAPE = (44, 42, 40)
CENTRE, RADIUS, HOLE = (20., 21., 19.), 2.5, 4.
AFFINES = {'straight': np.eye(4), 'oblique': np.array([[1., 0, 0, 0], [0, .8, -.6, 0], [0, .6, .8, 0], [0, 0, 0, 1]]),
           'small voxels': np.diag([.7, .7, .7, 1.])}


def scan(chi, affine=np.eye(4), noise=.002):
    """A map with a hole in it where a ball of `chi` ppm has no signal, and the field around."""
    steps = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    distance = np.sqrt(sum(((grid - c) * step) ** 2 for grid, c, step in zip(np.ogrid[tuple(map(slice, SHAPE))], CENTRE,
                                                                            steps)))
    ball, hole = np.clip((RADIUS - distance) / steps[0] + .5, 0, 1), distance < HOLE
    mask = distance < 17 * steps[0]
    rng = np.random.default_rng(0)
    background = rng.normal(0, .02, SHAPE)
    field = forward_field(chi * ball + background, steps, b0_direction(affine)) + rng.normal(0, noise, SHAPE)
    # What comes from further away.
    field += .02 * np.linspace(-1, 1, SHAPE[0])[:, None, None]
    known = mask & ~hole
    return {'chi': background * known, 'mask': mask, 'affine': affine, 'r2star': (20 + 100 * (distance < 3)) * mask,
            'field': field * known}, chi * ball.sum() * steps.prod()


@pytest.mark.parametrize('affine', AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize('chi', [2., -1.8])
def test_the_field_tells_sign_and_moment_of_a_void(chi, affine):
    volumes, moment = scan(chi, affine)
    row, = [row for row in find_microbleeds(**volumes).lesions if row['seen_in'] == 'void']
    assert row['class'] == ('cmb' if chi > 0 else 'calcification')
    assert row['moment_ppm_mm3'] == pytest.approx(moment, rel=.1)
    assert 0 < row['moment_error_ppm_mm3'] < .05 * abs(moment)


def test_without_a_field_the_sign_is_not_known():
    volumes, _ = scan(-1.8)
    del volumes['field']
    row, = [row for row in find_microbleeds(**volumes).lesions if row['seen_in'] == 'void']
    assert row['class'] == 'cmb' and row['certainty'] == 'possible' and row['moment_ppm_mm3'] is None


@pytest.mark.parametrize('change', [lambda field: field * 0, lambda field: np.random.default_rng(1).normal(
    0, .3, SHAPE) * (field != 0)], ids=['nowhere', 'noise'])
def test_a_field_that_tells_nothing_changes_nothing(change):
    volumes, _ = scan(-1.8)
    without = find_microbleeds(**{name: value for name, value in volumes.items() if name != 'field'})
    changed = find_microbleeds(**volumes | {'field': change(volumes['field'])})
    assert changed.lesions == without.lesions


def test_what_the_network_took_for_the_other_sign_is_turned_round():
    volumes, _ = scan(-1.8)

    def classify(scene, blobs):
        return np.array([(.9, .05, .05) if blob.source == 'void' else (0, 0, 1) for blob in blobs], np.float32)

    row, = [row for row in find_microbleeds(**volumes, classify=classify).lesions if row['seen_in'] == 'void']
    assert row['class'] == 'calcification' and row['certainty'] == 'definite'


def test_another_grid_is_refused():
    volumes, _ = scan(2.)
    with pytest.raises(ValueError, match='field'):
        find_microbleeds(**volumes | {'field': volumes['field'][:-1]})
