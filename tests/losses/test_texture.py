"""Texture: closed forms, invariances and gradients."""

import torch

from segan.losses.texture import gram, texture_distance


def region(left: int, right: int, size: int = 16) -> torch.Tensor:
    within = torch.zeros(1, 1, size, size, dtype=torch.float64)
    within[..., left:right] = 1
    return within


def test_gram_is_the_mean_product_of_differences():
    """A ramp of slope a to the right and b down: differences are constant."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = (0.01 * x + 0.02 * y).expand(1, 3, 16, 16).double()
    inner = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    inner[..., 3:-3, 3:-3] = 1
    steps = torch.tensor([0.01, 0.02, 0.03, 0.01, 0.02, 0.04], dtype=torch.float64)
    torch.testing.assert_close(
        gram(ramp, inner)[0], torch.outer(steps, steps), atol=1e-8, rtol=1e-5
    )


def test_equal_textures_have_no_distance_wherever_they_are():
    stripes = (torch.arange(16) % 2).double().expand(1, 3, 16, 16)
    distance = texture_distance(stripes, stripes, region(2, 6), region(8, 12))
    torch.testing.assert_close(distance, torch.tensor(0.0).double(), atol=1e-6, rtol=0)


def test_smooth_is_farther_from_rough_than_rough_from_rough():
    generator = torch.Generator().manual_seed(0)
    rough, again = torch.rand(2, 1, 3, 16, 16, generator=generator, dtype=torch.float64)
    whole = region(0, 16)
    smooth = torch.full_like(rough, 0.5)
    near = texture_distance(rough, again, whole, whole)
    assert texture_distance(smooth, rough, whole, whole) > 5 * near


def test_brightness_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 2, 3, 16, 16, generator=generator, dtype=torch.float64)
    whole = region(0, 16).expand(2, -1, -1, -1)
    torch.testing.assert_close(
        texture_distance(first + 0.1, second, whole, whole),
        texture_distance(first, second, whole, whole),
    )


def test_shards_average_to_the_whole():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
    masks = torch.rand(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    whole = texture_distance(first, second, masks, 1 - masks)
    halves = [
        texture_distance(first[rows], second[rows], masks[rows], 1 - masks[rows])
        for rows in (slice(2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)


def test_an_empty_region_is_finite():
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    distance = texture_distance(images, images, nothing, 1 - nothing)
    distance.backward()
    assert bool(distance.isfinite())
    assert nothing.grad is not None
    assert bool(nothing.grad.isfinite().all())


def test_gradients():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 1, 3, 5, 5, generator=generator, dtype=torch.float64)
    mask = torch.rand(1, 1, 5, 5, generator=generator, dtype=torch.float64)
    inputs = [value.requires_grad_(True) for value in (first, second, mask)]
    assert torch.autograd.gradcheck(
        lambda a, b, m: texture_distance(a, b, m, 1 - m), inputs, eps=1e-7, atol=1e-5
    )
