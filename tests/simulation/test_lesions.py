import time
from dataclasses import replace

import numpy as np
import pytest

from qsmbids.core.dipole import forward_field
from qsmbids.simulation import lesions as module
from qsmbids.simulation.head import Head
from qsmbids.simulation.lesions import (LESION_COLUMNS, Body, Lesion, lesion_labels, lesion_table, paint_lesions,
                                        with_lesions)
from qsmbids.simulation.shapes import random_rotations
from qsmbids.simulation.signal import Sequence, rotation, simulate
from qsmbids.simulation.tissues import LABELS, RELAXIVITY, TISSUES


def block(shape=(24, 26, 22), name='white_matter'):
    return Head(np.full(shape, LABELS[name], np.uint8), np.full(shape, TISSUES[name].chi, np.float32),
                tuple(TISSUES.values()))


def grid(voxel_size, tilt=0., shape=(24, 26, 22)):
    affine = np.eye(4)
    affine[:3, :3] = rotation((1, .4, -.2), tilt) * voxel_size
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2)
    return affine


def ball(radius, chi=.5, centre=(.31, -.17, .05), **others):
    return Lesion('cmb', (Body(np.array(centre), np.eye(3), (radius,) * 3),), chi, **others)


def moment(head, background, affine):
    return (head.chi.astype(float) - background.chi).sum() * np.linalg.det(affine[:3, :3])


@pytest.mark.parametrize('voxel_size, tilt', [((1, 1, 1), 0), ((.8, .8, 3), 32), ((4, 4, 4), 10)])
@pytest.mark.parametrize('radius', [.3, .7, 1.5, 5])
def test_the_moment_is_that_of_the_ball_on_every_grid(voxel_size, tilt, radius):
    affine = grid(voxel_size, tilt)
    painted = paint_lesions(block(), affine, [ball(radius)])
    assert moment(painted, block(), affine) == pytest.approx(.5 * 4 / 3 * np.pi * radius ** 3, rel=1e-3)
    # And its centre is where it was put, as far as voxels can tell.
    extra = painted.chi.astype(float) - block().chi
    at = np.array([(extra * index).sum() for index in np.indices(extra.shape)]) / extra.sum()
    error = (.05 if radius > max(voxel_size) else .52) * max(voxel_size)
    assert affine[:3, :3] @ at + affine[:3, 3] == pytest.approx((.31, -.17, .05), abs=error)


def test_shares_are_right_before_they_are_scaled(monkeypatch):
    for fineness, error in ((5, .03), (12, .01)):
        monkeypatch.setattr(module, 'FINENESS', fineness)
        for radius in (.7, 1.3, 6):
            lesion = ball(radius)
            counted = module._shares(lesion.bodies, grid((1, 1, 1)))[1].sum()
            assert counted == pytest.approx(lesion.volume, rel=error)


def test_a_tube_and_a_fork_have_their_volume():
    tube = Body(np.zeros(3), random_rotations(1, np.random.default_rng(0))[0], (.5, .5, .5), 4.)
    assert tube.volume == pytest.approx(np.pi * .25 * 8 + np.pi / 6)
    crossing = replace(tube, frame=tube.frame[:, [1, 2, 0]])
    union = Lesion('vessel', (tube, crossing), .3)
    # Two crossing cylinders share 16/3 r^3.
    assert union.volume == pytest.approx(2 * tube.volume - 16 / 3 * .125, rel=.02)
    assert union.moment == pytest.approx(.3 * union.volume)
    painted = paint_lesions(block(), grid((1, 1, 1)), [union])
    assert moment(painted, block(), grid((1, 1, 1))) == pytest.approx(union.moment, rel=1e-3)
    assert painted.chi.max() < TISSUES['white_matter'].chi + .3 * 1.001


