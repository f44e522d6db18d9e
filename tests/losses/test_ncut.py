import math

import pytest
import torch
from torch import Tensor

from segan.losses import ncut
from segan.losses.ncut import soft_ncut

DEFAULTS = {"radius": 5, "sigma_intensity": 10 / 255, "sigma_distance": 4.0}


def sample(
    count: int = 1, num_regions: int = 3, height: int = 9, width: int = 12, sharpness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Regions that need a gradient and smooth images, so that affinities are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(count + height)
    logits = torch.randn(count, num_regions, height, width, generator=generator).double()
    noise = torch.rand(count, 3, height, width, generator=generator).double()
    return (sharpness * logits).softmax(1).requires_grad_(), 0.4 + 0.1 * noise


def affinity(
    image: Tensor, *, radius: float, sigma_intensity: float, sigma_distance: float
) -> Tensor:
    """The matrix W of one image [C, H, W], from its definition."""
    _, height, width = image.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    position = torch.tensor(pixels, dtype=image.dtype)
    distance = (position[:, None] - position[None]).square().sum(-1)
    value = image.flatten(1).T
    difference = (value[:, None] - value[None]).square().sum(-1)
    weights = torch.exp(-difference / sigma_intensity**2 - distance / sigma_distance**2)
    return weights * (distance.sqrt() < radius)


def dense(regions: Tensor, images: Tensor, **settings: float) -> Tensor:
    """Equation 2 with a matrix of all pairs of pixels."""
    cuts = []
    for assignments, image in zip(regions.flatten(2), images, strict=True):
        weights = affinity(image, **(DEFAULTS | settings))
        ratios = [(p @ weights @ p) / (p @ weights.sum(1)) for p in assignments]
        cuts.append(len(assignments) - sum(ratios))
    return sum(cuts) / len(cuts)


def gradient(value: Tensor, regions: Tensor) -> Tensor:
    return torch.autograd.grad(value, regions, retain_graph=True)[0]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"radius": 1},
        {"radius": 2, "sigma_intensity": 0.3},
        {"radius": 9, "sigma_distance": 2.0},
        {"radius": 5, "sigma_intensity": 1e3, "sigma_distance": 1e3},
    ],
)
def test_value_and_gradient_are_those_of_the_matrix_of_all_pairs(count, settings) -> None:
    regions, images = sample(count)
    found, expected = soft_ncut(regions, images, **settings), dense(regions, images, **settings)
    assert relative(found, expected) < 1e-12
    assert relative(gradient(found, regions), gradient(expected, regions)) < 1e-12


@pytest.mark.parametrize(("height", "width"), [(5, 31), (31, 5), (5, 5), (16, 16)])
def test_any_shape_of_image_and_any_strip_of_it_gives_the_same(monkeypatch, height, width) -> None:
    regions, images = sample(2, 4, height, width)
    expected = dense(regions, images)
    for strip in (1, 7, 64, 1 << 20):
        monkeypatch.setitem(ncut._STRIP, "cpu", strip)
        found = soft_ncut(regions, images)
        assert relative(found, expected) < 1e-12
        assert relative(gradient(found, regions), gradient(expected, regions)) < 1e-12


@pytest.mark.parametrize("num_regions", [1, 2, 7, 8, 9])
def test_any_number_of_regions(num_regions) -> None:
    regions, images = sample(1, num_regions)
    found, expected = soft_ncut(regions, images), dense(regions, images)
    assert abs(found.item() - expected.item()) < 1e-12
    difference = gradient(found, regions) - gradient(expected, regions)
    assert float(difference.abs().max()) < 1e-12


def test_gradient_is_that_of_finite_differences() -> None:
    regions, images = sample(2, 3, 5, 6)
    assert torch.autograd.gradcheck(lambda p: soft_ncut(p, images, radius=3), (regions,))


def test_brightness_is_the_mean_of_the_channels() -> None:
    regions, images = sample(2)
    found = soft_ncut(regions, images, features="brightness")
    expected = dense(regions, images.mean(1, keepdim=True))
    assert relative(found, expected) < 1e-12
    assert relative(found, dense(regions, images)) > 1e-4


def test_order_of_regions_does_not_matter() -> None:
    regions, images = sample(2, 4)
    order = [2, 0, 3, 1]
    found = soft_ncut(regions[:, order], images)
    assert relative(found, soft_ncut(regions, images)) < 1e-12


def test_one_region_cuts_nothing() -> None:
    _, images = sample(2)
    assert abs(float(soft_ncut(torch.ones(2, 1, 9, 12).double(), images))) < 1e-12


def test_uniform_regions_cost_all_but_one() -> None:
    """p_k = 1 / K gives assoc(A_k, A_k) / assoc(A_k, V) = 1 / K."""
    _, images = sample(1)
    regions = torch.full((1, 4, 9, 12), 0.25).double()
    assert float(soft_ncut(regions, images)) == pytest.approx(3, abs=1e-12)


