"""The painters: what they may change, and what they cannot see."""

import pytest
import torch

from segan.networks import Enhancer, EnhancerConfig, Inpainter, InpainterConfig
from segan.networks.painters import smooth_fill


@pytest.mark.parametrize("shrink", [1, 2])
def test_the_inpainter_does_not_see_what_is_in_the_hole(shrink):
    torch.manual_seed(0)
    inpainter = Inpainter(InpainterConfig(width=4, depth=2, shrink=shrink))
    images, others = torch.rand(2, 2, 3, 16, 16)
    hole = torch.zeros(2, 1, 16, 16)
    hole[..., 5:12, 3:9] = 1
    changed = torch.where(hole > 0, others, images)
    assert not torch.equal(changed, images)
    torch.testing.assert_close(inpainter(changed, hole), inpainter(images, hole))


def test_the_enhancer_changes_no_pixel_by_more_than_its_bound():
    torch.manual_seed(0)
    enhancer = Enhancer(EnhancerConfig(width=4, depth=1), bound=0.1)
    with torch.no_grad():
        enhancer.painter.network.head.weight.mul_(1000)
    images = torch.rand(2, 3, 16, 16)
    enhanced = enhancer(images).detach()
    assert 0.09 < float((enhanced - images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(enhanced.min()) <= float(enhanced.max()) <= 1


def test_painters_change_little_at_first():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16)
    enhanced = Enhancer(EnhancerConfig(), 0.1)(images).detach()
    assert float((enhanced - images).abs().mean()) < 0.02


def test_a_hole_in_one_colour_is_filled_with_it():
    colour = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, 16, 16)
    hole = torch.zeros(1, 1, 16, 16)
    hole[..., 4:13, 2:10] = 1
    torch.testing.assert_close(smooth_fill(colour, hole), colour, atol=1e-5, rtol=0)


def test_a_fill_follows_its_surroundings():
    """Black on the left and white on the right: the hole in the middle goes from dark to light."""
    images = torch.zeros(1, 3, 32, 32)
    images[..., 16:] = 1
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 8:24, 8:24] = 1
    fill = smooth_fill(images, hole)
    row = fill[0, 0, 16]
    assert float(row[9]) < 0.3
    assert float(row[22]) > 0.7
    assert 0 <= float(fill.min()) <= float(fill.max()) <= 1


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_hole_and_nothing_but_hole_are_finite(share):
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    hole = torch.full((1, 1, 16, 16), share, requires_grad=True)
    fill = smooth_fill(images, hole)
    fill.sum().backward()
    assert bool(fill.isfinite().all())
    assert hole.grad is not None
    assert bool(hole.grad.isfinite().all())


def test_nothing_of_the_picture_is_left_of_a_whole_hole():
    images, others = torch.rand(2, 1, 3, 16, 16)
    hole = torch.ones(1, 1, 16, 16)
    assert torch.equal(smooth_fill(images, hole), smooth_fill(others, hole))


def test_odd_sizes_can_be_filled():
    assert smooth_fill(torch.rand(1, 3, 13, 21), torch.zeros(1, 1, 13, 21)).shape == (1, 3, 13, 21)
