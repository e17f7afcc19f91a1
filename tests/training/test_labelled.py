"""Labelled heads and their patches."""

import nibabel as nib
import numpy as np
import pytest

from qsmbids.core.labels import STRUCTURES as TABLE
from qsmbids.files import FileError
from qsmbids.networks.segmenter import CHANNELS, STEP, STRUCTURES
from qsmbids.simulation.tissues import TISSUES
from qsmbids.training.labelled import (PHANTOM, PHANTOM_MERGED, STRUCTURE_OF, labelled_map, labelled_patch,
                                       measured, merging, simulated)


def test_every_structure_is_made_of_a_tissue():
    assert set(STRUCTURE_OF.values()) == set(STRUCTURES) and set(STRUCTURE_OF) <= set(TISSUES)
    assert set(PHANTOM.values()) <= set(TISSUES) and set(PHANTOM_MERGED) <= set(TABLE)


def test_what_is_not_told_apart_is_merged():
    merged = merging(('Caudate', 'PallidumExternal', 'PallidumInternal'), {'PallidumInternal': 'PallidumExternal',
                                                                          'Caudate': ''})
    assert merged == (0, 0, 2, 2)
    assert merging(STRUCTURES, {}) == tuple(range(1 + len(STRUCTURES)))


@pytest.mark.parametrize('kind', ('tissues', 'chi'))
def test_patches_show_what_their_labels_say(kind, small_head):
    head = small_head(kind)
    patches = [labelled_patch(head, 32, np.random.default_rng(seed)) for seed in range(12)]
    contrasts = []
    for patch in patches:
        assert patch['inputs'].shape == (len(CHANNELS), 32, 32, 32) and patch['classes'].shape == (32, 32, 32)
        assert np.all(np.isfinite(patch['inputs'])) and np.array_equal(patch['merged'], range(1 + len(STRUCTURES)))
        inputs, inside = patch['inputs'].astype(np.float32), patch['inputs'][1] > 0
        assert not inputs[0][~inside].any()
        nucleus, rest = ((patch['classes'] > 0) == flag for flag in (True, False))
        if min((nucleus & inside).sum(), (rest & inside).sum()) > 100:
            contrasts.append(inputs[0][nucleus & inside].mean() - inputs[0][rest & inside].mean())
    # Iron differs, and some nuclei are as bright as white matter; most are brighter.
    assert len(contrasts) > 5 and np.mean(np.array(contrasts) > 0) > .7
    if kind == 'chi':
        assert not any(patch['inputs'][5:].any() for patch in patches)


def test_a_seed_gives_a_patch_and_others_give_others(small_head):
    head = small_head()
    one, same, other = (labelled_patch(head, 24, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one['inputs'], other['inputs'])


def test_positions_are_those_in_the_head(small_head):
    """The nuclei lie right and left of the middle; mirrored or not, their places have both signs."""
    head, places = small_head('chi'), []
    for seed in range(12):
        patch = labelled_patch(head, 24, np.random.default_rng(seed))
        x = patch['inputs'][2].astype(np.float32)
        if (patch['classes'] > 0).any():
            places.append(float(np.median(np.abs(x[patch['classes'] > 0]))))
    assert np.median(places) == pytest.approx(9 * STEP / 60, abs=.06)


def test_maps_of_whole_heads_are_zero_outside(small_head):
    head = small_head()
    chi = labelled_map(head, np.random.default_rng(0))
    assert chi.shape == head.mask.shape and not chi[~head.mask].any() and chi[head.mask].std() > 0


def test_heads_from_code_have_all_structures_but_the_accumbens():
    head = simulated(None, (1, 2), STRUCTURES)
    assert set(np.unique(head.classes)) == set(range(1 + len(STRUCTURES))) - {1 + STRUCTURES.index('Accumbens')}
    assert head.mask[head.classes > 0].mean() > .99 and head.mask.sum() * STEP ** 3 / 1e6 == pytest.approx(1.3, abs=.5)
    assert np.allclose(np.sort(head.middle), np.sort(np.array(head.mask.shape) / 2), atol=30)


def test_measured_maps_are_read_on_voxels_of_the_network(tmp_path):
    shape = (30, 32, 12)
    labels = np.zeros(shape, np.uint8)
    labels[4:12, 10:20, 3:8], labels[18:26, 10:20, 3:8] = 3, 4
    labels[14:16, 12:16, 3:6] = 9
    chi = np.where(labels, .1, .01) * (np.indices(shape)[1] > 2)
    # The header is wrong on purpose, and turns the first axis over.
    for kind, volume in (('chi', chi), ('labels', labels)):
        nib.save(nib.Nifti1Image(volume[::-1].astype(np.float32), np.diag([-1., 1, 1, 1])),
                 tmp_path / f'a_{kind}.nii.gz')
    head = measured(str(tmp_path / 'a'), (1., 1., 3.), STRUCTURES)
    assert head.mask.shape == tuple(int(np.ceil(n * step / STEP)) for n, step in zip(shape, (1, 1, 3)))
    putamen, red = (head.classes == 1 + STRUCTURES.index(name) for name in ('Putamen', 'RedNucleus'))
    assert putamen.sum() * STEP ** 3 == pytest.approx(3 * (labels == 3).sum() * 2, rel=.15)
    assert red.sum() * STEP ** 3 == pytest.approx(3 * (labels == 9).sum(), rel=.5)
    assert head.chi[putamen].mean() > .08 and head.merged[1 + STRUCTURES.index('Thalamus')] == 0
    with pytest.raises(FileError, match='b_chi'):
        measured(str(tmp_path / 'b'), (1., 1., 3.), STRUCTURES)
