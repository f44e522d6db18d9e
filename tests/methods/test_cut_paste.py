"""Cut-and-paste term by term against the equations written out once more, and its guards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segan import config
from segan.compositing import blur
from segan.data.views import CutPasteBatch
from segan.errors import ConfigError
from segan.losses.adversarial import AdversarialLoss
from segan.methods.cut_paste import CutPaste, CutPasteConfig

SIZE = 16
BOXES = torch.tensor([[3.0, 4.0, 12.0, 13.0], [0.0, 0.0, 16.0, 8.0], [5.0, 5.0, 9.0, 15.0]])


def make(**options: object) -> CutPaste:
    torch.manual_seed(0)
    tree = {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": SIZE,
        "weights": {},
        "guards": {"jitter": 0.0},
    }
    for key, value in options.items():
        tree[key] = tree[key] | value if isinstance(value, dict) and key in tree else value
    return CutPaste(config.build(CutPasteConfig, tree))


def batch() -> CutPasteBatch:
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return CutPasteBatch(
        objects=rand(3, 3, SIZE, SIZE),
        backgrounds=rand(3, 3, SIZE, SIZE),
        boxes=BOXES,
        jitter=rand(3, 3),
        polygons=(rand(3, 1, SIZE, SIZE) > 0.5).float(),
        hidden=hidden_mask(),
    )


def hidden_mask() -> Tensor:
    """A neighbour of the third object, disjoint from its box."""
    mask = torch.zeros(3, 1, SIZE, SIZE)
    mask[2, :, 2:7, 10:15] = 1
    return mask


def box_mask() -> Tensor:
    mask = torch.zeros(3, 1, SIZE, SIZE)
    for i, (x0, y0, x1, y1) in enumerate(BOXES.int().tolist()):
        mask[i, :, y0:y1, x0:x1] = 1
    return mask


def painted_over(images: Tensor, mask: Tensor) -> Tensor:
    """Images with the mean colour of each one's surroundings where the mask is."""
    around = (box_mask() + hidden_mask())[:, 0] == 0
    means = [image[:, ring].mean(1) for image, ring in zip(images, around, strict=True)]
    return (1 - mask) * images + mask * torch.stack(means)[..., None, None]


def pieces(method: CutPaste, drawn: CutPasteBatch) -> dict[str, Tensor]:
    """The images of the paper's figure, written out."""
    mask, hidden = method.segmenter(drawn.objects)[:, 1:] * box_mask(), hidden_mask()
    pasted = mask * drawn.objects + (1 - mask) * drawn.backgrounds
    return {
        "mask": mask,
        "real": painted_over(drawn.objects, hidden),
        "pasted": painted_over(pasted, hidden),
        "left": painted_over(drawn.objects, mask + hidden),
        "hole": painted_over(drawn.backgrounds, mask + hidden),
        "empty": painted_over(drawn.backgrounds, hidden),
    }


def test_masks_are_zero_outside_the_box():
    method, drawn = make(), batch()
    mask = method.cut_mask(method.segmenter, drawn.objects, drawn.boxes)
    mask = mask.detach()
    assert float((mask * (1 - box_mask())).abs().max()) == 0
    assert float(mask.max()) > 0.1


def test_discriminator_terms_match_the_equations():
    method, drawn = make(weights={"cut": 0.5, "presence": 1.0}), batch()
    found = method.discriminator_losses(drawn)
    images = pieces(method, drawn)
    judges = method.discriminators

    def cross_entropy(name: str, real: Tensor, fake: Tensor) -> Tensor:
        real, fake = judges[name](real), judges[name](fake)
        ones = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
        return ones + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))

    expected = {
        "paste": cross_entropy("paste", images["real"], images["pasted"]),
        "cut": cross_entropy("cut", images["hole"], images["left"]),
        "presence": cross_entropy("presence", images["real"], images["empty"]),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value.detach())
    # The generator's weights do not scale what the discriminators learn from.
    torch.testing.assert_close(found.total, sum(expected.values(), torch.zeros(())))


