"""SEIGAN: what the swap makes, what each term punishes, and what each guard prevents."""

from typing import Any

import pytest
import torch
from torch import Tensor

from segan import config, methods
from segan.data.datasets.shapes import Shapes, ShapesConfig
from segan.data.loading import Draws
from segan.data.scenes import BoxedSceneView, SceneBatch, SceneView
from segan.errors import ConfigError
from segan.methods.seigan import SEIGAN
from segan.segmenter import Segmenter

TINY: dict[str, Any] = {
    "type": "seigan",
    "size": 16,
    "network": {"width": 4, "depth": 1},
    "inpainter": {"width": 4, "depth": 1},
    "enhancer": {"width": 4},
    "discriminator": {"width": 4, "depth": 2},
    "guards": {"warmup": 0.0, "second_noise": 0.0, "jitter": 0.0, "dilation": 0},
}


def make(**changes: Any) -> SEIGAN:
    torch.manual_seed(0)
    tree = TINY | changes
    for key in ("guards",):
        tree[key] = TINY[key] | changes.get(key, {})
    built = methods.build(config.build(methods.MethodConfig, tree))
    assert isinstance(built, SEIGAN)
    return built


def batch(count: int = 3) -> SceneBatch:
    """Red squares on noise; grounds of other noise; polygons are the left halves."""
    generator = torch.Generator().manual_seed(1)
    images, backgrounds, others = 0.8 * torch.rand(3, count, 3, 16, 16, generator=generator)
    for pictures in (images, others):
        pictures[:, :, 5:11, 4:10] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    polygons = torch.zeros(count, 1, 16, 16)
    polygons[..., :8] = 1
    grain = torch.randn(count, 6, 16, 16, generator=generator)
    return SceneBatch(images, backgrounds, others, torch.zeros(count, 4), polygons, grain)


class Red(Segmenter):
    """Finds red squares exactly."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        mask = ((images[:, :1] > 0.95) & (images[:, 1:2] < 0.05)).float()
        return torch.cat([1 - mask, mask], 1)


class Constant(Segmenter):
    """The same opacity everywhere."""

    foreground = 1

    def __init__(self, opacity: float) -> None:
        super().__init__()
        self.opacity = opacity

    def forward(self, images: Tensor) -> Tensor:
        mask = torch.full_like(images[:, :1], self.opacity)
        return torch.cat([1 - mask, mask], 1)


def with_segmenter(method: SEIGAN, segmenter: Segmenter) -> SEIGAN:
    method.segmenter = segmenter  # type: ignore[assignment]
    return method


# --- the swap ------------------------------------------------------------------------------------


def test_a_swap_moves_the_object_and_fills_its_hole():
    method = with_segmenter(make(guards={"residual": 0.0}), Red())
    given = batch()
    mask = method.mask_of(method.segmenter, given.images)
    made = method.swap(given.images, given.backgrounds, mask)
    square = mask > 0.5
    assert int(square.sum()) == 3 * 36
    torch.testing.assert_close(made.pasted, torch.where(square, given.images, given.backgrounds))
    torch.testing.assert_close(
        torch.where(square, 0, made.filled), torch.where(square, 0, given.images)
    )
    assert float(method.segmenter(made.filled)[:, 1].max()) == 0


def test_a_right_mask_survives_a_second_swap_and_degenerate_masks_do_not():
    """Without enhancer a perfect mask's only cycle error is the filled hole."""
    found = {}
    for name, segmenter in {
        "right": Red(),
        "everything": Constant(1.0),
        "nothing": Constant(0.0),
        "half": Constant(0.5),
    }.items():
        method = with_segmenter(make(guards={"residual": 0.0}), segmenter)
        terms = method.cycle_losses(batch()).terms
        found[name] = {k: float(v) for k, v in terms.items() if k.endswith("cycle")}
    # The hole in y, below the object, has to be invented: 36 of 256 pixels.
    assert found["right"]["background_cycle"] < 0.06
    assert found["right"]["mask_cycle"] == 0
    assert found["right"]["object_cycle"] < 1e-6
    assert found["everything"]["background_cycle"] > 3 * found["right"]["background_cycle"]
    assert found["half"]["object_cycle"] > 0.05
    # Nothing is cut, nothing is lost: this is for D_bg and D_obj to see.
    assert found["nothing"]["background_cycle"] < 1e-6


