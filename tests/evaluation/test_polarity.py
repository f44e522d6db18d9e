"""Which of two unnamed regions is the object."""

import pytest
import torch

from segan.errors import ConfigError
from segan.evaluation.polarity import foreground_mask, oracle_iou


def regions_of(mask: torch.Tensor) -> torch.Tensor:
    return torch.stack([1 - mask, mask], dim=1)


def test_object_is_the_region_rarer_along_the_border_image_by_image() -> None:
    disc = torch.zeros(9, 11)
    disc[3:7, 4:9] = 0.9
    # The third object covers most of the picture, but touches little of its border.
    large = torch.zeros(9, 11)
    large[1:8, 1:10] = 1
    large[0, 2:5] = 1
    masks = torch.stack([disc, disc, large, large])
    flipped = torch.tensor([False, True, False, True])[:, None, None]
    regions = regions_of(torch.where(flipped, 1 - masks, masks))
    assert torch.equal(foreground_mask(regions, foreground=None)[:, 0], masks)


def test_a_named_object_is_taken_at_its_word() -> None:
    regions = torch.rand(2, 5, 4, 4).softmax(dim=1)
    assert torch.equal(foreground_mask(regions, foreground=3), regions[:, 3:4])


def test_more_than_two_unnamed_regions_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 unnamed regions"):
        foreground_mask(torch.full((1, 5, 4, 4), 0.2), foreground=None)


def test_oracle_takes_the_better_of_mask_and_complement() -> None:
    truth = torch.eye(4).bool().numpy()
    assert oracle_iou(~truth, truth, truth) == 1
    assert oracle_iou(truth, ~truth, truth) == 1
