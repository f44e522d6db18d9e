"""What every method promises to the trainer, to evaluation and to export."""

import copy
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from segan import config, data, methods
from segan.data.loading import Draws
from segan.data.sample import Dataset
from segan.evaluation.statistics import mask_statistics
from segan.methods import METHODS
from segan.methods.base import Losses, Method
from segan.segmenter import WindowSpec
from segan.training.phases import train_only, trained_by

# Settings that make a method small; a new method adds its own.
TINY: dict[str, dict[str, Any]] = {
    "cut_paste": {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": 16,
        "weights": {"presence": 1.0, "area_floor": 1.0, "area_ceiling": 1.0, "binarity": 1.0},
        "guards": {"grounded": True},
    },
    # Dropout draws its noise from the step-seeded stream, which these tests do not seed.
    "wnet": {
        "network": {"width": 4, "depth": 2, "dropout": 0.0},
        "num_regions": 3,
        "size": 16,
        "radius": 3,
    },
    "iic": {
        "network": {"width": 4, "sub_heads": 2},
        "num_regions": 3,
        "num_overclusters": 5,
        "size": 16,
        "radius": 2,
        "pair": {"rotation": 10.0, "zoom": 0.1, "shift": 0.05},
    },
    "shift": {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": 16,
    },
    "copy_paste": {
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "size": 16,
        "weights": {"area_floor": 1.0, "area_ceiling": 1.0, "binarity": 1.0},
    },
    "seigan": {
        "network": {"width": 4, "depth": 1},
        "inpainter": {"width": 4, "depth": 1},
        "enhancer": {"width": 4},
        "discriminator": {"width": 4, "depth": 2},
        "size": 16,
        "weights": {"binarity": 1.0},
        "guards": {"warmup": 0.0, "grounded": True},
    },
    "redo": {
        "network": {"width": 4, "depth": 1},
        "generator": {"width": 4, "depth": 2},
        "discriminator": {"width": 4, "depth": 2},
        "encoder": {"width": 4, "depth": 2},
        "num_regions": 3,
        "num_noise": 4,
        "size": 16,
    },
    "supervised": {"network": {"width": 4, "depth": 1}, "view": {"size": 16}},
    # Without the mean teacher, whose average moves with every pass.
    "self_training": {
        "network": {"width": 4, "depth": 1},
        "view": {"size": 16},
        "teacher": "otsu",
        "undecided": 0.1,
    },
}

every_method = pytest.mark.parametrize("name", METHODS)


def make(name: str, **changes: Any) -> Method:
    torch.manual_seed(0)
    tree = {"type": name, **TINY[name], **changes}
    return methods.build(config.build(methods.MethodConfig, tree))


def dataset() -> Dataset:
    tree = {"type": "shapes", "size": 48, "train_images": 6, "backgrounds": 6}
    return data.build(config.build(data.ShapesConfig, tree), "train")


def batch_of(method: Method, size: int = 3) -> Any:
    drawn = dataset()
    if "guesses" in method.view.needs:
        drawn = tiny.guessed(drawn)
    draws = Draws(drawn, method.view, method.view.units(drawn), seed=0)
    items = [draws[i] for i in range(size)]
    return type(items[0])(*(torch.stack(field) for field in zip(*items, strict=True)))


@every_method
def test_names_and_supervision(name):
    method = make(name)
    assert method.name == name
    assert method.supervision in ("none", "backgrounds", "boxes", "masks")
    for kind in ("boxes", "masks"):
        assert (kind in method.view.needs) == (method.supervision == kind)
    assert isinstance(method.window, WindowSpec | None)
    phases = [phase.name for phase in method.phases]
    assert len(phases) == len(set(phases)) > 0


@every_method
def test_every_phase_has_a_finite_total_and_detached_terms(name):
    method = make(name)
    batch = batch_of(method)
    for phase in method.phases:
        found = method(phase.name, batch)
        assert isinstance(found, Losses)
        assert found.total.shape == ()
        assert found.total.dtype == torch.float32
        assert bool(found.total.isfinite())
        assert found.total.requires_grad
        assert found.terms
        for term in found.terms.values():
            assert term.shape == ()
            assert not term.requires_grad
            assert bool(term.isfinite())


@every_method
def test_gradients_reach_all_that_a_phase_trains_and_nothing_else(name):
    method = make(name)
    batch = batch_of(method)
    trained = {phase.name: trained_by(phase, method) for phase in method.phases}
    for phase in method.phases:
        method.zero_grad(set_to_none=True)
        train_only(method, trained[phase.name])
        method(phase.name, batch).total.backward()
        chosen = set(trained[phase.name])
        for key, parameter in method.named_parameters():
            assert (parameter in chosen) or parameter.grad is None, f"{phase.name} moves {key}"
        # Weights; a bias need not matter to a penalty on slopes.
        for key, parameter in method.named_parameters():
            if parameter in chosen and parameter.ndim > 1:
                assert parameter.grad is not None, f"{phase.name}: {key}"
                assert bool((parameter.grad != 0).any()), f"{phase.name}: {key}"


