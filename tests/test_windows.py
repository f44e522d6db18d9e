"""Cropping windows and putting masks back, against loops over pixels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from segan.windows import (
    Window,
    box_in_window,
    boxes_to_mask,
    crop,
    free_positions,
    put_back,
    resize,
    window_around,
)

CASES = range(40)


def random_case(seed: int) -> tuple[Tensor, tuple[int, int], np.random.Generator]:
    """A box with fractional corners inside a picture of (height, width)."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(8, 80, 2))
    x = np.sort(rng.uniform(0, width, 2))
    y = np.sort(rng.uniform(0, height, 2))
    box = torch.tensor([x[0], y[0], max(x[1], x[0] + 1), max(y[1], y[0] + 1)])
    return box.clamp(max=torch.tensor([width, height] * 2)).float(), (height, width), rng


@pytest.mark.parametrize("seed", CASES)
@pytest.mark.parametrize("square", [True, False])
def test_window_lies_in_the_picture_and_has_the_size_asked_for(seed, square):
    box, (height, width), rng = random_case(seed)
    context = rng.uniform(1, 3)
    shift = tuple(rng.uniform(-0.3, 0.3, 2))
    window = window_around(box, (height, width), context=context, square=square, shift=shift)
    assert 0 <= window.x0 < window.x1 <= width
    assert 0 <= window.y0 < window.y1 <= height
    sides = (box[2:] - box[:2]).tolist()
    wanted = [max(sides)] * 2 if square else sides
    assert window.width == min(max(round(context * wanted[0]), 1), width)
    assert window.height == min(max(round(context * wanted[1]), 1), height)


@pytest.mark.parametrize("seed", CASES)
def test_window_is_centred_where_there_is_room(seed):
    box, (height, width), _ = random_case(seed)
    box = box + 200  # room on all sides
    size = (height + 400, width + 400)
    window = window_around(box, size, context=1.6)
    sides = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2
    found = torch.tensor([window.x0 + window.x1, window.y0 + window.y1]) / 2
    assert (found - centre).abs().max() <= 1
    moved = window_around(box, size, context=1.6, shift=(0.2, -0.1))
    assert moved.x0 - window.x0 == pytest.approx(0.2 * float(sides[0]), abs=1)
    assert moved.y0 - window.y0 == pytest.approx(-0.1 * float(sides[1]), abs=1)
    assert (moved.width, moved.height) == (window.width, window.height)


@pytest.mark.parametrize("seed", CASES)
def test_unshifted_window_holds_its_box(seed):
    box, size, rng = random_case(seed)
    window = window_around(box, size, context=rng.uniform(1.2, 2))
    # Up to the rounding of the window's sides and corner.
    assert window.x0 <= box[0] + 1
    assert window.y0 <= box[1] + 1
    assert window.x1 >= box[2] - 1
    assert window.y1 >= box[3] - 1


def test_window_of_a_known_box():
    box = torch.tensor([40.0, 30.0, 60.0, 40.0])
    assert window_around(box, (100, 120), context=1.5) == Window(35, 20, 65, 50)
    assert window_around(box, (100, 120), context=1.5, square=False) == Window(35, 28, 65, 43)
    # At the picture's corner it is moved inside, and a picture that is too small caps it.
    assert window_around(box - 28, (100, 120), context=2) == Window(2, 0, 42, 40)
    assert window_around(box, (48, 64), context=4) == Window(0, 0, 64, 48)


def test_crop_matches_a_mean_over_blocks():
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    window = Window(5, 7, 29, 31)
    native = crop(image, window, 24)
    assert torch.equal(native, image[:, 7:31, 5:29].float() / 255)
    flat = torch.full((3, 40, 50), 51, dtype=torch.uint8)
    torch.testing.assert_close(crop(flat, window, 9), torch.full((3, 9, 9), 0.2))
    # Antialiased: every pixel of the region counts, so the mean survives shrinking.
    small = crop(image, window, 8)
    assert float(small.mean()) == pytest.approx(float(native.mean()), abs=0.01)
    assert torch.equal(crop(image.float() / 255, window, 8), small)


