"""The stream of labelled patches."""

import nibabel as nib
import numpy as np
import pytest

from qsmbids.networks.segmenter import STRUCTURES
from qsmbids.training import labelled_stream
from qsmbids.training.labelled_stream import LabelledStream, make_labelled_block


@pytest.fixture
def heads(monkeypatch, small_head):
    asked = []

    def remember(path, *_):
        asked.append(path)
        return small_head('chi' if path in ('m', 'n') else 'tissues')
    monkeypatch.setattr(labelled_stream, 'simulated', remember)
    monkeypatch.setattr(labelled_stream, 'measured', remember)
    return asked


def block(number, patches=12, share=.5, begin=1):
    pool = [(name, (1, shape, n)) for shape in range(2) for n, name in enumerate('abcdef')]
    return make_labelled_block(pool, ['m', 'n'], 1, STRUCTURES, 24, patches, share, begin, (1., 1., 3.), number)


def test_a_block_depends_on_seed_and_number_alone(heads):
    first, again, other = block(0), block(0), block(2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['inputs'], other['inputs'])
    assert first['inputs'].shape[0] == first['classes'].shape[0] == first['merged'].shape[0] == 12


def test_measured_maps_come_later_and_heads_bit_by_bit(heads):
    block(0, 40)
    assert set(heads) == set('abcd')
    heads.clear()
    block(3, 40)
    assert set(heads) >= set('efmn') and 10 <= sum(name in 'mn' for name in heads) <= 30


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match='batch is 5'):
        LabelledStream([], 1, structures=STRUCTURES, batch=5)
    with pytest.raises(ValueError, match='patch is 16'):
        LabelledStream([], 1, structures=STRUCTURES, patch=16)


def test_batches_go_on_from_any_step(tmp_path):
    labels = np.zeros((40, 44, 14), np.uint8)
    labels[8:14, 18:28, 4:9], labels[26:32, 18:28, 4:9] = 3, 4
    for kind, volume in (('chi', np.where(labels, .1, .01)), ('labels', labels)):
        nib.save(nib.Nifti1Image(volume.astype(np.float32), np.eye(4)), tmp_path / f'a_{kind}.nii.gz')
    stream = LabelledStream([tmp_path / 'a_chi.nii.gz'], 1, structures=STRUCTURES, patch=24, patches=4, share=1.)
    batches = stream.batches()
    found = [next(batches) for _ in range(4)]
    batches.close()
    later = stream.batches(3)
    same = next(later)
    later.close()
    assert all(np.array_equal(found[3][name], same[name]) for name in same)
    assert found[0]['inputs'].shape[0] == 2 and not np.array_equal(found[0]['inputs'], found[2]['inputs'])
