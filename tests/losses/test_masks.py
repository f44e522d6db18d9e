import pytest
import torch
from torch import Tensor

from segan.losses.masks import (
    area_ceiling,
    area_floor,
    binarity,
    border,
    mean_area,
    predictability,
    total_variation,
)


def sample_masks(count: int = 4, height: int = 5, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, height, width, generator=generator, dtype=torch.float64)


def sample_boxes(masks: Tensor) -> Tensor:
    within = torch.zeros_like(masks)
    for i in range(len(within)):
        within[i, :, 1:4, i % 3 : 5] = 1
    return within


LOSSES = {
    "area": mean_area,
    "area_in_box": lambda m: mean_area(m, sample_boxes(m)),
    "floor": lambda m: area_floor(m, floor=0.52),
    "floor_in_box": lambda m: area_floor(m, sample_boxes(m), floor=0.52),
    "ceiling": lambda m: area_ceiling(m, ceiling=0.45),
    "ceiling_in_box": lambda m: area_ceiling(m, sample_boxes(m), ceiling=0.45),
    "binarity": binarity,
    "total_variation": total_variation,
    "border": lambda m: border(m, width=1),
}


def test_losses_match_loops_over_pixels() -> None:
    masks = sample_masks()
    count, _, height, width = masks.shape
    boxes = sample_boxes(masks)
    expected = dict.fromkeys(LOSSES, 0.0)
    for mask, box in zip(masks[:, 0].tolist(), boxes[:, 0].tolist(), strict=True):
        pixels = [(y, x) for y in range(height) for x in range(width)]
        inside = [mask[y][x] for y, x in pixels if box[y][x]]
        frame = [mask[y][x] for y, x in pixels if y in (0, height - 1) or x in (0, width - 1)]
        area = sum(sum(row) for row in mask) / len(pixels)
        area_in_box = sum(inside) / len(inside)
        steps = [abs(mask[y][x] - mask[y][x - 1]) for y, x in pixels if x]
        steps += [abs(mask[y][x] - mask[y - 1][x]) for y, x in pixels if y]
        of_this = {
            "area": area,
            "area_in_box": area_in_box,
            "floor": max(0.52 - area, 0),
            "floor_in_box": max(0.52 - area_in_box, 0),
            "ceiling": max(area - 0.45, 0),
            "ceiling_in_box": max(area_in_box - 0.45, 0),
            "binarity": sum(min(mask[y][x], 1 - mask[y][x]) for y, x in pixels) / len(pixels),
            "total_variation": sum(steps) / len(pixels),
            "border": sum(frame) / len(frame),
        }
        for name, value in of_this.items():
            expected[name] += value / count
    assert {name: loss(masks).item() for name, loss in LOSSES.items()} == pytest.approx(expected)
    assert all(value > 0 for value in expected.values())


@pytest.mark.parametrize("name", LOSSES)
def test_mask_losses_pass_gradcheck(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], (sample_masks().requires_grad_(True),))


@pytest.mark.parametrize("name", LOSSES)
def test_shards_average_to_the_whole_batch(name: str) -> None:
    masks = sample_masks(count=6)
    boxes = sample_boxes(masks)  # periodic in 3, so that both halves get the same boxes
    assert torch.equal(boxes[:3], boxes[3:])
    halves = (LOSSES[name](masks[:3]) + LOSSES[name](masks[3:])) / 2
    torch.testing.assert_close(LOSSES[name](masks), halves)


def test_area_bounds_do_not_let_images_make_up_for_each_other() -> None:
    masks = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
    assert mean_area(masks) == 0.5
    assert area_floor(masks, floor=0.2).item() == pytest.approx(0.1)
    assert area_ceiling(masks, ceiling=0.8).item() == pytest.approx(0.1)


def test_area_within_a_box_ignores_what_is_outside() -> None:
    masks = sample_masks()
    boxes = sample_boxes(masks)
    torch.testing.assert_close(mean_area(masks, boxes), mean_area(masks * boxes, boxes))
    assert mean_area(boxes, boxes) == 1
    assert mean_area(masks, torch.zeros_like(masks)) == 0


def test_binarity_is_zero_for_binary_masks_and_symmetric() -> None:
    masks = sample_masks()
    assert binarity(masks.round()) == 0
    assert binarity(torch.full((2, 1, 4, 4), 0.5)) == 0.5
    torch.testing.assert_close(binarity(masks), binarity(1 - masks))


def test_total_variation_is_the_length_of_a_binary_contour() -> None:
    mask = torch.zeros(1, 1, 10, 20)
    mask[..., 2:7, 3:11] = 1
    assert total_variation(mask).item() == pytest.approx(2 * (5 + 8) / 200)
    assert total_variation(torch.full((1, 1, 4, 4), 0.3)) == 0


def test_border_sees_the_frame_alone() -> None:
    mask = torch.ones(2, 1, 8, 9)
    mask[..., 2:-2, 2:-2] = 0
    assert border(mask, width=2) == 1
    assert border(1 - mask, width=2) == 0
    assert border(mask, width=8) == mask.mean()


def test_predictability_prices_each_pixel_by_the_error_of_its_guess():
    torch.manual_seed(0)
    images, guess, mask = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    total = 0.0
    for n in range(2):
        error = (images[n] - guess[n]).abs().mean(0) / images[n].std(correction=0)
        total += float((mask[n, 0] * (0.7 - error)).mean()) / 2
    assert float(predictability(images, guess, mask, price=0.7)) == pytest.approx(total, rel=1e-5)
    assert float(predictability(images, guess, torch.zeros_like(mask), price=0.7)) == 0


def test_predictability_has_no_gradient_in_the_guess():
    images, mask = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8, requires_grad=True)
    predictability(images, images * mask, mask, price=0.5).backward()
    error = (images - images * mask.detach()).abs().mean(1) / images.std(correction=0)
    torch.testing.assert_close(mask.grad, (0.5 - error)[:, None] / 64)


def test_predictability_at_first_pushes_no_mask_as_a_whole():
    """Dense or thin, an even mask costs the same; only where it is makes a difference."""
    torch.manual_seed(0)
    images, guess = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    for opacity in (0.1, 0.9):
        mask = torch.full((2, 1, 8, 8), opacity, requires_grad=True)
        cost = predictability(images, guess, mask, price=0.7, rise=0.0)
        assert float(cost.detach()) == pytest.approx(0, abs=1e-6)
        cost.backward()
        assert float(mask.grad.sum((1, 2, 3)).abs().max()) < 1e-6
        error = (images - guess).abs().mean(1, keepdim=True)
        error = error / images.std((1, 2, 3), correction=0, keepdim=True)
        assert torch.equal(mask.grad < 0, error > 0.7)
