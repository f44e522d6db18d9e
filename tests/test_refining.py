import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from segan import cli
from segan.data.images import read_image
from segan.errors import ConfigError
from segan.refining import FLIPS, REFINEMENTS, Flipped, clean, compose, crf, grabcut, guided
from segan.segmenter import Segmenter


def scene(size: tuple[int, int] = (48, 64)) -> tuple[np.ndarray, np.ndarray]:
    """A red disc on green, with noise, and its mask."""
    y, x = np.mgrid[: size[0], : size[1]]
    truth = (y - 24) ** 2 + (x - 30) ** 2 < 15**2
    picture = np.where(truth[..., None], (200, 60, 60), (60, 180, 60)).astype(np.int16)
    picture += np.random.default_rng(0).integers(-12, 13, picture.shape, dtype=np.int16)
    return picture.clip(0, 255).astype(np.uint8), truth


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float(((mask > 0.5) & truth).sum() / ((mask > 0.5) | truth).sum())


def coarse(truth: np.ndarray) -> np.ndarray:
    """A mask as a network of low resolution gives it: moved, blurred and unsure."""
    moved = np.roll(truth.astype(np.float32), (3, -3), (0, 1))
    return cv2.GaussianBlur(moved, (0, 0), 3)


@pytest.mark.parametrize("name", ["crf", "guided", "grabcut"])
def test_what_looks_at_colours_moves_a_coarse_mask_to_them(name):
    picture, truth = scene()
    start = coarse(truth)
    refined = REFINEMENTS[name](picture, start)
    assert refined.dtype == np.float32
    assert refined.shape == truth.shape
    assert 0 <= refined.min() <= refined.max() <= 1
    gain = iou(refined, truth) - iou(start, truth)
    assert gain > (0.01 if name == "guided" else 0.1)


