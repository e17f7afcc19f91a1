"""Scans with lesions to learn from: what is drawn, and what becomes of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from qsmbids.training import lesionscans
from qsmbids.training.lesionscans import BACKGROUNDS, INVERSIONS, grid, lesion_scan

SIDE = (24., 24., 20.)


@pytest.fixture
def asked(monkeypatch):
    """What the steps of a scan are told, without doing them."""
    told = []

    def draw(head, affine, counts, seed, **others):
        told.append(counts)
        return ()

    def scan(sample, sequence, seed):
        told.append(sequence)
        return SimpleNamespace(sequence=sequence, mask=np.ones(sequence.shape, bool),
                               signal=np.ones((*sequence.shape, len(sequence.echo_times)), np.complex64))

    def make(phase, magnitude, echo_times, *, inversion, background, mask, **others):
        told.append((inversion, background, mask is not None))
        shape, known = phase.shape[:3], np.zeros(phase.shape[:3], bool)
        known[4:-4, 4:-4, 4:-4] = True
        return SimpleNamespace(chi=np.zeros(shape, np.float32), brain_mask=np.ones(shape, bool), qsm_mask=known,
                               local_field=np.zeros(shape), relaxation=SimpleNamespace(r2star=np.ones(shape)))
    for name, step in (('draw_lesions', draw), ('with_lesions', lambda sample, lesions, tesla: sample),
                       ('simulate', scan), ('reconstruct', make),
                       ('solve', lambda name, local, *_, **__: SimpleNamespace(chi=np.full(local.shape, 3.)))):
        monkeypatch.setattr(lesionscans, name, step)
    return told


def sample(shape, affine, **person):
    return None


def test_a_scan_depends_on_its_seed_alone(asked):
    for seed in ((1, 2), (1, 2), (1, 3)):
        lesion_scan(sample, seed, field_of_view=SIDE)
    first, again, other = (asked[n:n + 3] for n in (0, 3, 6))
    assert first[0] == again[0] and first[2] == again[2]
    assert np.array_equal(first[1].affine, again[1].affine) and first[1].echo_times == again[1].echo_times
    assert first[1].echo_times != other[1].echo_times


def test_all_maps_lie_on_the_grid_of_the_scan_without_their_mean(asked):
    scan = lesion_scan(sample, (4, 0), inversions=3, field_of_view=SIDE)
    assert len(scan.maps) == 3 and set(scan.maps) <= set(INVERSIONS) and scan.truth == []
    assert all(chi.shape == scan.mask.shape == scan.r2star.shape for chi in scan.maps.values())
    assert not any(np.abs(chi).max() for chi in scan.maps.values())


def test_what_is_random_takes_all_its_values(asked):
    for seed in range(40):
        lesion_scan(sample, (seed,), inversions=1, field_of_view=SIDE)
    counts, sequences, chains = (asked[n::3] for n in range(3))
    empty = [told['cmb'] == told['haemorrhage'] == 0 for told in counts]
    assert 0 < sum(empty) < 20 and all(told['vessel'] > 0 for told in counts)
    assert {sequence.b0_tesla for sequence in sequences} == {1.5, 3., 7.}
    assert {sequence.supersampling for sequence in sequences} == {1, 2}
    steps = np.array([sequence.voxel_size for sequence in sequences])
    assert .75 <= steps.min() and steps.max() <= 2.2 and (steps[:, 2] / steps[:, 0] <= 3).all()
    assert {chain[1] for chain in chains} == set(BACKGROUNDS) and {chain[2] for chain in chains} == {True, False}
    assert all(np.all(np.diff(sequence.echo_times) > 0) for sequence in sequences)


def test_a_grid_holds_the_field_of_view_about_the_middle():
    shape, affine = grid((1., 1., 2.), SIDE)
    assert shape == (24, 24, 10)
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    assert np.allclose(middle, lesionscans.MIDDLE)