def halves(height: int = 8, width: int = 10) -> tuple[Tensor, Tensor]:
    """A black left and a white right half, and the partition into them."""
    images = torch.zeros(1, 3, height, width).double()
    images[..., width // 2 :] = 1
    regions = torch.cat([1 - images[:, :1], images[:, :1]], 1)
    return regions, images


def test_black_and_white_are_not_alike_and_their_partition_is_perfect() -> None:
    regions, images = halves()
    assert float(soft_ncut(regions, images)) < 1e-12
    # Even the nearest pair across the contour: exp(-3 * 25.5 ** 2) underflows.
    weights = affinity(images[0], **DEFAULTS)
    assert float(weights[4, 5]) < 1e-300
    # sigma_intensity = 3 on images in [0, 1], as published, makes the loss blind to them.
    assert float(soft_ncut(regions, images, sigma_intensity=3)) > 0.2


def test_hard_partition_of_a_flat_image_costs_the_share_of_affinity_across() -> None:
    """Radius 2 on a row of two halves: w = e = exp(-1/16) to 4 neighbours; sums by hand."""
    regions, _ = halves(2, 10)
    flat = torch.full((1, 3, 2, 10), 0.5).double()
    edge, corner = math.exp(-1 / 16), math.exp(-2 / 16)
    # A half has 10 pixels, 13 pairs side by side and 8 diagonal ones; 2 and 2 pairs lead across.
    within = 10 + 2 * (13 * edge + 8 * corner)
    across = 2 * edge + 2 * corner
    expected = 2 - 2 * within / (within + across)
    assert float(soft_ncut(regions, flat, radius=2)) == pytest.approx(expected, abs=1e-12)


def test_images_of_a_batch_are_cut_by_themselves() -> None:
    """Public defects: a broadcast to N x N pairs of images; sums over the batch before dividing."""
    regions, images = sample(3)
    # Unequal images: equal ones would hide a ratio of sums.
    images = images * torch.tensor([1.0, 0.2, 0.5]).double()[:, None, None, None]
    alone = [soft_ncut(regions[i : i + 1], images[i : i + 1]) for i in range(3)]
    assert relative(soft_ncut(regions, images), sum(alone) / 3) < 1e-12
    kept = volume = 0
    for assignments, image in zip(regions.flatten(2), images, strict=True):
        weights = affinity(image, **DEFAULTS)
        kept = kept + (assignments @ weights * assignments).sum(1)
        volume = volume + assignments @ weights.sum(1)
    assert relative(3 - (kept / volume).sum(), sum(alone) / 3) > 1e-3
    parts = gradient(soft_ncut(regions, images), regions)
    assert relative(parts[1], gradient(alone[1], regions)[1] / 3) < 1e-12


@pytest.mark.parametrize(("radius", "pixels"), [(1, 1), (2, 9), (3, 25), (5, 69)])
def test_neighbourhood_is_of_distance_strictly_below_radius(radius, pixels) -> None:
    """Public defects: 81 pixels (a square, or not strict), 21 (squared distance below radius).

    With affinity 1 to all neighbours and one pixel alone in its region, that pixel's ratio is
    1 / pixels; far from it the other region is complete.
    """
    side = 21
    regions = torch.zeros(1, 2, side, side).double()
    regions[0, 1] = 1
    regions[0, :, 10, 10] = torch.tensor([1.0, 0.0])
    images = torch.full((1, 3, side, side), 0.5).double()
    weights = affinity(images[0], radius=radius, sigma_intensity=1.0, sigma_distance=1e6)
    degrees = weights.sum()
    alone = 1 / pixels
    rest = (degrees - 2 * pixels + 1) / (degrees - pixels)
    found = soft_ncut(regions, images, radius=radius, sigma_distance=1e6)
    assert float(found) == pytest.approx(float(2 - alone - rest), abs=1e-9)


def test_padding_is_in_no_degree() -> None:
    """In a black image a pixel of the padding would be as like as any other."""
    regions, images = sample(1)
    black = torch.zeros_like(images)
    assert relative(soft_ncut(regions, black), dense(regions, black)) < 1e-12


def test_bandwidths_have_units_of_the_image_range_and_of_pixels() -> None:
    """Without factors of 2: the ratio of two pixels alone in regions is 1 / (1 + w)."""
    regions = torch.eye(2).double().view(1, 2, 1, 2).expand(1, 2, 2, 2).contiguous()
    images = torch.zeros(1, 1, 2, 2).double()
    images[..., 1] = 0.02
    across = math.exp(-((0.02 / 0.05) ** 2) - 1 / 9)
    down, diagonal = math.exp(-1 / 9), math.exp(-((0.02 / 0.05) ** 2) - 2 / 9)
    expected = 2 - 2 * (1 + down) / (1 + down + across + diagonal)
    found = soft_ncut(regions, images, radius=2, sigma_intensity=0.05, sigma_distance=3.0)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_logits_below_zero_matter() -> None:
    """Public defect: a ReLU before the softmax. Here regions are as given, nothing is clipped."""
    _, images = sample(1)
    logits = torch.randn(1, 3, 9, 12, generator=torch.Generator().manual_seed(1)).double()
    logits.requires_grad_()
    slope = gradient(soft_ncut(logits.softmax(1), images), logits)
    assert bool((slope[logits < 0] != 0).all())


def test_empty_region_costs_one_and_pulls_nowhere() -> None:
    regions, images = sample(1, 2)
    empty = torch.zeros(1, 1, 9, 12).double()
    extended = torch.cat([regions.detach(), empty], 1).requires_grad_()
    found = soft_ncut(extended, images)
    assert found.item() == pytest.approx(soft_ncut(regions, images).item() + 1, abs=1e-12)
    slope = gradient(found, extended)
    assert bool(slope.isfinite().all())
    assert float(slope[:, 2].abs().max()) == 0


def test_nearly_empty_region_in_float32_stays_finite() -> None:
    regions, images = sample(1, 2)
    nearly = torch.full((1, 1, 9, 12), 1e-30)
    extended = torch.cat([regions.detach().float(), nearly], 1).requires_grad_()
    found = soft_ncut(extended, images.float())
    assert bool(gradient(found, extended).isfinite().all())
    assert relative(found.double(), dense(extended.double(), images)) < 1e-5


def test_float32_is_close_and_its_gradient_too() -> None:
    regions, images = sample(2, 5, 16, 17)
    single = regions.detach().float().requires_grad_()
    found, expected = soft_ncut(single, images.float()), dense(regions, images)
    assert found.dtype == torch.float32
    assert relative(found.double(), expected) < 1e-5
    assert relative(gradient(found, single).double(), gradient(expected, regions)) < 1e-4


def test_under_autocast_it_is_computed_in_float32() -> None:
    regions, images = sample(2)
    single, narrow = regions.detach().float(), regions.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = soft_ncut(single, images.float())
        rounded = soft_ncut(narrow, images.bfloat16())
    assert found.dtype == rounded.dtype == torch.float32
    assert torch.equal(found, soft_ncut(single, images.float()))
    assert torch.equal(rounded, soft_ncut(narrow.float(), images.bfloat16().float()))
    assert gradient(rounded, narrow).dtype == torch.bfloat16


def test_memory_layout_does_not_matter() -> None:
    regions, images = sample(2, 4)
    found = soft_ncut(regions, images)
    for layout in (
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.stack([x, x], -1)[..., 0],
    ):
        other = layout(regions.detach()).requires_grad_()
        again = soft_ncut(other, layout(images))
        assert relative(again, found) < 1e-12
        assert relative(gradient(again, other), gradient(found, regions)) < 1e-12


def test_images_are_constants() -> None:
    regions, images = sample(1)
    images.requires_grad_()
    soft_ncut(regions, images).backward()
    assert images.grad is None
    assert regions.grad is not None


def test_memory_is_linear_in_pixels(monkeypatch) -> None:
    """All that is allocated at once, strips apart, is a fixed number of copies of the regions."""
    monkeypatch.setitem(ncut._STRIP, "cpu", 256)
    peaks = []
    for side in (48, 96):
        regions = torch.rand(1, 7, side, side).softmax(1).requires_grad_()
        images = torch.rand(1, 3, side, side)
        peaks.append(peak_bytes(lambda r=regions, i=images: soft_ncut(r, i).backward()))
    assert peaks[1] < 4.5 * peaks[0]
    assert peaks[1] < 8 * (96 * 96 * 7 * 4)


def peak_bytes(call) -> int:
    """Most bytes that tensors allocated by `call` hold at a time, by torch's profiler."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_image_of_not_numbers_makes_the_loss_one_too() -> None:
    """Training looks for this in the loss and leaves the update out."""
    regions, images = sample(2)
    images[1, 0, 3, 3] = math.nan
    assert soft_ncut(regions, images).isnan()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regions": torch.ones(3, 9, 12)}, "must be"),
        ({"regions": torch.ones(2, 3, 9, 12)}, "agree in N, H and W"),
        ({"regions": torch.ones(1, 3, 12, 9)}, "agree in N, H and W"),
        ({"images": 255 * torch.rand(1, 3, 9, 12)}, r"in \[0, 1\]"),
        ({"images": torch.randn(1, 3, 9, 12)}, r"in \[0, 1\]"),
        ({"radius": 0}, "radius must be"),
        ({"radius": 10}, "radius must be a whole number from 1 to the side of 9 x 12, not 10"),
        ({"radius": 2.5}, "radius must be a whole number from 1 to the side of 9 x 12, not 2.5"),
        ({"sigma_intensity": 0.0}, "above 0"),
        ({"sigma_distance": -1.0}, "above 0"),
        ({"features": "texture"}, "'colour' or 'brightness'"),
    ],
)
def test_mistakes_are_one_clear_line(change, message) -> None:
    regions, images = sample(1)
    call = {"regions": regions, "images": images} | change
    with pytest.raises(ValueError, match=message) as raised:
        soft_ncut(call.pop("regions"), call.pop("images"), **call)
    assert "\n" not in str(raised.value)
