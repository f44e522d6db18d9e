"""Pasting, cutting and moving, against closed forms and plain loops."""

import pytest
import torch

from segan.compositing import (
    at_least_fp32,
    blur,
    brighten,
    composite,
    cut_out,
    push_pull,
    recolour,
    shift,
    zero_border,
)


def pictures(seed: int = 0, dtype: torch.dtype = torch.float32, size: int = 9) -> list:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, size, size)] * 2 + [(2, 1, size, size)]
    return [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]


def test_opaque_shows_the_object_and_transparent_the_background():
    objects, backgrounds, mask = pictures()
    assert torch.equal(composite(objects, backgrounds, torch.ones_like(mask)), objects)
    assert torch.equal(composite(objects, backgrounds, torch.zeros_like(mask)), backgrounds)


def test_composite_matches_equation_per_pixel():
    objects, backgrounds, mask = pictures(1)
    found = composite(objects, backgrounds, mask)
    for n, c, y, x in [(0, 0, 0, 0), (1, 2, 8, 3), (0, 1, 4, 7)]:
        m = float(mask[n, 0, y, x])
        naive = m * float(objects[n, c, y, x]) + (1 - m) * float(backgrounds[n, c, y, x])
        assert float(found[n, c, y, x]) == pytest.approx(naive, abs=1e-6)


def test_swapping_object_and_background_complements_the_mask():
    objects, backgrounds, mask = pictures(2, torch.float64)
    torch.testing.assert_close(
        composite(objects, backgrounds, mask), composite(backgrounds, objects, 1 - mask)
    )


def test_gradients_are_exact():
    objects, backgrounds, mask = (p.requires_grad_() for p in pictures(3, torch.float64, size=4))
    assert torch.autograd.gradcheck(composite, (objects, backgrounds, mask))
    outside = torch.ones_like(mask)
    outside[..., 1:3] = 0
    assert torch.autograd.gradcheck(
        lambda images, mask: cut_out(images, mask, outside=outside.detach()), (objects, mask)
    )
    assert torch.autograd.gradcheck(lambda images: blur(images, 0.8), (objects,))
    assert torch.autograd.gradcheck(lambda images: zero_border(images, 1), (mask,))
    offsets = torch.tensor([[1, -2], [0, 3]])
    assert torch.autograd.gradcheck(lambda images: shift(images, offsets), (objects,))


def test_cut_out_leaves_the_colour_of_the_surroundings_where_the_object_was():
    images, _, _ = pictures(4)
    outside = torch.ones(2, 1, 9, 9)
    outside[..., 1:6, 2:8] = 0
    mask = torch.zeros(2, 1, 9, 9)
    mask[..., 2:5, 3:7] = 1
    mask[..., 5, 5] = 0.25
    left = cut_out(images, mask, outside=outside)
    for n in range(2):
        colour = torch.stack([channel[outside[n, 0] == 1].mean() for channel in images[n]])
        torch.testing.assert_close(left[n, :, 3, 4], colour)
        torch.testing.assert_close(left[n, :, 5, 5], 0.75 * images[n, :, 5, 5] + 0.25 * colour)
    untouched = (mask == 0).expand_as(images)
    assert torch.equal(left[untouched], images[untouched])
    # Without surroundings there is no colour to take: black, and finite.
    everything = cut_out(images, torch.ones_like(mask), outside=torch.zeros_like(mask))
    assert torch.equal(everything, torch.zeros_like(images))


def test_blur_keeps_means_and_constants_and_matches_a_gaussian():
    constant = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(blur(constant, 2.0), constant)
    spot = torch.zeros(1, 1, 33, 33, dtype=torch.float64)
    spot[..., 16, 16] = 1
    blurred = blur(spot, 1.5)
    assert float(blurred.sum()) == pytest.approx(1)
    distance = torch.arange(33, dtype=torch.float64) - 16
    row = torch.exp(-(distance**2) / (2 * 1.5**2))
    row[distance.abs() > 4] = 0  # the kernel ends at three standard deviations, rounded
    row = row / row.sum()
    torch.testing.assert_close(blurred[0, 0], row[:, None] * row[None], atol=1e-6, rtol=0)
    images, *_ = pictures(5)
    assert torch.equal(blur(images, 0), images)


@pytest.mark.parametrize("offset", [(0, 0), (2, 0), (0, -3), (4, 5), (-8, 1), (9, 0), (-20, 20)])
def test_shift_rolls_and_fills_what_came_from_outside(offset):
    images, *_ = pictures(6)
    x, y = offset
    found = shift(images, torch.tensor([offset, (1, 1)]), fill=0.5)
    rolled = images[0].roll((y, x), dims=(1, 2)).clone()
    rows, columns = torch.arange(9) - y, torch.arange(9) - x
    rolled[:, (rows < 0) | (rows > 8)] = 0.5
    rolled[:, :, (columns < 0) | (columns > 8)] = 0.5
    assert torch.equal(found[0], rolled)
    assert torch.equal(found[1, :, 1:, 1:], images[1, :, :-1, :-1])


