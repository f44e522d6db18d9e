"""Losses against given masks: closed forms, weights, and gradients."""

import math

import torch

from segan.losses.fitting import cross_entropy, soft_dice


def rand(seed: int) -> torch.Tensor:
    return torch.rand(
        2, 1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def test_cross_entropy_is_that_of_each_pixel_averaged():
    logits, targets, weights = 4 * rand(0) - 2, rand(1), (rand(2) > 0.3).double()
    for index in range(2):
        total, count = 0.0, 0.0
        for y in range(5):
            for x in range(4):
                p = 1 / (1 + math.exp(-float(logits[index, 0, y, x])))
                t, w = float(targets[index, 0, y, x]), float(weights[index, 0, y, x])
                total -= w * (t * math.log(p) + (1 - t) * math.log(1 - p))
                count += w
        found = cross_entropy(logits, targets, weights)[index]
        torch.testing.assert_close(float(found), total / count)


def test_dice_of_equal_binary_masks_is_zero_and_of_disjoint_ones_nearly_one():
    mask = (rand(3) > 0.5).double()
    ones = torch.ones_like(mask)
    torch.testing.assert_close(soft_dice(mask, mask, ones), torch.zeros(2).double())
    count = float(ones[0].sum())
    expected = torch.full((2,), 1 - 1 / (count + 1)).double()
    torch.testing.assert_close(soft_dice(mask, 1 - mask, ones), expected, atol=1e-6, rtol=0)


def test_an_empty_mask_of_nothing_costs_nothing():
    zero = torch.zeros(1, 1, 3, 3)
    assert float(soft_dice(zero, zero, torch.ones_like(zero))) == 0


def test_pixels_without_weight_do_not_count():
    targets, weights = rand(4), (rand(5) > 0.5).double()
    first = 4 * rand(6) - 2
    second = torch.where(weights > 0, first, 9.0)
    for loss in (
        lambda logits: cross_entropy(logits, targets, weights),
        lambda logits: soft_dice(logits.sigmoid(), targets, weights),
    ):
        torch.testing.assert_close(loss(first), loss(second))


def test_a_picture_without_any_weight_costs_no_entropy():
    nothing = torch.zeros(2, 1, 5, 4, dtype=torch.float64)
    assert cross_entropy(rand(0), rand(1), nothing).tolist() == [0, 0]


def test_gradients_are_those_of_differences():
    logits = (4 * rand(7) - 2).requires_grad_(True)
    targets, weights = rand(8), rand(9)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, targets, weights), logits)
    assert torch.autograd.gradcheck(lambda x: soft_dice(x.sigmoid(), targets, weights), logits)