def test_nothing_outside_the_mask_is_repainted_in_the_filled_picture():
    method = make()
    images, mask = torch.rand(2, 3, 16, 16), torch.zeros(2, 1, 16, 16)
    mask[..., 3:9, 3:9] = 1
    filled = method.fill(images, mask)
    torch.testing.assert_close(filled * (1 - mask), images * (1 - mask))


def test_a_dilated_hole_hides_the_rim_of_the_object_from_the_inpainter():
    images = torch.rand(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:10, 5:10] = 1
    changed = images.clone()
    changed[..., 4, 4:11] = 1 - changed[..., 4, 4:11]
    for dilation, same in ((0, False), (1, True)):
        method = make(guards={"dilation": dilation})
        inside = [method.fill(pictures, mask)[..., 5:10, 5:10] for pictures in (images, changed)]
        assert torch.allclose(inside[0], inside[1], atol=1e-6) == same


# --- guards --------------------------------------------------------------------------------------


def test_during_warmup_only_the_inpainter_and_the_enhancer_learn():
    method = make(guards={"warmup": 0.5})
    for progress, learns in ((0.0, False), (0.49, False), (0.5, True)):
        method.progress = progress
        method.zero_grad()
        method("generator", batch()).total.backward()
        gradients = [p.grad for p in method.segmenter.parameters()]
        assert any(g is not None and bool((g != 0).any()) for g in gradients) == learns
        assert any(p.grad is not None for p in method.inpainter.parameters())


def test_during_warmup_discriminators_judge_polygons_in_place_of_masks():
    method = make(guards={"warmup": 1e-3})
    given = batch()
    totals = []
    for opacity in (0.0, 1.0):
        with_segmenter(method, Constant(opacity))
        totals.append(method("discriminator", given).total.detach())
    assert torch.equal(*totals)


def test_filled_reals_have_the_same_holes_as_the_fakes():
    given, mask = batch(), torch.zeros(3, 1, 16, 16)
    mask[..., 2:9, 2:9] = 1
    on, off = make(), make(guards={"filled_reals": False})
    assert torch.equal(off.filled_reals(given.backgrounds, mask), given.backgrounds)
    real = on.filled_reals(given.backgrounds, mask)
    torch.testing.assert_close(real * (1 - mask), given.backgrounds * (1 - mask))
    assert not torch.allclose(real * mask, given.backgrounds * mask)


@pytest.mark.parametrize("warming", [False, True])
def test_the_penalty_is_taken_where_the_discriminators_are_shown_reals(warming):
    method = with_segmenter(make(guards={"warmup": 0.5}), Constant(0.5))
    method.progress = 0.0 if warming else 1.0
    shown: dict[str, list[Tensor]] = {"background": [], "object": []}
    judge = method.judge

    def watched(name: str, images: Tensor) -> Tensor:
        shown[name].append(images.detach().clone())
        return judge(name, images)

    method.judge = watched  # type: ignore[method-assign]
    given = batch()
    method("discriminator", given)
    method("penalty", given)
    for name, (real, _, penalised) in shown.items():
        assert torch.equal(penalised, real), name
    assert not torch.equal(shown["background"][2], given.backgrounds)


def test_an_object_free_scene_gives_d_bg_nothing_to_see():
    """With the guard, a picture without object cannot be told from a real one: it is one."""
    method = with_segmenter(make(), Constant(0.7))
    given = batch()
    given = given._replace(images=given.backgrounds)
    terms = method("discriminator", given).terms
    assert float(terms["background_accuracy"]) == 0.5


def test_the_second_swap_sees_no_hidden_message():
    images = torch.rand(2, 3, 16, 16)
    message = 0.004 * torch.randn(2, 3, 16, 16)
    grain = torch.randn(2, 3, 16, 16)
    noisy = make(guards={"second_noise": 0.05})
    assert float((noisy.disturb(images, grain) - images).std()) > 5 * float(message.std())
    blurred = make(guards={"second_blur": 2.0})
    kept = blurred.disturb(images + message, grain) - blurred.disturb(images, grain)
    assert float(kept.std()) < 0.3 * float(message.std())
    assert torch.equal(make().disturb(images, grain), images)