@pytest.mark.parametrize('radius, error', [(.35, .12), (.7, .05), (1.6, .05)])
def test_the_field_around_is_that_of_a_ball(radius, error):
    shape, affine = (48, 48, 48), grid((.5, .5, .5), 0, (48, 48, 48))
    nothing = replace(block(shape), chi=np.zeros(shape, np.float32))
    lesion = ball(radius, 2.)
    field = forward_field(paint_lesions(nothing, affine, [lesion]).chi, (.5, .5, .5))
    x, y, z = (affine[i, i] * index + affine[i, 3] - c for i, (index, c) in
               enumerate(zip(np.indices(shape), lesion.centre)))
    squared = x * x + y * y + z * z
    analytic = lesion.moment / (4 * np.pi) * (3 * z * z / squared - 1) / squared ** 1.5
    there = (squared > (radius + 3) ** 2) & (squared < 100)
    assert np.linalg.norm((field - analytic)[there]) < error * np.linalg.norm(analytic[there])
    # Its strength is that of the moment.
    assert (field * analytic)[there].sum() / (analytic ** 2)[there].sum() == pytest.approx(1, abs=.02)


def test_r2star_follows_susceptibility_and_field_strength():
    for chi in (.4, -.4):
        head = paint_lesions(block(), grid((1, 1, 1)), [ball(3, chi)])
        added = head.map('r2star') - TISSUES['white_matter'].r2star
        assert added == pytest.approx(RELAXIVITY * np.abs(head.chi - block().chi), abs=1e-3)
        assert np.array_equal(head.map('m0'), block().map('m0')) and head.map('brain').all()
        positive = head.chi_positive() - block().chi_positive()
        assert positive == pytest.approx(np.maximum(head.chi - block().chi, 0), abs=1e-5)
    seven = paint_lesions(block(), grid((1, 1, 1)), [ball(3)], 7.)
    assert np.ptp(seven.map('r2star')) == pytest.approx(RELAXIVITY * .5 * 7 / 3, rel=.01)


def test_lesions_are_no_texture():
    textured = replace(block(), relaxivity=RELAXIVITY)
    textured.chi[::2] += .004
    head = paint_lesions(textured, grid((1, 1, 1)), [ball(3)])
    assert head.map('m0') == pytest.approx(textured.map('m0'), abs=1e-5)
    assert np.ptp(head.map('m0')) > .005
    added = head.map('r2star') - textured.map('r2star')
    assert added == pytest.approx(RELAXIVITY * (head.chi - textured.chi), abs=2e-3)


def test_a_haemorrhage_has_a_rim():
    lesion = ball(8, 1., core=(.8, .2))
    affine = grid((1, 1, 1))
    head = paint_lesions(block(), affine, [lesion])
    distance = np.sqrt(sum((affine[i, i] * index + affine[i, 3] - c) ** 2
                           for i, (index, c) in enumerate(zip(np.indices(head.chi.shape), (.31, -.17, .05)))))
    extra = head.chi - block().chi
    assert extra[distance < 5] == pytest.approx(.2, abs=.01)
    assert extra[np.abs(distance - 7.2) < .1] == pytest.approx(1., abs=.15)
    assert moment(head, block(), affine) == pytest.approx(lesion.moment, rel=1e-3)
    assert (head.map('r2star') - 20)[distance < 5] == pytest.approx(.2 * RELAXIVITY, rel=.02)


def test_a_perivascular_space_is_water():
    lesion = ball(3, TISSUES['ventricle'].chi - TISSUES['white_matter'].chi, fill='ventricle')
    head = paint_lesions(block(), grid((1, 1, 1)), [lesion])
    core = np.unravel_index(np.argmax(head.chi), head.chi.shape)
    assert head.chi_positive()[core] == pytest.approx(TISSUES['ventricle'].chi_positive)
    for name in ('r2star', 'm0', 't1'):
        assert head.map(name)[core] == pytest.approx(getattr(TISSUES['ventricle'], name), rel=.01), name
        assert head.map(name)[0, 0, 0] == np.float32(getattr(TISSUES['white_matter'], name))


def test_parts_of_a_head_keep_their_lesions():
    head = paint_lesions(block(), grid((1, 1, 1)), [ball(3), ball(2, -1, (6, 5, 4))])
    for part in (slice(8, 15), (slice(9, 20), slice(10, 22)), (slice(None), slice(3, 13), slice(9, 12))):
        assert np.array_equal(head[part].map('r2star'), head.map('r2star')[part])
        assert np.array_equal(head[part][2:4].map('r2star'), head.map('r2star')[part][2:4])
    twice = paint_lesions(paint_lesions(block(), grid((1, 1, 1)), [ball(3)]), grid((1, 1, 1)), [ball(2, -1, (6, 5, 4))])
    assert np.array_equal(twice.chi, head.chi) and np.array_equal(twice.map('r2star'), head.map('r2star'))
    assert paint_lesions(block(), np.eye(4), []).spots is None