def test_resize_keeps_equal_sizes_as_they_are_and_matches_triangle_weights():
    images = torch.rand(2, 3, 12, 10)
    assert resize(images, (12, 10)) is images
    found = resize(images, (6, 10))
    for row in range(6):
        centre = 2 * row + 1
        weights = [max(0.0, 1 - abs(pixel + 0.5 - centre) / 2) for pixel in range(12)]
        total = math.fsum(weights)
        naive = sum(images[:, :, i] * weight / total for i, weight in enumerate(weights))
        torch.testing.assert_close(found[:, :, row], naive)


@pytest.mark.parametrize("seed", CASES)
def test_box_in_window_and_back(seed):
    box, size, rng = random_case(seed)
    window = window_around(box, size, context=rng.uniform(1.3, 2))
    inner = box_in_window(box, window, 48)
    assert bool((inner >= 0).all())
    assert bool((inner <= 48).all())
    scale = torch.tensor([window.width, window.height] * 2) / 48
    back = inner * scale + torch.tensor([window.x0, window.y0] * 2)
    assert (back - box).abs().max() <= 1.01  # windows may cut off the rounding of their sides


@pytest.mark.parametrize("seed", CASES)
def test_put_back_undoes_crop_at_native_resolution(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 20))
    picture = torch.rand(1, 30, 25)
    window = Window(0, 0, size, size).moved_to(int(rng.integers(25 - size)), 9)
    back = put_back(crop(picture, window, size), window, (30, 25))
    inside = torch.zeros(1, 30, 25, dtype=torch.bool)
    inside[:, window.y0 : window.y1, window.x0 : window.x1] = True
    assert torch.equal(back, picture * inside)


def test_put_back_of_a_smooth_mask_survives_resampling():
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    picture = torch.exp(-((x - 30) ** 2 + (y - 28) ** 2) / 200)[None]
    window = Window(10, 8, 50, 48)
    back = put_back(crop(picture, window, 24), window, (60, 60))
    inside = (slice(None), slice(8, 48), slice(10, 50))
    assert (back - picture)[inside].abs().max() < 0.02
    assert float(back.sum()) == pytest.approx(float(back[inside].sum()))


@pytest.mark.parametrize("seed", CASES)
def test_boxes_to_mask_asks_every_pixel_centre(seed):
    box, (height, width), _ = random_case(seed)
    other, *_ = random_case(seed + 1000)
    boxes = torch.stack([box, other])
    masks = boxes_to_mask(boxes, (height, width))
    assert masks.shape == (2, 1, height, width)
    for mask, (x0, y0, x1, y1) in zip(masks[:, 0], boxes.tolist(), strict=True):
        naive = [
            [float(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1) for x in range(width)]
            for y in range(height)
        ]
        assert mask.tolist() == naive


@pytest.mark.parametrize("seed", CASES)
def test_free_positions_match_brute_force(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(8, 24, 2))
    corners = rng.uniform(0, 1, (int(rng.integers(0, 4)), 2, 2)) * [width, height]
    corners = np.sort(corners, axis=1)
    if seed % 2:
        corners = corners.round()
    boxes = torch.from_numpy(corners.reshape(-1, 4)).float()
    window = Window(0, 0, int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1)))
    free = free_positions(window, boxes, (height, width))
    assert free.shape == (height - window.height + 1, width - window.width + 1)
    for y in range(free.shape[0]):
        for x in range(free.shape[1]):
            disjoint = all(
                x >= x1 or x + window.width <= x0 or y >= y1 or y + window.height <= y0
                for x0, y0, x1, y1 in boxes.tolist()
            )
            assert bool(free[y, x]) == disjoint


def test_no_position_is_free_in_a_picture_smaller_than_the_window():
    assert not free_positions(Window(0, 0, 20, 20), torch.zeros(0, 4), (10, 30)).any()