def test_generator_terms_match_the_equations_and_add_up_by_weight():
    weights = {"paste": 0.7, "cut": 0.5, "presence": 0.3, "empty": 2.0, "area": 0.1}
    weights |= {"area_floor": 5.0, "area_ceiling": 3.0, "binarity": 0.4}
    guards = {"floor": 0.9, "ceiling": 0.2, "binarity_warmup": 0.25}
    method, drawn = make(weights=weights, guards=guards), batch()
    method.progress = 0.125  # halfway through the warm-up
    found = method.generator_losses(drawn)
    images = pieces(method, drawn)
    areas = torch.stack([m[b > 0].mean() for m, b in zip(images["mask"], box_mask(), strict=True)])
    judges = method.discriminators
    expected = {
        "paste": -F.logsigmoid(judges["paste"](images["pasted"])).mean(),
        "cut": -F.logsigmoid(judges["cut"](images["left"])).mean(),
        "presence": -F.logsigmoid(judges["presence"](images["pasted"])).mean(),
        "empty": method.segmenter(drawn.backgrounds)[:, 1].mean(),
        "area": areas.mean(),
        "area_floor": (0.9 - areas).clamp(min=0).mean(),
        "area_ceiling": (areas - 0.2).clamp(min=0).mean(),
        "binarity": torch.minimum(images["mask"], 1 - images["mask"]).mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value.detach())
    weights["binarity"] *= 0.5
    total = torch.stack([weights[name] * value for name, value in expected.items()]).sum()
    torch.testing.assert_close(found.total, total)


@pytest.mark.parametrize("every", [1, 4])
def test_penalty_is_r1_at_the_real_images_scaled_for_how_seldom_it_runs(every):
    method, drawn = make(weights={"r1": 0.2, "presence": 1.0}, r1_every=every), batch()
    found = method.penalty_losses(drawn)
    images = pieces(method, drawn)
    reals = {"paste": images["real"], "cut": images["hole"], "presence": images["real"]}
    total = torch.zeros(())
    for name, real in reals.items():
        leaf = real.detach().requires_grad_()
        (slope,) = torch.autograd.grad(method.discriminators[name](leaf).sum(), leaf)
        penalty = slope.square().sum((1, 2, 3)).mean()
        torch.testing.assert_close(found.terms[f"r1_{name}"], penalty)
        total = total + 0.2 / 2 * every * penalty
    torch.testing.assert_close(found.total.detach(), total)
    assert next(p for p in method.phases if p.name == "penalty").every == every