def test_they_move_with_the_head():
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation((1, 2, 3), 20), (4, -3, 2)
    lesion = Lesion('cmb', (Body(np.array([1., 2, 3]), rotation((3, 1, 2), 50), (2., 3., 4.), 1.),), .5)
    moved = lesion.moved(pose)
    assert moved.centre == pytest.approx(pose[:3, :3] @ lesion.centre + pose[:3, 3])
    assert paint_lesions(block(), pose @ grid((1, 1, 1)), [moved]).chi == pytest.approx(
        paint_lesions(block(), grid((1, 1, 1)), [lesion]).chi, abs=1e-4)


def test_the_table_and_the_label_map_agree():
    shape, affine = (60, 50, 40), grid((1, 1, 1.5), 20, (60, 50, 40))
    lesions = [ball(radius, .5, centre, region='deep', hemisphere='L')
               for radius, centre in ((5, (0, 0, 0)), (.4, (9, 3, -2)), (1.2, (-12, 8, 7)))]
    lesions.append(Lesion('vessel', (Body(np.array([2., -12, 4]), rotation((1, 0, 0), 40), (.4, .4, .4), 5.),), .3))
    lesions.append(ball(4, 1., (-12, -9, -3), core=(.8, .2)))
    rows, labels = lesion_table(lesions), lesion_labels(lesions, shape, affine)
    assert [row['index'] for row in rows] == [1, 2, 3, 4, 5] == list(np.unique(labels[labels > 0]))
    assert [row['class'] for row in rows] == ['cmb', 'cmb', 'cmb', 'vessel', 'cmb']
    assert all(list(row) == list(LESION_COLUMNS) for row in rows)
    for row, lesion in zip(rows, lesions):
        centre = np.array([row[f'{axis}_ras_mm'] for axis in 'xyz'])
        at = np.argwhere(labels == row['index']) @ affine[:3, :3].T + affine[:3, 3]
        assert np.linalg.norm(at.mean(axis=0) - centre) < 1.2
        assert row['moment_ppm_mm3'] == pytest.approx(row['chi_ppm'] * np.pi / 6 * row['diameter_mm'] ** 3)
        if lesion.diameter > 6:
            assert len(at) * 1.5 == pytest.approx(lesion.volume, rel=.1)
    # A tube thinner than a voxel is a line of them.
    assert np.count_nonzero(labels == 4) > 3


def test_a_scan_shows_them():
    def sample(shape, affine):
        return replace(block(shape), chi_outside=TISSUES['white_matter'].chi)
    shape = (24, 26, 22)
    sequence = Sequence(shape, grid((1, 1, 1)), (.004, .02), snr=None, supersampling=2, shim_order=None, coil=False)
    lesions = [ball(2, 1.)]
    scan, plain = (simulate(what, sequence) for what in (with_lesions(sample, lesions), sample))
    inside = lesion_labels(lesions, shape, sequence.affine) == 1
    assert (scan.chi - plain.chi).sum() == pytest.approx(lesions[0].moment, rel=.01)
    assert scan.r2star[inside].max() == pytest.approx(20 + RELAXIVITY, rel=.02)
    relative = np.abs(scan.signal[..., 1]) / np.abs(plain.signal[..., 1])
    assert relative[inside].min() < .3 and np.median(relative) == pytest.approx(1, abs=.02)
    assert np.array_equal(scan.labels, plain.labels)


@pytest.mark.parametrize('step', [1., 8.])
def test_thirty_are_painted_in_no_time(step):
    head = block((160, 160, 160))
    lesions = [ball(.7 + n / 7, .5, tuple(np.random.default_rng(n).uniform(-60, 60, 3))) for n in range(30)]
    paint_lesions(block(), grid((1, 1, 1)), lesions)
    start = time.perf_counter()
    paint_lesions(head, grid((step, step, step), 0, head.chi.shape), lesions)
    assert time.perf_counter() - start < 1