def test_noise_of_the_second_swap_is_the_samples_own():
    """Each picture of the two has its own, and no stream of a process has a part in it."""
    method = make(guards={"second_noise": 0.05})
    given = batch()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(method("cycle", given).total)
    assert torch.equal(*found)
    for part in (slice(3), slice(3, 6)):
        grain = given.grain.clone()
        grain[:, part] = grain[:, part].flip(0)
        assert not torch.equal(method("cycle", given._replace(grain=grain)).total, found[0])


def test_a_detached_second_swap_teaches_the_first_nothing():
    for detached in (False, True):
        method = make(guards={"second_detached": detached})
        pictures = torch.rand(1, 3, 16, 16, requires_grad=True)
        grain = torch.zeros(1, 3, 16, 16)
        assert method.disturb(pictures, grain).requires_grad != detached


def test_without_residual_there_is_no_enhancer():
    method = make(guards={"residual": 0.0})
    assert list(method.enhancer.parameters()) == []
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(method.enhancer(images), images)
    assert "enhancement_identity" not in method("cycle", batch()).terms


@pytest.mark.parametrize("name", ["background", "object"])
def test_a_weight_of_zero_removes_its_discriminator(name):
    method = make(weights={name: 0.0})
    assert name not in method.discriminators
    for phase in method.phases:
        assert bool(method(phase.name, batch()).total.isfinite())