@pytest.mark.parametrize("name", REFINEMENTS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_masks_stay(name, value):
    picture, truth = scene()
    mask = np.full(truth.shape, value, np.float32)
    np.testing.assert_allclose(REFINEMENTS[name](picture, mask), mask, atol=1e-3)


def naive_guided(picture, mask, radius, epsilon):
    guide, p = picture.astype(np.float64) / 255, mask.astype(np.float64)
    height, width = p.shape
    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    spans = [
        [slice(max(i - radius, 0), i + radius + 1) for i in range(length)]
        for length in (height, width)
    ]
    for i in range(height):
        for j in range(width):
            window = spans[0][i], spans[1][j]
            colours, values = guide[window].reshape(-1, 3), p[window].ravel()
            mu = colours.mean(0)
            sigma = np.cov(colours.T, bias=True)
            right = (colours * values[:, None]).mean(0) - mu * values.mean()
            slopes[i, j] = np.linalg.solve(sigma + epsilon * np.eye(3), right)
            offsets[i, j] = values.mean() - slopes[i, j] @ mu
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            window = spans[0][i], spans[1][j]
            slope, offset = slopes[window].reshape(-1, 3).mean(0), offsets[window].mean()
            result[i, j] = slope @ guide[i, j] + offset
    return result.clip(0, 1)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
def test_guided_filter_is_the_papers(epsilon):
    picture, truth = scene((25, 40))
    mask = coarse(truth[:25, :40])
    picture = picture[:25, :40]
    expected = naive_guided(picture, mask, 3, epsilon)
    result = guided(picture, mask, radius=3, epsilon=epsilon)
    np.testing.assert_allclose(result, expected, atol=2e-4)


def test_guided_filter_keeps_a_mask_that_is_linear_in_colour():
    picture, _ = scene()
    mask = picture[..., 0].astype(np.float32) / 255
    np.testing.assert_allclose(guided(picture, mask, epsilon=1e-7), mask, atol=2e-3)


def test_crf_is_that_of_two_regions():
    picture, truth = scene((16, 20))
    mask = coarse(truth[:16, :20])
    assert crf(picture[:16, :20], mask).shape == (16, 20)
    # A mask and its complement are told apart by their names alone.
    other = 1 - crf(picture[:16, :20], 1 - mask)
    np.testing.assert_allclose(crf(picture[:16, :20], mask), other, atol=1e-4)


def test_grabcut_keeps_what_is_sure():
    picture, truth = scene()
    mask = np.full(truth.shape, 0.3, np.float32)
    mask[truth] = 0.6
    mask[:5, :5] = 1.0  # against its colour
    mask[22:26, 28:32] = 0.0
    cut = grabcut(picture, mask, band=0)
    assert cut[:5, :5].all()
    assert not cut[22:26, 28:32].any()
    assert set(np.unique(cut)) == {0, 1}
    rest = np.ones(truth.shape, np.bool_)
    rest[:5, :5] = rest[22:26, 28:32] = False
    assert (cut[rest] == truth[rest]).mean() > 0.95


@pytest.mark.parametrize("name", ["crf", "grabcut"])
def test_masks_of_zeros_and_ones_are_unsure_near_their_outline(name):
    picture, truth = scene()
    wrong = np.roll(truth, (2, -2), (0, 1)).astype(np.float32)
    refined = REFINEMENTS[name](picture, wrong)
    assert iou(refined, truth) > iou(wrong, truth) + 0.1
    sure = {"crf": {"certainty": 1.0}, "grabcut": {"band": 0}}[name]
    stays = {"crf": crf, "grabcut": grabcut}[name](picture, wrong, **sure)
    assert np.array_equal(stays > 0.5, wrong > 0.5)


def test_grabcut_without_colours_to_learn_from_changes_nothing():
    picture, _ = scene()
    mask = np.zeros(picture.shape[:2], np.float32)
    mask[0, :4] = 0.9
    assert np.array_equal(grabcut(picture, mask), mask)


def test_clean_removes_specks_and_pin_holes_and_keeps_the_rest():
    picture, truth = scene()
    mask = truth.astype(np.float32)
    mask[2:4, 2:4] = 1
    mask[23, 30] = 0
    cleaned = clean(picture, mask, radius=2)
    assert not cleaned[:5, :5].any()
    assert cleaned[23, 30] == 1
    assert iou(cleaned, truth) > 0.97


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_clean_commutes_with_thresholds(threshold):
    picture, _ = scene()
    mask = np.random.default_rng(0).random(picture.shape[:2]).astype(np.float32)
    after = clean(picture, mask) > threshold
    before = clean(picture, (mask > threshold).astype(np.float32)) > 0
    assert np.array_equal(after, before)


class Positions(Segmenter):
    """Regions that depend on the place, on colour, and on the box if there is one."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        x = torch.linspace(0, 0.5, images.shape[-1])
        y = torch.linspace(0, 0.3, images.shape[-2])[:, None]
        mask = images[:, :1] * 0.2 + x + y
        return torch.cat([1 - mask, mask], 1)

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        x = torch.arange(images.shape[-1]) + 0.5
        y = torch.arange(images.shape[-2])[:, None] + 0.5
        x0, y0, x1, y1 = boxes[:, :, None, None, None].unbind(1)
        inside = ((x > x0) & (x < x1) & (y > y0) & (y < y1)).float()
        return torch.cat([1 - inside, inside], 1)


def test_flips_average_over_mirror_images():
    images = torch.rand(2, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    segmenter = Positions()
    regions = Flipped(segmenter)(images)
    # What depends on the place alone averages out.
    expected = images[:, :1] * 0.2 + 0.25 + 0.15
    torch.testing.assert_close(regions[:, 1:], expected)
    torch.testing.assert_close(regions.sum(1), torch.ones(2, 10, 14))
    mirrored = Flipped(segmenter)(images.flip(3)).flip(3)
    torch.testing.assert_close(mirrored, regions)


def test_flips_take_boxes_along():
    images = torch.zeros(2, 3, 10, 14)
    boxes = torch.tensor([[1.0, 2, 5, 9], [3, 0, 14, 4]])
    plain = Positions().forward_in_boxes(images, boxes)
    torch.testing.assert_close(Flipped(Positions()).forward_in_boxes(images, boxes), plain)


def test_steps_compose_in_order():
    picture, truth = scene()
    mask = coarse(truth)
    both = compose(["guided", FLIPS, "clean"])(picture, mask)
    assert np.array_equal(both, clean(picture, guided(picture, mask)))
    assert np.array_equal(compose([])(picture, mask), mask)
    with pytest.raises(ConfigError, match="no refinement 'sharpen'; there are crf, guided"):
        compose(["sharpen"])


def test_the_command_line_knows_all_refinements():
    assert set(cli._STEPS) == {*REFINEMENTS, FLIPS}


def test_steps_on_a_real_picture():
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    root = Path(os.environ["SEGAN_DATA"]) / "BSDS500/BSDS500/data/images/val"
    if not root.is_dir():
        pytest.skip("BSDS500 is not there")
    picture = read_image(sorted(root.glob("*.jpg"))[0]).permute(1, 2, 0).numpy()
    gray = picture.mean(2, dtype=np.float32) / 255
    for name in ("guided", "clean"):
        refined = REFINEMENTS[name](picture, gray)
        assert 0 <= refined.min() <= refined.max() <= 1
        assert not np.array_equal(refined, gray)
