"""The copy-pasting GAN term by term against appendix A written out once more, and its guards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segan import config
from segan.compositing import blur
from segan.data.scenes import SceneBatch
from segan.errors import ConfigError
from segan.methods.copy_paste import CopyPaste, CopyPasteConfig, found_up_to_inversion

SIZE = 16


def make(**options: object) -> CopyPaste:
    torch.manual_seed(0)
    tree = {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": SIZE,
        "weights": {},
        "guards": {"jitter": 0.0, "blur": 0.0, "border": 0, "head_start": 0},
    }
    for key, value in options.items():
        tree[key] = tree[key] | value if isinstance(value, dict) and key in tree else value
    return CopyPaste(config.build(CopyPasteConfig, tree))


def batch() -> SceneBatch:
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return SceneBatch(
        images=rand(3, 3, SIZE, SIZE),
        backgrounds=rand(3, 3, SIZE, SIZE),
        others=rand(3, 3, SIZE, SIZE),
        jitter=rand(3, 4),
        polygons=(rand(3, 1, SIZE, SIZE) > 0.5).float(),
        grain=torch.zeros(3, 6, SIZE, SIZE),
    )


def blend(objects: Tensor, backgrounds: Tensor, mask: Tensor) -> Tensor:
    return mask * objects + (1 - mask) * backgrounds


def pieces(method: CopyPaste, drawn: SceneBatch) -> dict[str, Tensor]:
    mask = method.segmenter(drawn.images)[:, 1:].detach()
    return {
        "mask": mask,
        "pasted": blend(drawn.images, drawn.backgrounds, mask),
        "irrelevant": blend(drawn.others, drawn.backgrounds, mask),
        "grounded": blend(drawn.images, drawn.backgrounds, drawn.polygons),
    }


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def least_of_both(logits: Tensor, mask: Tensor) -> Tensor:
    """Image by image."""
    probability = logits.sigmoid()
    each = []
    for d, m in zip(probability, mask, strict=True):
        straight = -(m * d.log() + (1 - m) * (1 - d).log()).mean()
        inverted = -((1 - m) * d.log() + m * (1 - d).log()).mean()
        each.append(min(straight, inverted))
    return torch.stack(each).mean()


def test_discriminator_terms_match_the_paper():
    method, drawn = make(), batch()
    found = method.discriminator_losses(drawn)
    shown = pieces(method, drawn)
    real, nothing = method.discriminator(drawn.images)
    pasted, pasted_mask = method.discriminator(shown["pasted"])
    grounded, grounded_mask = method.discriminator(shown["grounded"])
    _, irrelevant_mask = method.discriminator(shown["irrelevant"])
    auxiliary = (
        least_of_both(nothing, torch.zeros_like(nothing))
        + least_of_both(pasted_mask, shown["mask"])
        + least_of_both(grounded_mask, drawn.polygons)
        + least_of_both(irrelevant_mask, shown["mask"])
    )
    expected = {
        "real": cross_entropy(real, 0.75),
        "pasted": cross_entropy(pasted, 0.0),
        "grounded": cross_entropy(grounded, 0.0),
        "auxiliary": auxiliary,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value.detach())
    expected["auxiliary"] = 0.1 * auxiliary
    torch.testing.assert_close(found.total, torch.stack([*expected.values()]).sum())


def test_finding_the_complement_is_as_good_image_by_image():
    """Over the batch, one image found straight and one inverted would be a failure."""
    mask = torch.zeros(2, 1, 4, 4)
    mask[..., :2] = 1
    right = 20 * (2 * mask - 1)
    mixed = torch.stack([right[0], -right[1]])
    assert float(found_up_to_inversion(mixed, mask)) < 1e-6
    assert float(found_up_to_inversion(torch.zeros_like(mask), mask)) == pytest.approx(0.693147)


@pytest.mark.parametrize("saturating", [False, True])
def test_generator_terms_match_the_paper_and_add_up_by_weight(saturating):
    weights = {"paste": 0.7, "irrelevant": 0.6, "area": 0.1, "area_floor": 5.0}
    weights |= {"area_ceiling": 3.0, "binarity": 0.4, "empty": 0.3}
    weights |= {"total_variation": 0.8}
    guards = {"floor": 0.9, "ceiling": 0.2, "delay": 0.5, "warmup": 0.25}
    method, drawn = make(weights=weights, guards=guards, saturating=saturating), batch()
    method.progress = 0.625  # halfway through the warm-up
    found = method.generator_losses(drawn)
    shown = pieces(method, drawn)
    mask, areas = shown["mask"], shown["mask"].mean((1, 2, 3))
    pasted = method.discriminator(shown["pasted"])[0].detach()
    irrelevant = method.discriminator(shown["irrelevant"])[0].detach()
    expected = {
        "paste": -cross_entropy(pasted, 0.0) if saturating else cross_entropy(pasted, 1.0),
        "irrelevant": cross_entropy(irrelevant, 0.0),
        "area": areas.mean(),
        "area_floor": (0.9 - areas).clamp(min=0).mean(),
        "area_ceiling": (areas - 0.2).clamp(min=0).mean(),
        "binarity": torch.minimum(mask, 1 - mask).mean(),
        "total_variation": (mask.diff(dim=2).abs().sum() + mask.diff(dim=3).abs().sum())
        / mask.numel(),
        "empty": method.segmenter(drawn.backgrounds)[:, 1:].mean().detach(),
    }
    assert set(found.terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value)
    for name in ("area", "empty", "binarity", "total_variation"):
        weights[name] *= 0.5
    total = torch.stack([weights[name] * value for name, value in expected.items()]).sum()
    torch.testing.assert_close(found.total.detach(), total)


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_flattening_weights_wait_for_the_delay_and_reach_all_of_it(warmup):
    method = make(guards={"delay": 0.5, "warmup": warmup})
    rises = []
    for method.progress in (0.0, 0.5, 0.5 + warmup / 2 + 1e-6, 1.0):
        rises.append(method.rise())
    assert rises == pytest.approx([0.0, 0.0, 0.5 if warmup else 1.0, 1.0], abs=1e-4)


def test_weights_that_would_not_rise_in_time_are_refused():
    with pytest.raises(ConfigError, match=r"'method.guards.delay' is 0.6 .* 0.5; together"):
        make(guards={"delay": 0.6, "warmup": 0.5})


def test_irrelevant_foregrounds_price_what_does_not_depend_on_the_picture():
    """Copying nothing or all: composite and irrelevant composite are equally real."""
    method, drawn = make(saturating=False), batch()
    drawn = drawn._replace(others=drawn.images.roll(1, 0))
    method.segmenter.network = _Constant(0.0)
    nothing = method.generator_losses(drawn).terms
    logits = method.discriminator(drawn.backgrounds)[0]
    torch.testing.assert_close(nothing["paste"], F.softplus(-logits).mean().detach())
    torch.testing.assert_close(nothing["irrelevant"], F.softplus(logits).mean().detach())
    # However a discriminator scores backgrounds, the sum is at least 2 log 2.
    assert float(nothing["paste"] + nothing["irrelevant"]) >= 1.386


def test_a_weight_of_zero_switches_the_term_off():
    drawn = batch()
    for name in ("irrelevant", "area_floor", "area_ceiling", "empty"):
        assert name not in make(weights={name: 0.0}).generator_losses(drawn).terms
    assert "auxiliary" not in make(weights={"auxiliary": 0.0}).discriminator_losses(drawn).terms
    plain = make(guards={"grounded": False}).discriminator_losses(drawn).terms
    assert "grounded" not in plain
    assert [p.name for p in make(weights={"r1": 0.0}).phases] == ["discriminator", "generator"]


def test_smoothing_of_real_targets_is_optional():
    drawn = batch()
    method = make(guards={"real_target": 1.0})
    found = method.discriminator_losses(drawn).terms["real"]
    logits = method.discriminator(drawn.images)[0]
    torch.testing.assert_close(found, cross_entropy(logits, 1.0).detach())


def test_discriminator_has_a_head_start():
    method = make(guards={"head_start": 7}, discriminator_steps=2)
    due = {phase.name: [step for step in range(9) if phase.due(step)] for phase in method.phases}
    assert due["generator"] == [7, 8]
    assert due["discriminator"] == [*range(9)]
    assert method.phases[0].repeat == 2


@pytest.mark.parametrize("every", [1, 4])
def test_penalty_is_r1_at_the_pictures_scaled_for_how_seldom_it_runs(every):
    method, drawn = make(weights={"r1": 0.2}, r1_every=every), batch()
    leaf = drawn.images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(method.discriminator(leaf)[0].sum(), leaf)
    penalty = slope.square().sum((1, 2, 3)).mean()
    found = method.penalty_losses(drawn)
    torch.testing.assert_close(found.terms["r1"], penalty)
    torch.testing.assert_close(found.total.detach(), 0.2 / 2 * every * penalty)


def test_jitter_brightens_every_picture_apart():
    method, drawn = make(guards={"jitter": 0.25}), batch()
    scene = method.scene(drawn)
    for found, given, column in (
        (scene.objects, drawn.images, 0),
        (scene.backgrounds, drawn.backgrounds, 1),
        (scene.others, drawn.others, 2),
        (scene.real, drawn.images, 3),
    ):
        offsets = 0.25 * drawn.jitter[:, column, None, None, None]
        torch.testing.assert_close(found, (given + offsets).clamp(0, 1))
    assert torch.equal(make().scene(drawn).real, drawn.images)


def test_low_pass_and_border():
    drawn = batch()
    blurred = make(guards={"blur": 1.5}).judge(drawn.images)
    torch.testing.assert_close(blurred, make().discriminator(blur(drawn.images, 1.5)))
    mask = make().scene(drawn).mask.detach()
    framed = make(guards={"border": 2}).scene(drawn).mask.detach()
    torch.testing.assert_close(framed[..., 2:-2, 2:-2], mask[..., 2:-2, 2:-2])
    assert float(framed[..., :2].max()) == float(framed[..., -2:, :].max()) == 0


def test_supervision_follows_the_destinations():
    drawn = batch()
    with_backgrounds, without = make(), make(destinations="pictures")
    assert with_backgrounds.supervision == "backgrounds"
    assert with_backgrounds.view.needs == {"images", "backgrounds"}
    assert without.supervision == "none"
    assert without.view.needs == {"images"}
    # Pictures of the same set hold objects: opacity on them is no mistake.
    assert "empty" in with_backgrounds.generator_losses(drawn).terms
    assert "empty" not in without.generator_losses(drawn).terms
    # Which side of a mask is the object, the game cannot tell there.
    assert with_backgrounds.segmenter.foreground == 1
    assert without.segmenter.foreground is None
    assert without.scene(drawn).mask.shape == with_backgrounds.scene(drawn).mask.shape


def test_discriminator_is_trained_on_masks_without_a_graph():
    method, drawn = make(), batch()
    method.discriminator_losses(drawn).total.backward()
    assert all(p.grad is None for p in method.segmenter.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"guards": {"border": 8}},
            "'method.guards.border' is 8; it must be less than half of 'method.size', 16",
        ),
        (
            {"discriminator": {"type": "patch"}},
            "a discriminator that also finds what was pasted is 'global' or 'pooled'",
        ),
        (
            {"size": 18},
            "a discriminator of depth 2 that also finds what was pasted needs images whose side "
            "is a multiple of 4; it is 18",
        ),
    ],
)
def test_mistakes_of_the_configuration(options, message):
    with pytest.raises(ConfigError) as caught:
        make(**options)
    assert str(caught.value) == message


class _Constant(torch.nn.Module):
    """The logit of one opacity everywhere."""

    def __init__(self, opacity: float) -> None:
        super().__init__()
        self.value = torch.tensor(opacity).logit(eps=1e-7)

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), 1, *images.shape[-2:])