def test_wasserstein_penalises_slopes_between_real_and_fake_other_than_one():
    method, drawn = make(adversarial="wasserstein", weights={"r1": 20.0}, r1_every=1), batch()
    found = method.penalty_losses(drawn)
    images = pieces(method, drawn)
    total = torch.zeros(())
    for name, real, fake in (("paste", "real", "pasted"), ("cut", "hole", "left")):
        mix = drawn.jitter[:, 2, None, None, None]
        leaf = (mix * images[real] + (1 - mix) * images[fake]).detach().requires_grad_()
        (slope,) = torch.autograd.grad(method.discriminators[name](leaf).sum(), leaf)
        penalty = (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
        torch.testing.assert_close(found.terms[f"gp_{name}"], penalty)
        total = total + 10 * penalty
    torch.testing.assert_close(found.total.detach(), total)


def test_phases_train_what_they_are_named_for():
    method = make(discriminator_steps=3, r1_every=5)
    found = [(p.name, p.trains, p.optimizer, p.every, p.repeat) for p in method.phases]
    assert found == [
        ("discriminator", ("discriminators",), "", 1, 3),
        ("penalty", ("discriminators",), "discriminator", 5, 1),
        ("generator", ("segmenter",), "", 1, 1),
    ]
    unpenalised = make(weights={"r1": 0.0})
    assert [phase.name for phase in unpenalised.phases] == ["discriminator", "generator"]


@pytest.mark.parametrize(
    "kind", ["non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
)
def test_every_adversarial_form_trains_both_sides(kind: AdversarialLoss):
    method, drawn = make(adversarial=kind), batch()
    for phase in ("discriminator", "generator"):
        method.zero_grad(set_to_none=True)
        method(phase, drawn).total.backward()
        networks = method.discriminators if phase == "discriminator" else method.segmenter
        assert any(bool((p.grad != 0).any()) for p in networks.parameters() if p.grad is not None)


def test_a_weight_of_zero_switches_the_term_and_its_network_off():
    drawn = batch()
    for name in ("paste", "cut"):
        method = make(weights={name: 0.0})
        assert name not in method.discriminators
        for phase in ("discriminator", "penalty", "generator"):
            assert not any(name == term.removeprefix("r1_") for term in method(phase, drawn).terms)
    method = make(weights={"empty": 0.0})
    assert "empty" not in method.generator_losses(drawn).terms
    assert "presence" not in make().discriminators


def test_nothing_to_train_against_is_a_mistake_of_the_configuration():
    with pytest.raises(ConfigError) as caught:
        make(weights={"paste": 0.0, "cut": 0.0})
    assert str(caught.value) == "'method.weights': paste, cut or presence must be above 0"


def test_a_border_wider_than_the_window_is_refused():
    with pytest.raises(ConfigError) as caught:
        make(guards={"border": 8})
    assert str(caught.value) == (
        "'method.guards.border' is 8; it must be less than half of 'method.size', 16"
    )


def test_jitter_brightens_object_background_and_real_windows_apart():
    method, drawn = make(guards={"jitter": 0.25}), batch()
    scene = method.scene(drawn)
    for found, given, column in (
        (scene.objects, drawn.objects, 0),
        (scene.backgrounds, drawn.backgrounds, 1),
        (scene.originals, drawn.objects, 2),
    ):
        offsets = 0.25 * drawn.jitter[:, column, None, None, None]
        torch.testing.assert_close(found, (given + offsets).clamp(0, 1))
    assert not torch.equal(scene.objects, scene.originals)
    assert torch.equal(make().scene(drawn).originals, drawn.objects)


def test_feathered_masks_fade_and_bordered_masks_end_before_the_frame():
    drawn = batch()
    plain = make()
    mask = plain.cut_mask(plain.segmenter, drawn.objects, drawn.boxes)
    soft = make(guards={"feather": 1.0})
    torch.testing.assert_close(
        soft.cut_mask(soft.segmenter, drawn.objects, drawn.boxes), blur(mask, 1.0) * box_mask()
    )
    framed = make(guards={"border": 2})
    found = framed.cut_mask(framed.segmenter, drawn.objects, drawn.boxes).detach()
    torch.testing.assert_close(found[..., 2:-2, 2:-2], mask[..., 2:-2, 2:-2])
    assert float(found[..., :2].max()) == float(found[..., -2:, :].max()) == 0


def test_low_pass_is_applied_to_everything_a_discriminator_sees():
    """Half of the batch sharp and half blurred would be a way to tell them apart."""
    drawn = batch()
    method = make(guards={"blur": 1.5})
    sharp = make()
    for name in ("paste", "cut"):
        torch.testing.assert_close(
            method.judge(name, drawn.objects),
            sharp.discriminators[name](blur(drawn.objects, 1.5)),
        )


def test_grounded_fakes_are_composites_by_polygons():
    method, drawn = make(guards={"grounded": True}), batch()
    found = method.discriminator_losses(drawn)
    fake = drawn.polygons * drawn.objects + (1 - drawn.polygons) * drawn.backgrounds
    judge, hidden = method.discriminators["paste"], hidden_mask()
    real, fake = painted_over(drawn.objects, hidden), painted_over(fake, hidden)
    expected = F.softplus(-judge(real)).mean() + F.softplus(judge(fake)).mean()
    torch.testing.assert_close(found.terms["grounded"], expected.detach())
    plain = make().discriminator_losses(drawn)
    torch.testing.assert_close(found.total, plain.total + expected)


def test_discriminators_are_trained_on_masks_without_a_graph():
    method, drawn = make(), batch()
    method.discriminator_losses(drawn).total.backward()
    assert all(p.grad is None for p in method.segmenter.parameters())


def test_guards_price_the_mask_of_nothing_and_the_mask_of_everything():
    """Floor against the first; ceiling and object-free windows against the second."""
    weights = {"empty": 1.0, "area_floor": 1.0, "area_ceiling": 1.0}
    method, drawn = make(weights=weights, guards={"floor": 0.2, "ceiling": 0.7}), batch()

    def guard(opacity: float) -> dict[str, float]:
        method.segmenter.network = _Constant(opacity)
        terms = method.generator_losses(drawn).terms
        return {name: round(float(terms[name]), 3) for name in weights}

    assert guard(0.0) == {"empty": 0.0, "area_floor": 0.2, "area_ceiling": 0.0}
    assert guard(1.0) == {"empty": 1.0, "area_floor": 0.0, "area_ceiling": 0.3}
    assert guard(0.5) == {"empty": 0.5, "area_floor": 0.0, "area_ceiling": 0.0}


class _Constant(torch.nn.Module):
    """The logit of one opacity everywhere."""

    def __init__(self, opacity: float) -> None:
        super().__init__()
        self.value = torch.tensor(opacity).logit(eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), 1, *images.shape[-2:])
