"""Masks on disk: what the nodes write is what the core computes."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from qsmbids.core.masks import reliable_mask, widen_mask
from qsmbids.interfaces.masking import BrainMask, ReliableMask
from qsmbids.workflows.masking import init_masking_wf

SHAPE, VOXEL_SIZE = (16, 15, 14), (1.0, 1.0, 2.0)


@pytest.fixture
def save(tmp_path):
    def save(name, volume):
        path = tmp_path / f'{name}.nii'
        nibabel.save(nibabel.Nifti1Image(np.asarray(volume, np.float32), np.diag([*VOXEL_SIZE, 1])), path)
        return str(path)
    return save


@pytest.fixture
def brain():
    mask = np.zeros(SHAPE, bool)
    mask[4:12, 4:11, 4:10] = True
    return mask


def load(path):
    return nibabel.load(path).get_fdata() > 0


@pytest.mark.parametrize('erosion', [False, True])
def test_what_is_trusted_is_told_apart_from_its_part_in_the_brain(tmp_path, save, brain, erosion):
    wide = ndimage.binary_dilation(brain, iterations=2)
    residual = np.where(np.arange(SHAPE[0])[:, None, None] < 5, 0.5, 0.1) * np.ones(SHAPE)
    found = ReliableMask(mask=save('wide', wide), brain=save('brain', brain), residual=save('residual', residual),
                         erosion=erosion).run(cwd=tmp_path).outputs
    trusted = reliable_mask(wide, residual, within=brain, erosion=erosion)
    assert np.array_equal(load(found.mask), trusted) and np.any(trusted & ~brain)
    assert np.array_equal(load(found.brain), trusted & brain)


@pytest.mark.parametrize('margin', [0.0, 2.0])
def test_a_mask_of_another_pipeline_gets_its_margin(tmp_path, save, brain, margin):
    workflow = init_masking_wf(voxel_size=VOXEL_SIZE, voxels=brain.size, brain_mask=save('brain', brain), margin=margin)
    workflow.base_dir = tmp_path
    workflow.get_node('inputnode').inputs.magnitude = save('magnitude', np.ones(SHAPE))
    found = {node.name: node.result.outputs for node in workflow.run().nodes()}
    assert np.array_equal(load(found['use_mask'].mask), brain)
    assert np.array_equal(load(found['widen'].mask), widen_mask(brain, VOXEL_SIZE, margin))
    assert f'{margin:g} mm beyond' in workflow.__desc__ if margin else 'beyond' not in workflow.__desc__


def test_a_mask_that_ends_with_the_brain_gets_a_margin_and_the_surface_none():
    for method, margin in (('surface', False), ('network', True)):
        workflow = init_masking_wf(voxel_size=VOXEL_SIZE, voxels=1, method=method)
        found = workflow.get_node('find_brain')
        assert found.inputs.method == method and (found.mem_gb > .5) == margin
        assert (workflow.get_node('widen') is not None) == margin == ('2 mm beyond' in workflow.__desc__)
    assert '@smith2002; @billot2023' in workflow.__desc__


def test_the_network_is_told_which_way_the_axes_run(tmp_path, save, monkeypatch):
    asked = []

    def remember(magnitude, voxel_size, *, affine=None):
        asked.append((magnitude.shape, voxel_size, affine))
        return np.ones(magnitude.shape[:3], bool)
    monkeypatch.setattr('qsmbids.networks.masking.brain_mask_network', remember)
    found = BrainMask(magnitude=save('magnitude', np.ones((*SHAPE, 2))), voxel_size=VOXEL_SIZE, method='network').run(
        cwd=tmp_path).outputs
    assert load(found.mask).all() and asked[0][:2] == ((*SHAPE, 2), VOXEL_SIZE)
    assert np.array_equal(asked[0][2], np.diag([*VOXEL_SIZE, 1]))
