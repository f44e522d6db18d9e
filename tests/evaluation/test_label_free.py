from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import masks_to_boxes

from segan.evaluation.label_free import (
    SCORES,
    contrast,
    edge_alignment,
    flip_consistency,
    rank_correlation,
)
from segan.segmenter import Segmenter
from segan.windows import boxes_to_mask

SIZE = 48


class Degraded(Segmenter):
    """Sees objects of the toy world (their red exceeds their blue) and spoils the mask."""

    foreground = 1

    def __init__(self, spoil: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spoil = spoil
        self.boxes_seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        mask = self.spoil((images[:, :1] > images[:, 2:]).float())
        return torch.cat([1 - mask, mask], dim=1)

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        self.boxes_seen.append(boxes)
        return self(images)


def world(count: int = 12) -> tuple[Tensor, Tensor]:
    """Windows of a turned, textured ellipse each, redder than its textured ground; tight boxes."""
    generator = torch.Generator().manual_seed(0)
    angle, ratio, x0, y0 = torch.rand(4, count, 1, 1, generator=generator)
    pixels = torch.arange(SIZE) + 0.5
    x, y = pixels[None, None, :] - 22 - 4 * x0, pixels[None, :, None] - 22 - 4 * y0
    along = (x * torch.cos(3 * angle) + y * torch.sin(3 * angle)) / 16
    aside = (y * torch.cos(3 * angle) - x * torch.sin(3 * angle)) / (5 + 4 * ratio)
    truth = (along.square() + aside.square() < 1)[:, None].float()
    texture = 0.35 + 0.2 * torch.rand(count, 1, SIZE, SIZE, generator=generator)
    tint = torch.tensor([0.15, 0.0, -0.1]).view(1, 3, 1, 1)
    inclusive = masks_to_boxes(truth[:, 0])
    return texture + tint * (2 * truth - 1), inclusive + torch.tensor([0, 0, 1, 1])


def grown(mask: Tensor, radius: int) -> Tensor:
    return F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)


def ellipse(mask: Tensor) -> Tensor:
    pixels = torch.arange(SIZE) + 0.5 - SIZE / 2
    inside = pixels[None, :] ** 2 + pixels[:, None] ** 2 < 12**2
    return inside.float().expand_as(mask)


TRIVIAL = {"all": torch.ones_like, "nothing": torch.zeros_like}
SPOILT = {
    "eroded": lambda mask: 1 - grown(1 - mask, 3),
    "dilated": lambda mask: grown(mask, 3),
    "half": lambda mask: mask * (torch.arange(SIZE) < SIZE / 2),
    "ellipse": ellipse,
    "noise": lambda mask: torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("trivial", TRIVIAL)
@pytest.mark.parametrize("in_box", [False, True])
def test_trivial_masks_score_far_below_right_ones(name: str, trivial: str, in_box: bool) -> None:
    windows, boxes = world()
    given = boxes if in_box else None
    right = SCORES[name](Degraded(lambda mask: mask), windows, given)
    score = SCORES[name](Degraded(TRIVIAL[trivial]), windows, given)
    assert right > 0.1
    assert score < 0.5 * right
    assert in_box or score == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        ("flip_consistency", "half"),
        ("flip_consistency", "ellipse"),
        ("flip_consistency", "noise"),
        *[("edge_alignment", spoilt) for spoilt in ("eroded", "dilated", "ellipse", "noise")],
        *[("contrast", spoilt) for spoilt in SPOILT],
    ],
)
def test_scores_fall_with_the_damage_they_look_for(name: str, spoilt: str) -> None:
    windows, _ = world()
    right = SCORES[name](Degraded(lambda mask: mask), windows, None)
    assert SCORES[name](Degraded(SPOILT[spoilt]), windows, None) < 0.7 * right


def test_flip_consistency_is_the_variation_of_masks_that_mirror_with_their_picture() -> None:
    windows, _ = world()
    score = flip_consistency(Degraded(lambda mask: mask), windows)
    masks = (windows[:, :1] > windows[:, 2:]).double()
    p = float(masks.mean())
    # Masks resampled to the 32 x 32 grid are a little smoother than at 48 x 48.
    assert score == pytest.approx(float(masks.var(0).mean()) / (p * (1 - p)), rel=0.2)


def test_flip_consistency_mirrors_the_boxes_with_the_picture() -> None:
    windows, boxes = world()
    segmenter = Degraded(torch.ones_like)
    flip_consistency(segmenter, windows, boxes)
    first, second = (boxes_to_mask(seen, (SIZE, SIZE)) for seen in segmenter.boxes_seen)
    assert torch.equal(first.flip(-1), second)


def test_contrast_is_r_squared_of_least_squares_in_the_band() -> None:
    windows, _ = world(count=1)
    mask = windows[:, :1] > windows[:, 2:]
    band = (grown(mask.float(), 4) - (1 - grown(1 - mask.float(), 4)))[0, 0].bool().numpy()
    image = windows[0].double().numpy()
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    gradient = np.sqrt((across**2 + down**2).sum(0)) / 2
    columns = [channel[band] for channel in (*image, gradient)]
    design = np.stack([*columns, np.ones(band.sum())], axis=1)
    labels = mask[0, 0].numpy()[band].astype(float)
    fitted = design @ np.linalg.lstsq(design, labels, rcond=None)[0]
    expected = 1 - ((labels - fitted) ** 2).sum() / ((labels - labels.mean()) ** 2).sum()
    score = contrast(Degraded(lambda mask: mask), windows)
    assert score == pytest.approx(expected, abs=0.01)  # the ridge costs a little


def test_edge_alignment_ignores_how_strong_the_picture_is() -> None:
    windows, _ = world()
    segmenter = Degraded(lambda mask: mask)
    assert edge_alignment(segmenter, windows / 2) == pytest.approx(
        edge_alignment(segmenter, windows), abs=1e-3
    )


def test_rank_correlation_is_spearmans() -> None:
    scores, ious = [0.1, 0.5, 0.3, 0.9, 0.2], [0.2, 0.6, 0.7, 0.8, 0.1]
    gaps = np.argsort(np.argsort(scores)) - np.argsort(np.argsort(ious))
    assert rank_correlation(scores, ious) == pytest.approx(1 - 6 * (gaps**2).sum() / (5 * 24))
    assert rank_correlation([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)


def test_rank_correlation_of_a_constant_is_undefined_and_of_unequal_lengths_an_error() -> None:
    assert rank_correlation([0.5, 0.5], [0.1, 0.9]) is None
    assert rank_correlation([0.5], [0.9]) is None
    with pytest.raises(ValueError, match="2 scores for 1 IoUs"):
        rank_correlation([0.5, 0.6], [0.9])