@pytest.mark.parametrize(
    "kind", ["non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]
)
def test_every_adversarial_form_gives_gradients(kind):
    method = make(adversarial=kind)
    for phase in method.phases:
        method.zero_grad()
        found = method(phase.name, batch())
        assert bool(found.total.isfinite())
        found.total.backward()
        for name in phase.trains:
            gradients = [p.grad for p in getattr(method, name).parameters()]
            assert any(g is not None and bool(g.any()) for g in gradients), (phase.name, name)


def test_totals_are_the_weighted_terms():
    method = make()
    for name, factor in (("generator", 1), ("cycle", method.config.cycle_every)):
        found = method(name, batch())
        expected = sum(getattr(method.config.weights, k) * v for k, v in found.terms.items())
        torch.testing.assert_close(found.total.detach(), factor * torch.as_tensor(expected))


def test_discriminators_call_reals_real_and_what_the_swap_makes_fake():
    """-log D(real) - log(1 - D(fake)), D_bg of x^ and D_obj of y^, written out."""
    method, given = with_segmenter(make(), Red()), batch()
    mask = method.mask_of(method.segmenter, given.images)
    made = method.swap(given.images, given.backgrounds, mask)
    reals = {
        "background": method.fill(given.backgrounds, mask),
        "object": given.others,
    }
    expected = 0.0
    for name, fake in (("background", made.filled), ("object", made.pasted)):
        for pictures, is_real in ((reals[name], True), (fake, False)):
            share = method.discriminators[name](pictures).sigmoid()
            expected = expected - (share if is_real else 1 - share).log().mean()
    torch.testing.assert_close(method("discriminator", given).total, expected)


def test_generators_want_what_the_swap_makes_called_real():
    """-log D_bg(x^) - log D_obj(y^) and the terms of the masks, written out."""
    method, given = with_segmenter(make(), Red()), batch()
    weights = method.config.weights
    mask = method.mask_of(method.segmenter, given.images)
    made = method.swap(given.images, given.backgrounds, mask)
    found = method("generator", given)
    adversarial = {
        "background": -method.discriminators["background"](made.filled).sigmoid().log().mean(),
        "object": -method.discriminators["object"](made.pasted).sigmoid().log().mean(),
    }
    for name, expected in adversarial.items():
        torch.testing.assert_close(found.terms[name], expected.detach())
    rest = {name: term for name, term in found.terms.items() if name not in adversarial}
    assert set(rest) == {"empty", "area", "area_floor", "binarity", "texture"}
    others = sum(getattr(weights, name) * term for name, term in rest.items())
    total = weights.background * adversarial["background"] + weights.object * adversarial["object"]
    torch.testing.assert_close(found.total, total + others)


def test_without_cycle_losses_a_reminder_of_identities_does_not_touch_the_segmenter():
    none = {"background_cycle": 0.0, "object_cycle": 0.0, "mask_cycle": 0.0}
    method = make(weights=none)
    found = method("cycle", batch())
    assert set(found.terms) == {"background_identity", "enhancement_identity"}
    found.total.backward()
    # None, where one of 0 would still move them by an optimiser's momentum.
    assert all(p.grad is None for p in method.segmenter.parameters())
    assert any(p.grad is not None for p in method.inpainter.parameters())

    identities = {"background_identity": 0.0, "enhancement_identity": 0.0}
    assert "cycle" not in [phase.name for phase in make(weights=none | identities).phases]
    assert "cycle" in [phase.name for phase in make(weights=identities).phases]


def test_a_term_of_weight_zero_gives_no_gradient():
    none = {"background_cycle": 0.0, "object_cycle": 0.0, "mask_cycle": 0.0}
    method = make(weights=none | {"background_identity": 0.0})
    method("cycle", batch()).total.backward()
    assert all(p.grad is None for p in method.inpainter.parameters())
    assert any(p.grad is not None for p in method.enhancer.parameters())


# --- where backgrounds come from -----------------------------------------------------------------


def test_supervision_says_where_backgrounds_come_from():
    own, boxed = make(), make(backgrounds="windows")
    assert (own.supervision, boxed.supervision) == ("backgrounds", "boxes")
    assert isinstance(own.view, SceneView)
    assert isinstance(boxed.view, BoxedSceneView)
    assert own.window is None
    assert boxed.window is not None
    assert SEIGAN.supervision == "backgrounds"


def test_windows_of_pictures_with_boxes_can_be_trained_on():
    method = make(backgrounds="windows", context=1.3)
    tree = {"size": 96, "train_images": 4, "level": "single"}
    dataset = Shapes(config.build(ShapesConfig, tree), "train")
    draws = Draws(dataset, method.view, method.view.units(dataset), seed=0)
    items = [draws[i] for i in range(4)]
    drawn = SceneBatch(*(torch.stack(field) for field in zip(*items, strict=True)))
    for phase in method.phases:
        assert bool(method(phase.name, drawn).total.isfinite())


def test_the_scale_of_whole_pictures_is_the_views():
    method = make(scale=None)
    tree = {"size": 64, "train_images": 3, "backgrounds": 2, "level": "single"}
    method.view.units(Shapes(config.build(ShapesConfig, tree), "train"))
    assert method.picture_scale() == 16 / 64
    assert make(scale=0.25).picture_scale() == 0.25


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weights": {"background": 0.0, "object": 0.0}}, "background or object"),
        ({"guards": {"border": 8}}, "must be less than half"),
        ({"size": 18}, "multiple of 4"),
        # Strides of 4 and 6: a multiple of the larger is not enough.
        (
            {
                "size": 18,
                "network": {"width": 4, "depth": 2},
                "inpainter": {"width": 4, "depth": 1, "shrink": 3},
            },
            "multiple of 12",
        ),
        ({"scale": 0.001}, "scale"),
        ({"scale": 2.0}, "scale"),
        (
            {"guards": {"warmup": 0.1}, "weights": {"background_identity": 0.0}},
            "nothing for the inpainter to warm up by",
        ),
    ],
)
def test_what_cannot_work_is_one_line(changes, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def test_the_preview_shows_the_object_in_a_new_scene_and_the_hole_filled():
    method = make(guards={"residual": 0.0})
    given = batch()
    shown = method.preview(Red(), given)
    square = shown.masks > 0.5
    assert shown.composites is not None
    assert shown.filled is not None
    assert shown.inside is not None
    assert bool(shown.inside.all())
    torch.testing.assert_close(
        shown.composites, torch.where(square, given.images, given.backgrounds)
    )
    assert float(Red()(shown.filled)[:, 1].max()) == 0
