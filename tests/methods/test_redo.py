"""ReDO term by term against the equations written out once more, and what each term is for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segan import config
from segan.data.redraws import RedrawBatch
from segan.errors import ConfigError
from segan.methods.redo import ReDO, ReDOConfig

SIZE, LENGTH = 16, 3


def make(**options: object) -> ReDO:
    torch.manual_seed(0)
    tree = {
        "network": {"width": 4, "depth": 1},
        "generator": {"width": 4, "depth": 2},
        "discriminator": {"width": 4, "depth": 2},
        "encoder": {"width": 4, "depth": 2},
        "num_noise": LENGTH,
        "size": SIZE,
    }
    return ReDO(config.build(ReDOConfig, tree | options))


def batch(num_regions: int = 2, count: int = 3) -> RedrawBatch:
    generator = torch.Generator().manual_seed(1)
    return RedrawBatch(
        images=torch.rand((count, 3, SIZE, SIZE), generator=generator),
        noise=torch.randn((count, num_regions, LENGTH), generator=generator),
    )


def halves(count: int = 3) -> Tensor:
    """Regions left and right of the middle, [N, 2, S, S]."""
    left = torch.zeros(count, 1, SIZE, SIZE)
    left[..., : SIZE // 2] = 1
    return torch.cat([left, 1 - left], dim=1)


def written_out(method: ReDO, drawn: RedrawBatch) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """Redrawn pictures, logits and errors of the noise, picture by picture, region by region."""
    regions = method.segmenter(drawn.images)
    pictures, logits, errors = [], [], []
    for n in range(len(drawn.images)):
        pictures.append([])
        for k, generator in enumerate(method.generators):
            mask, z = regions[n, k], drawn.noise[n, k]
            painted = generator(mask[None, None], z[None])[0]
            picture = mask * painted + (1 - mask) * drawn.images[n]
            pictures[-1].append(picture)
            logits.append(method.discriminator(picture[None])[0, 0])
            if method.config.weights.information:
                errors.append((method.encoder(picture[None])[0, k] - z).square().sum() / LENGTH)
    return pictures, torch.stack(logits), torch.stack(errors) if errors else torch.zeros(1)


@pytest.mark.parametrize("num_regions", [2, 3])
def test_redrawing_is_its_equation(num_regions):
    method, drawn = make(num_regions=num_regions), batch(num_regions)
    found = method.redraw(drawn.images, method.segmenter(drawn.images), drawn.noise)
    assert found.shape == (3, num_regions, 3, SIZE, SIZE)
    pictures, _, _ = written_out(method, drawn)
    torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in pictures]))


@pytest.mark.parametrize("num_regions", [2, 3])
def test_discriminator_minimises_the_hinge(num_regions):
    method, drawn = make(num_regions=num_regions), batch(num_regions)
    found = method.discriminator_losses(drawn)
    real = method.discriminator(drawn.images)
    _, fake, _ = written_out(method, drawn)
    expected = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.terms["logit_real"], real.mean().detach())
    torch.testing.assert_close(found.terms["logit_redrawn"], fake.mean().detach())


@pytest.mark.parametrize("phase", ["generator", "segmenter"])
@pytest.mark.parametrize("num_regions", [2, 3])
def test_the_others_minimise_the_critic_and_the_error_of_the_noise(phase, num_regions):
    weights = {"redraw": 0.7, "information": 3.0}
    method, drawn = make(num_regions=num_regions, weights=weights), batch(num_regions)
    found = method(phase, drawn)
    _, logits, errors = written_out(method, drawn)
    torch.testing.assert_close(found.terms["redraw"], -logits.mean().detach())
    torch.testing.assert_close(found.terms["information"], errors.mean().detach())
    torch.testing.assert_close(found.total, -0.7 * logits.mean() + 3.0 * errors.mean())


def test_the_defaults_are_the_authors_weights():
    weights = make().config.weights
    assert (weights.redraw, weights.information) == (1.0, 5.0)


def test_smallest_is_the_mean_area_of_each_pictures_smallest_region():
    method, drawn = make(num_regions=3), batch(3)
    areas = method.segmenter(drawn.images).mean((2, 3))
    expected = torch.stack([row.min() for row in areas]).mean().detach()
    torch.testing.assert_close(method.segmenter_losses(drawn).terms["smallest"], expected)


def test_one_region_is_redrawn_and_the_others_are_kept_exactly():
    method, drawn, regions = make(), batch(), halves()
    found = method.redraw(drawn.images, regions, drawn.noise)
    for k, generator in enumerate(method.generators):
        inside = (regions[:, k : k + 1] == 1).expand(-1, 3, -1, -1)
        painted = generator(regions[:, k : k + 1], drawn.noise[:, k])
        assert torch.equal(found[:, k][~inside], drawn.images[~inside])
        assert torch.equal(found[:, k][inside], painted[inside])
        assert float((found[:, k] - drawn.images)[inside].abs().min().detach()) > 0


def test_generators_see_their_mask_and_their_noise_and_nothing_else():
    method, drawn, regions = make(), batch(), halves()
    found = method.redraw(drawn.images, regions, drawn.noise)
    inside = (regions == 1)[:, :, None].expand_as(found)
    others = method.redraw(1 - drawn.images, regions, drawn.noise)
    assert torch.equal(found[inside], others[inside])
    noise = drawn.noise.clone()
    noise[:, 1] += 1
    changed = method.redraw(drawn.images, regions, noise)
    assert torch.equal(changed[:, 0], found[:, 0])
    assert not torch.equal(changed[:, 1], found[:, 1])
    moved = method.redraw(drawn.images, regions.roll(1, dims=-1), drawn.noise)
    still = torch.minimum(regions, regions.roll(1, dims=-1))[:, :, None].expand_as(found) == 1
    assert not torch.equal(moved[still], found[still])


def test_a_region_of_no_size_costs_information_and_only_information():
    """Painted in the colour of its noise, a region tells it; an empty one cannot."""
    method = make()
    method.generators = nn.ModuleList([_Paint(), _Paint()])
    method.encoder = _ReadColour()
    drawn = batch()
    noise = drawn.noise.abs().clamp(max=1)
    images = torch.zeros_like(drawn.images)

    def error(regions: Tensor) -> float:
        return float(method.information(method.redraw(images, regions, noise), noise))

    nothing = torch.zeros(3, 1, SIZE, SIZE)
    collapsed = torch.cat([1 - nothing, nothing], dim=1)
    assert error(halves()) == pytest.approx(0, abs=1e-12)
    lost = noise[:, 1].square().mean() / 2  # of the empty region, half of the mean over regions
    assert error(collapsed) == pytest.approx(float(lost), rel=1e-5)
    assert error(collapsed.flip(1)) > 0.05
    # To the discriminator, a picture of which nothing was redrawn is the picture.
    assert torch.equal(method.redraw(images, collapsed, noise)[:, 1], images)


def test_trained_networks_tell_the_noise_of_a_region_but_not_of_nothing():
    method = make(num_noise=1, encoder={"width": 8, "depth": 1})
    regions = torch.cat([torch.ones(16, 1, SIZE, SIZE), torch.zeros(16, 1, SIZE, SIZE)], dim=1)
    images = torch.rand(16, 3, SIZE, SIZE)
    painters = [*method.generators.parameters(), *method.encoder.parameters()]
    optimizer = torch.optim.Adam(painters, lr=1e-2)
    errors = []
    for _ in range(80):
        noise = torch.randn(16, 2, 1)
        redrawn = method.redraw(images, regions, noise)
        told = method.encoder(redrawn.flatten(0, 1)).unflatten(0, (16, 2))
        each = torch.stack([(told[:, k, k] - noise[:, k]).square().mean() for k in range(2)])
        torch.testing.assert_close(method.information(redrawn, noise), each.mean())
        optimizer.zero_grad()
        each.mean().backward()
        optimizer.step()
        errors.append(each.detach())
    full, nothing = torch.stack(errors[-20:]).mean(0).tolist()
    assert full < 0.3
    assert nothing > 0.8


def test_information_reaches_the_segmenter_and_would_grow_a_small_region():
    """Where a region is faint its noise is faint: more of it tells more."""
    method, drawn = make(), batch()
    method.generators = nn.ModuleList([_Paint(), _Paint()])
    method.encoder = _ReadColour()
    noise = drawn.noise.abs().clamp(0.2, 1)
    opacity = torch.full((3, 1, SIZE, SIZE), 0.1, requires_grad=True)
    regions = torch.cat([1 - opacity.detach(), opacity], dim=1)
    redrawn = method.redraw(torch.zeros_like(drawn.images), regions, noise)
    method.information(redrawn, noise).backward()
    assert opacity.grad is not None
    assert float(opacity.grad.sum()) < 0


@pytest.mark.parametrize(
    ("phase", "reached"),
    [
        ("discriminator", {"discriminator"}),
        # The trainer freezes what a phase does not train; here nothing is frozen.
        ("generator", {"generators", "encoder", "discriminator"}),
        ("segmenter", {"generators", "encoder", "discriminator", "segmenter"}),
    ],
)
def test_gradients_stop_where_masks_and_pictures_are_given(phase, reached):
    method = make()
    method(phase, batch()).total.backward()
    found = {
        name
        for name, network in method.named_children()
        if any(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
    }
    assert found == reached


def test_each_side_has_an_optimiser_of_its_own():
    """So that the segmenter can learn ten times more slowly."""
    phases = {phase.name: phase for phase in make(discriminator_steps=2).phases}
    assert list(phases) == ["discriminator", "generator", "segmenter"]
    assert len({phase.optimizer or phase.name for phase in phases.values()}) == 3
    assert phases["generator"].trains == ("generators", "encoder")
    assert phases["segmenter"].trains == ("segmenter",)
    assert phases["discriminator"].repeat == 2


def test_without_information_there_is_no_encoder():
    method, drawn = make(weights={"information": 0.0}), batch()
    assert not hasattr(method, "encoder")
    assert {phase.name: phase.trains for phase in method.phases}["generator"] == ("generators",)
    found = method.generator_losses(drawn)
    assert set(found.terms) == {"redraw"}
    _, logits, _ = written_out(method, drawn)
    torch.testing.assert_close(found.total, -logits.mean())


def test_relativistic_logits_are_compared_with_those_of_the_picture_itself():
    method, drawn = make(adversarial="relativistic"), batch()
    real = method.discriminator(drawn.images)[:, 0]
    _, fake, _ = written_out(method, drawn)
    difference = fake - torch.stack([real, real], dim=1).flatten()
    found = method.discriminator_losses(drawn)
    torch.testing.assert_close(found.total, F.softplus(difference).mean())
    redraw = method.generator_losses(drawn).terms["redraw"]
    torch.testing.assert_close(redraw, F.softplus(-difference).mean().detach())


@pytest.mark.parametrize(
    "kind", ["non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
)
def test_every_adversarial_form_trains_all_sides(kind):
    method, drawn = make(adversarial=kind, weights={"information": 0.0}), batch()
    for phase, name in (
        ("discriminator", "discriminator"),
        ("generator", "generators"),
        ("segmenter", "segmenter"),
    ):
        method.zero_grad(set_to_none=True)
        method(phase, drawn).total.backward()
        gradients = [p.grad for p in getattr(method, name).parameters() if p.grad is not None]
        assert any(bool((gradient != 0).any()) for gradient in gradients)


def test_regions_have_no_names():
    segmenter = make(num_regions=3).segmenter
    assert segmenter.foreground is None
    assert segmenter(torch.rand(1, 3, 20, 24)).shape == (1, 3, 20, 24)


def test_preview_redraws_another_region_from_picture_to_picture():
    method, drawn = make(), batch()
    preview = method.preview(method.segmenter, drawn)
    redrawn = method.redraw(drawn.images, preview.masks, drawn.noise)
    assert preview.masks.shape == (3, 2, SIZE, SIZE)
    assert preview.composites is not None
    for n, k in enumerate((0, 1, 0)):
        torch.testing.assert_close(preview.composites[n], redrawn[n, k].detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 20, "generator": {"depth": 3}},
            "'method.size' is 20; with a generator of depth 3 it must be a multiple of 8",
        ),
        (
            {"discriminator": {"depth": 5}},
            "'method.size' is 16; a discriminator or encoder of depth 5 needs at least 32",
        ),
        (
            {"encoder": {"depth": 6}},
            "'method.size' is 16; a discriminator or encoder of depth 6 needs at least 64",
        ),
        (
            {"num_regions": 1},
            "config: 'num_regions' is 1; it must be greater than or equal to 2",
        ),
        (
            {"weights": {"redraw": 0.0}},
            "config: 'weights.redraw' is 0.0; it must be greater than 0",
        ),
    ],
)
def test_mistakes_of_the_configuration(options, message):
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert str(caught.value) == message


class _Paint(nn.Module):
    """Fills a picture with its noise as a colour."""

    def forward(self, mask: Tensor, noise: Tensor) -> Tensor:
        return noise[:, :, None, None].expand(-1, -1, *mask.shape[-2:])


class _ReadColour(nn.Module):
    """Reads the brightest value of each channel, whatever the region."""

    def forward(self, images: Tensor) -> Tensor:
        return images.amax((2, 3))[:, None].expand(-1, 2, -1)