@every_method
def test_every_network_is_trained_by_some_phase(name):
    method = make(name)
    trained = {p for phase in method.phases for p in trained_by(phase, method)}
    untrained = {key for key, p in method.named_parameters() if p not in trained}
    assert untrained == set()
    assert set(method.segmenter.parameters()) <= trained


@every_method
def test_totals_are_fp32_under_bf16_autocast(name):
    method = make(name)
    batch = batch_of(method)
    with torch.autocast("cpu", torch.bfloat16):
        for phase in method.phases:
            found = method(phase.name, batch)
            assert found.total.dtype == torch.float32
            assert bool(found.total.isfinite())


@every_method
def test_a_method_can_be_run_in_float64(name):
    """So that equality of one and two processes can be shown to 1e-9."""
    method = make(name).double()
    batch = batch_of(method)
    batch = type(batch)(*(field.double() for field in batch))
    for phase in method.phases:
        assert method(phase.name, batch).total.dtype == torch.float64


@every_method
def test_losses_are_means_over_the_batch(name):
    """Shards of a batch average to the whole: micro-batches and processes rely on it."""
    method = make(name).double()
    if method.batch_statistics:
        pytest.skip(f"{name} compares the images of a batch; the trainer refuses to cut it")
    batch = batch_of(method, 4)
    batch = type(batch)(*(field.double() for field in batch))
    halves = [type(batch)(*(field[rows] for field in batch)) for rows in (slice(2), slice(2, 4))]
    for phase in method.phases:
        whole = method(phase.name, batch).total
        parts = torch.stack([method(phase.name, half).total for half in halves])
        torch.testing.assert_close(parts.mean(), whole, atol=1e-10, rtol=1e-9)


@every_method
def test_segmenter_partitions_pictures_of_odd_sizes(name):
    segmenter = make(name).segmenter.eval()
    regions = segmenter(torch.rand(2, 3, 21, 35))
    assert regions.shape[0] == 2
    assert regions.shape[2:] == (21, 35)
    torch.testing.assert_close(regions.sum(1), torch.ones(2, 21, 35))


@every_method
def test_segmenter_can_be_exported_and_copied(name):
    segmenter = make(name).segmenter.eval()
    images = torch.rand(2, 3, 21, 35)
    expected = segmenter(images)
    torch.testing.assert_close(copy.deepcopy(segmenter)(images), expected)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(segmenter, (torch.rand(3, 3, 64, 96),), dynamic_shapes=(sizes,))
    # The guards are on the example's size being a multiple of the stride; the graph pads the rest.
    torch.testing.assert_close(program.module(check_guards=False)(images), expected)


@every_method
def test_preview_shows_images_and_masks_without_gradients(name):
    method = make(name)
    batch = batch_of(method)
    preview = method.preview(copy.deepcopy(method.segmenter), batch)
    count, _, height, width = preview.images.shape
    assert preview.images.shape[1] == 3
    assert preview.masks.shape[0] == count
    assert preview.masks.shape[2:] == (height, width)
    assert preview.inside is None or preview.inside.shape == (count, 1, height, width)
    assert preview.composites is None or preview.composites.shape == preview.images.shape
    for values in (preview.images, preview.masks, preview.composites):
        if values is not None:
            assert not values.requires_grad
            assert 0 <= float(values.min()) <= float(values.max()) <= 1


@pytest.mark.parametrize("name", ["cut_paste", "shift", "copy_paste", "seigan"])
def test_a_frame_of_zeros_does_not_hide_masks_of_everything(name):
    """Of the segmenter that is asked, which is not the one that is trained."""

    def everything(images: Tensor) -> Tensor:
        one = torch.ones_like(images[:, :1])
        return torch.cat([0 * one, one], 1)

    tree = TINY[name]
    method = make(name, guards=tree.get("guards", {}) | {"border": 3})
    preview = method.preview(everything, batch_of(method))
    size = preview.masks.shape[-1]
    assert preview.inside is not None
    assert torch.equal(preview.masks, preview.masks * preview.inside)
    assert float(preview.masks[..., :3, :].max()) == 0
    assert float(preview.masks[..., size // 2, size // 2].min()) == 1
    assert mask_statistics(preview.masks, preview.inside).full == 1


@every_method
def test_building_and_losses_are_reproducible(name):
    first, second = make(name), make(name)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    batch = batch_of(first)
    for phase in first.phases:
        assert torch.equal(first(phase.name, batch).total, second(phase.name, batch).total)


@every_method
def test_progress_alone_changes_what_a_method_weighs(name):
    method = make(name)
    batch = batch_of(method)
    totals = []
    for progress in (0.0, 1.0, 0.0):
        method.progress = progress
        totals.append([float(method(p.name, batch).total.detach()) for p in method.phases])
    assert totals[0] == totals[2]
    assert np.isfinite(totals).all()
