"""Shift-and-judge term by term against the equations written out once more, and its guards."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segan import config
from segan.compositing import blur, push_pull, recolour
from segan.data.views import ShiftBatch
from segan.errors import ConfigError
from segan.methods.shift import Shift, ShiftConfig

SIZE = 16
OFFSETS = [(2, -1), (0, 2), (-2, -2)]  # right, down: shift .125 of 16 pixels is 2


def make(**options: object) -> Shift:
    torch.manual_seed(0)
    tree = {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": SIZE,
        "weights": {},
        "guards": {"augment": 0.0, "border": 0, "jitter": 0.0},
    }
    for key, value in options.items():
        tree[key] = tree[key] | value if isinstance(value, dict) and key in tree else value
    return Shift(config.build(ShiftConfig, tree))


def batch() -> ShiftBatch:
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return ShiftBatch(
        images=rand(3, 3, SIZE, SIZE),
        offsets=torch.tensor(OFFSETS) / 2.0,
        jitter=rand(3, 2),
        colour=2 * rand(3, 3) - 1,
        polygons=(rand(3, 1, SIZE, SIZE) > 0.5).float(),
    )


def moved(images: Tensor, sign: int = 1) -> Tensor:
    """Each image moved by its offset, pixel by pixel, with zeros from outside."""
    result = torch.zeros_like(images)
    for n, (right, down) in enumerate(OFFSETS):
        for y in range(SIZE):
            for x in range(SIZE):
                row, column = y - sign * down, x - sign * right
                if 0 <= row < SIZE and 0 <= column < SIZE:
                    result[n, :, y, x] = images[n, :, row, column]
    return result


def pieces(method: Shift, drawn: ShiftBatch) -> dict[str, Tensor]:
    """Everything that is shown to the discriminator, written out, but for jitter and colours."""
    images = drawn.images
    mask = method.segmenter(images)[:, 1:].detach()
    over, polygon = moved(mask), moved(drawn.polygons)
    filled, beside = push_pull(images, mask), push_pull(images, moved(mask, -1))
    return {
        "mask": mask,
        "filled": filled,
        "real": images,
        "kept": mask * images + (1 - mask) * filled,
        "decoy": mask * images + (1 - mask) * beside,
        "moved": over * moved(images) + (1 - over) * filled,
        "copied": over * moved(images) + (1 - over) * images,
        "grounded": polygon * moved(images) + (1 - polygon) * push_pull(images, drawn.polygons),
    }


def test_discriminator_sees_three_kinds_of_real_and_three_of_fake():
    method, drawn = make(), batch()
    found = method.discriminator_losses(drawn)
    shown = pieces(method, drawn)
    logits = {name: method.discriminator(shown[name]) for name in shown if name != "mask"}
    real = [F.softplus(-logits[name]).mean() for name in ("real", "kept", "decoy")]
    fake = [F.softplus(logits[name]).mean() for name in ("moved", "copied", "grounded")]
    torch.testing.assert_close(found.total, torch.stack(real).mean() + torch.stack(fake).mean())
    for name in ("real", "kept", "decoy", "moved", "copied", "grounded"):
        torch.testing.assert_close(found.terms[f"logit_{name}"], logits[name].mean().detach())


@pytest.mark.parametrize("guard", ["kept", "decoy", "copied", "grounded"])
def test_each_kind_of_picture_can_be_left_out(guard):
    drawn = batch()
    terms = make(guards={guard: False}).discriminator_losses(drawn).terms
    assert f"logit_{guard}" not in terms
    assert set(make().discriminator_losses(drawn).terms) - set(terms) == {f"logit_{guard}"}


def test_generator_terms_match_the_equations_and_add_up_by_weight():
    weights = {"paste": 0.7, "area_floor": 5.0, "area_ceiling": 3.0, "area": 0.1}
    weights |= {"binarity": 0.4, "predictability": 0.3}
    guards = {"floor": 0.9, "ceiling": 0.2, "warmup": 0.8, "price": 0.3}
    method, drawn = make(weights=weights, guards=guards), batch()
    method.progress = 0.6  # halfway through the second half of the warm-up
    found = method.generator_losses(drawn)
    shown = pieces(method, drawn)
    over = moved(shown["mask"])
    areas = over.mean((1, 2, 3))
    # Of a blend of guess and picture, the guess alone.
    mask = shown["mask"]
    guess = (shown["filled"] - (1 - mask) * drawn.images) / mask
    error = (drawn.images - guess).abs().mean(1, keepdim=True)
    error = error / drawn.images.std((1, 2, 3), correction=0, keepdim=True)
    gain, cost = (error - 0.3).clamp(min=0), (0.3 - error).clamp(min=0)
    ratio = gain.mean((1, 2, 3), keepdim=True) / cost.mean((1, 2, 3), keepdim=True)
    expected = {
        "paste": F.softplus(-method.discriminator(shown["moved"])).mean().detach(),
        "area": areas.mean(),
        "area_floor": (0.9 - areas).clamp(min=0).mean(),
        "area_ceiling": (areas - 0.2).clamp(min=0).mean(),
        "binarity": torch.minimum(over, 1 - over).mean(),
        "predictability": (mask * ((0.5 * ratio + 0.5) * cost - gain)).mean(),
    }
    assert set(found.terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found.terms[name], value)
    weights["binarity"] *= 0.5
    weights["paste"] *= 0.5
    total = torch.stack([weights[name] * value for name, value in expected.items()]).sum()
    torch.testing.assert_close(found.total.detach(), total)


@pytest.mark.parametrize(
    ("weight", "expected"), [(1.0, [0, 0, 0.5, 1, 1]), (0.0, [0, 0.5, 0.75, 1, 1])]
)
def test_what_rises_after_predictability_had_its_turn(weight, expected):
    method = make(guards={"warmup": 0.8}, weights={"predictability": weight})
    found = []
    for progress in (0.0, 0.4, 0.6, 0.8, 1.0):
        method.progress = progress
        found.append(method.rise())
    assert found == pytest.approx(expected)


def test_a_weight_of_zero_switches_a_term_off():
    drawn = batch()
    for name in ("area_floor", "area_ceiling", "predictability"):
        assert name not in make(weights={name: 0.0}).generator_losses(drawn).terms
    without = make(weights={"paste": 0.0})
    assert [phase.name for phase in without.phases] == ["generator"]
    assert "paste" not in without.generator_losses(drawn).terms
    assert [phase.name for phase in make(weights={"r1": 0.0}).phases] == [
        "discriminator",
        "generator",
    ]


@pytest.mark.parametrize("every", [1, 4])
def test_penalty_is_r1_at_the_pictures_scaled_for_how_seldom_it_runs(every):
    method, drawn = make(weights={"r1": 0.2}, r1_every=every), batch()
    leaf = drawn.images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(method.discriminator(leaf).sum(), leaf)
    penalty = slope.square().sum((1, 2, 3)).mean()
    found = method.penalty_losses(drawn)
    torch.testing.assert_close(found.terms["r1"], penalty)
    torch.testing.assert_close(found.total.detach(), 0.2 / 2 * every * penalty)


def test_jitter_brightens_object_and_background_of_fakes_apart():
    method, drawn = make(guards={"jitter": 0.5}), batch()
    scene = method.scene(drawn)
    shown = pieces(method, drawn)
    over = moved(shown["mask"])
    light, ground = (0.5 * drawn.jitter[:, i, None, None, None] for i in (0, 1))
    objects = (moved(drawn.images) + light).clamp(0, 1)
    expected = over * objects + (1 - over) * (shown["filled"] + ground).clamp(0, 1)
    torch.testing.assert_close(scene.moved().detach(), expected)
    torch.testing.assert_close(scene.kept().detach(), shown["kept"])
    torch.testing.assert_close(scene.decoy().detach(), shown["decoy"])


def test_all_that_is_judged_is_blurred_and_coloured_alike():
    drawn = batch()
    method = make(guards={"blur": 1.5, "augment": 0.8})
    expected = recolour(blur(drawn.images, 1.5), drawn.colour, 0.8)
    torch.testing.assert_close(method.judge(drawn.images, drawn), make().discriminator(expected))


def test_bordered_masks_end_before_the_frame():
    drawn = batch()
    mask = make().scene(drawn).mask.detach()
    found = make(guards={"border": 2}).scene(drawn).mask.detach()
    torch.testing.assert_close(found[..., 2:-2, 2:-2], mask[..., 2:-2, 2:-2])
    assert float(found[..., :2].max()) == float(found[..., -2:, :].max()) == 0


def test_a_perfect_binary_mask_put_back_leaves_the_picture_as_it_was():
    drawn = batch()
    method = make()
    mask = (torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) > 0.7).float()
    scene = method.scene(drawn)._replace(mask=mask)
    torch.testing.assert_close(scene.kept(), drawn.images)
    assert float((scene.moved() - drawn.images).abs().max()) > 0.1


def test_guards_price_the_mask_of_nothing_and_the_mask_of_everything():
    method, drawn = make(guards={"floor": 0.2, "ceiling": 0.7}), batch()
    drawn = drawn._replace(offsets=torch.zeros(3, 2))

    def guard(opacity: float) -> tuple[float, float]:
        method.segmenter.network = _Constant(opacity)
        terms = method.generator_losses(drawn).terms
        return round(float(terms["area_floor"]), 3), round(float(terms["area_ceiling"]), 3)

    assert guard(0.0) == (0.2, 0.0)
    assert guard(1.0) == (0.0, 0.3)
    assert guard(0.5) == (0.0, 0.0)


def test_predictability_prefers_what_its_surroundings_do_not_show():
    """A patch of the even ground costs more than the object; that is what it is for."""
    images = torch.full((1, 3, SIZE, SIZE), 0.5)
    images[..., 4:8, 4:8] = 1.0
    ground, thing = torch.zeros(1, 1, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)
    ground[..., 11:15, 11:15] = 1
    thing[..., 4:8, 4:8] = 1
    drawn = batch()
    drawn = ShiftBatch(images, drawn.offsets[:1], drawn.jitter[:1], drawn.colour[:1], thing)
    method = make()
    method.progress = 1.0

    def cost(mask: Tensor) -> float:
        method.segmenter.network = _Fixed(mask)
        return float(method.generator_losses(drawn).terms["predictability"])

    assert cost(thing) < 0 < cost(ground)


def test_discriminator_is_trained_on_masks_without_a_graph():
    method, drawn = make(), batch()
    method.discriminator_losses(drawn).total.backward()
    assert all(p.grad is None for p in method.segmenter.parameters())


@pytest.mark.parametrize(
    "kind", ["non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
)
def test_every_adversarial_form_trains_both_sides(kind):
    method, drawn = make(adversarial=kind), batch()
    for phase in ("discriminator", "generator"):
        method.zero_grad(set_to_none=True)
        method(phase, drawn).total.backward()
        network = method.discriminator if phase == "discriminator" else method.segmenter
        assert any(bool((p.grad != 0).any()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": {"paste": 0.0, "predictability": 0.0}},
            "'method.weights': paste or predictability must be above 0",
        ),
        (
            {"guards": {"border": 8}},
            "'method.guards.border' is 8; it must be less than half of 'method.size', 16",
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
        self.value = torch.tensor(opacity).logit(eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), 1, *images.shape[-2:])


class _Fixed(torch.nn.Module):
    """The logits of one mask of 0 and 1."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.value = mask.logit(eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), -1, -1, -1)
