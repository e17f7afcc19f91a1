"""Losses."""

import numpy as np
import pytest
import torch

from qsmbids.training.losses import edge_error, overlap_loss, relative_error, share_loss, unrolled_loss


@pytest.fixture
def volumes():
    generator = torch.Generator().manual_seed(0)
    truth, error = (torch.randn((2, 1, 14, 13, 12), generator=generator) for _ in range(2))
    mask = torch.zeros_like(truth)
    mask[:, :, 1:12, 1:12, 1:11] = 1
    return truth, error, mask


def test_relative_error_is_the_part_of_the_truth_that_is_missed(volumes):
    truth, _, mask = volumes
    assert relative_error(1.3 * truth, truth, mask) == pytest.approx(.3, rel=1e-5)
    assert edge_error(1.3 * truth, truth, mask) == pytest.approx(.3, rel=1e-5)


def test_a_sample_counts_the_same_whatever_its_amplitude(volumes):
    truth, error, mask = volumes
    gain = torch.tensor([1., 20.])[:, None, None, None, None]
    assert relative_error(gain * (truth + error), gain * truth, mask) == pytest.approx(
        float(relative_error(truth + error, truth, mask)), rel=1e-5)


def test_a_patch_without_a_voxel_that_counts_has_no_slope(volumes):
    truth, error, mask = volumes
    mask[1] = 0
    estimate = (truth + error).requires_grad_()
    unrolled_loss([estimate], truth, mask).backward()
    assert torch.isfinite(estimate.grad).all() and estimate.grad[0].any() and not estimate.grad[1].any()


def test_the_loss_is_the_mean_over_turns_and_blind_to_the_rim(volumes):
    truth, error, mask = volumes
    one, other = truth + error, truth + .5 * error
    both = unrolled_loss([one, other], truth, mask, edges=.3)
    assert both == pytest.approx(float(unrolled_loss([one], truth, mask) + unrolled_loss([other], truth, mask)) / 2)
    changed = one.clone()
    changed[:, :, :4] += 9
    assert unrolled_loss([changed], truth, mask) == unrolled_loss([one], truth, mask)
    assert unrolled_loss([one], truth, mask, edges=0.) < unrolled_loss([one], truth, mask)


def test_overlap_of_the_truth_costs_nothing_and_a_small_structure_counts_as_a_large_one():
    truth = torch.zeros((1, 8, 8, 8), dtype=torch.long)
    truth[:, :4], truth[:, 6, 6, 6] = 1, 2
    merged = torch.arange(4)[None]

    def loss(found):
        return float(overlap_loss(40. * torch.nn.functional.one_hot(found, 4).movedim(-1, 1), truth, merged))
    assert loss(truth) == pytest.approx(0, abs=1e-4)
    without_small, without_large = truth.clone(), truth.clone()
    without_small[truth == 2], without_large[truth == 1] = 0, 0
    entropy = -np.log(1e-6) / 512
    assert loss(without_small) == pytest.approx(.5 + entropy, rel=1e-3)
    assert loss(without_large) == pytest.approx(.5 + 256 * entropy, rel=1e-3)


def test_classes_that_are_merged_are_not_told_apart():
    scores = torch.randn((2, 4, 5, 5, 5), generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 2, (2, 5, 5, 5), generator=torch.Generator().manual_seed(1))
    merged = torch.tensor([[0, 1, 1, 0]] * 2)
    moved = scores.clone()
    moved[:, 2], moved[:, 1] = scores[:, 1], scores[:, 2]
    assert overlap_loss(scores, truth, merged) == pytest.approx(float(overlap_loss(moved, truth, merged)), rel=1e-5)
    together = torch.stack([torch.logsumexp(scores[:, [0, 3]], 1), torch.logsumexp(scores[:, [1, 2]], 1)], 1)
    assert overlap_loss(scores, truth, merged) == pytest.approx(
        float(overlap_loss(together, truth, torch.arange(2).expand(2, 2))), rel=1e-5)
    assert overlap_loss(scores, truth, torch.arange(4).expand(2, 4)) > overlap_loss(scores, truth, merged)


def test_share_loss_is_least_for_the_truth_and_blind_to_what_is_not_seen():
    generator = torch.Generator().manual_seed(0)
    share = torch.rand((2, 1, 8, 9, 7), generator=generator)
    seen = (torch.rand(share.shape, generator=generator) > .3).float()
    right = torch.logit(share.clamp(1e-4, 1 - 1e-4))
    least = share_loss(right, share, seen)
    assert least < share_loss(right + .5, share, seen) and least < share_loss(.5 * right, share, seen)
    assert share_loss(right + 9 * (1 - seen), share, seen) == pytest.approx(float(least), rel=1e-6)
    assert torch.isfinite(share_loss(right, 0 * share, 0 * seen))