@pytest.mark.parametrize("width", [0, 1, 3, 4])
def test_zero_border_zeroes_the_frame_alone(width):
    mask = torch.rand(2, 1, 9, 8) + 0.1
    found = zero_border(mask, width)
    assert found.shape == mask.shape
    for y in range(9):
        for x in range(8):
            framed = min(y, 8 - y, x, 7 - x) < width
            assert torch.equal(found[..., y, x], mask[..., y, x] * (not framed))


def test_zero_border_refuses_a_frame_wider_than_the_mask():
    with pytest.raises(AssertionError, match="wider than the mask"):
        zero_border(torch.ones(1, 1, 8, 8), 5)


def test_brighten_adds_and_clamps():
    images = torch.tensor([0.2, 0.9]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2)
    found = brighten(images, torch.tensor([0.25, 0.25]))
    torch.testing.assert_close(found[0], torch.full((3, 2, 2), 0.45))
    assert torch.equal(found[1], torch.ones(3, 2, 2))


def test_compositions_are_fp32_under_bf16_autocast():
    objects, backgrounds, mask = pictures(7)
    exact = composite(objects, backgrounds, mask)
    half = mask.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = composite(objects, backgrounds, mask)
        assert torch.equal(found, exact)
        results = [
            composite(objects.bfloat16(), backgrounds, half),
            cut_out(objects.bfloat16(), half, outside=half),
            blur(objects.bfloat16(), 1.0),
            blur(objects.bfloat16(), 0.0),
        ]
    assert {found.dtype, *(result.dtype for result in results)} == {torch.float32}


def test_blur_is_exact_under_bf16_autocast():
    """A convolution is what autocast lowers, and low-passed images feed the discriminator."""
    objects, *_ = pictures(8)
    exact = blur(objects, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(blur(objects, 1.0), exact, atol=1e-6, rtol=0)


def test_at_least_fp32_leaves_float64_alone():
    types = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
    types |= {kept: kept for kept in (torch.float32, torch.float64)}
    for given, expected in types.items():
        assert at_least_fp32(torch.ones(1, dtype=given)).dtype == expected


def test_push_pull_leaves_what_is_known_and_fills_a_hole_from_around_it():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 21, 35)
    hole = torch.zeros(2, 1, 21, 35)
    hole[0, :, 5:12, 8:20] = 1
    filled = push_pull(images, hole)
    torch.testing.assert_close(filled[1], images[1])
    known = hole[0, 0] == 0
    torch.testing.assert_close(filled[0][:, known], images[0][:, known])
    assert float(images.min()) <= float(filled.min())
    assert float(filled.max()) <= float(images.max())


def test_push_pull_does_not_look_into_the_hole():
    torch.manual_seed(0)
    images, other = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    hole = torch.zeros(1, 1, 16, 16)
    hole[..., 3:10, 4:9] = 1
    changed = torch.where(hole > 0, other, images)
    torch.testing.assert_close(push_pull(images, hole), push_pull(changed, hole))


@pytest.mark.parametrize("size", [(16, 16), (13, 7), (1, 9), (2, 2)])
def test_push_pull_of_an_even_picture_is_even(size):
    hole = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    images = torch.full((1, 3, *size), 0.3)
    torch.testing.assert_close(push_pull(images, hole), images)
    assert float(push_pull(images, torch.ones_like(hole)).abs().max()) == 0


def test_push_pull_follows_a_slope_better_than_one_colour():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 10:20, 10:20] = 1
    error = (push_pull(ramp, hole) - ramp).abs()[hole > 0].mean()
    assert error < 0.3 * (ramp - ramp[hole == 0].mean()).abs()[hole > 0].mean()


def test_push_pull_is_differentiable_in_image_and_hole():
    torch.manual_seed(0)
    images = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    # Where four times a mean weight is far from 1, at which the gradient jumps.
    hole = 0.85 + 0.1 * torch.rand(1, 1, 5, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(push_pull, (images, hole.requires_grad_()))


def test_recolour_matches_diffaugment_and_nothing_changes_at_strength_zero():
    torch.manual_seed(0)
    images, noise = torch.rand(2, 3, 4, 5), 2 * torch.rand(2, 3) - 1
    assert torch.equal(recolour(images, noise, 0.0), images)
    found = recolour(images, noise, 1.0)
    for n in range(2):
        brightness, saturation, contrast = (noise[n] + 1) / 2  # uniform in [0, 1), as in the paper
        x = images[n] + (brightness - 0.5)
        gray = x.mean(0, keepdim=True)
        x = (x - gray) * (saturation * 2) + gray
        x = (x - x.mean()) * (contrast + 0.5) + x.mean()
        torch.testing.assert_close(found[n], x)
