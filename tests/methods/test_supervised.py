"""The supervised bound: the one method that sees masks, and what it sees of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segan import config, data, runs
from segan.checkpoint import load_segmenter
from segan.data.loading import Cached
from segan.data.masked import MaskedView
from segan.data.sample import Instances, Mask, Sample
from segan.errors import ConfigError, DataError
from segan.segmenter import WindowSpec
from segan.training.config import RunConfig

SPEC = WindowSpec(size=16, context=1.5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_squares() -> Sample:
    """A bright square of 8 pixels at (4, 4) and one at (20, 6), in a picture of 40 x 24."""
    labels = torch.zeros(24, 40, dtype=torch.int32)
    labels[4:12, 4:12] = 1
    labels[6:14, 20:28] = 2
    image = (labels > 0).byte().mul(255).expand(3, -1, -1)
    boxes = torch.tensor([[4.0, 4, 12, 12], [20.0, 6, 28, 14]])
    return Sample("squares", image, boxes, Instances(labels))


def run(**settings) -> RunConfig:
    tree = {
        "method": {"type": "supervised", "network": {"width": 4, "depth": 1}, "view": {"size": 16}},
        "data": {"type": "shapes", "level": "single", "size": 48, "train_images": 8},
        "train": {"images": 16, "batch_size": 8, "precision": "fp32"},
        "evaluation": {"split": "none"},
    }
    for name, values in settings.items():
        tree[name] = tree[name] | values
    return config.build(RunConfig, tree)


def test_target_of_a_part_is_cut_and_mirrored_with_its_picture():
    view = MaskedView(16, zoom=0.5)
    for seed in range(8):
        batch = view(two_squares(), 0, rng(seed))
        # The picture is its own truth, so that any shift between the two would show.
        torch.testing.assert_close(batch.images[:1], batch.targets)
        assert bool((batch.weights == 1).all())


def test_mirroring_happens_in_half_of_the_draws():
    ramp = torch.arange(16).expand(3, 16, 16).byte()
    sample = Sample("ramp", ramp, None, Mask(torch.zeros(16, 16, dtype=torch.bool)))
    view = MaskedView(16)
    first = [float(view(sample, 0, rng(seed)).images[0, 0, 0]) for seed in range(40)]
    assert 8 <= sum(value > 0 for value in first) <= 32


def test_target_in_a_window_is_the_boxed_object_alone_and_others_do_not_count():
    batch = MaskedView(32, windows=WindowSpec(size=32, context=5.0))(two_squares(), 0, rng())
    area = float(batch.targets.sum()) / 32**2
    assert area == pytest.approx(8 * 8 / (40 * 24), rel=0.05)
    seen = batch.images[:1] > 0.5
    neighbour = seen & (batch.targets < 0.5)
    assert neighbour.any()
    assert float(batch.weights[neighbour].mean()) < 0.1
    assert float(batch.weights[batch.targets > 0.5].min()) == 1


def test_pixels_without_truth_have_no_weight():
    ignore = torch.zeros(16, 16, dtype=torch.bool)
    ignore[:, :5] = True
    picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    sample = Sample("half", picture, None, Mask(torch.ones(16, 16, dtype=torch.bool), ignore))
    weights = MaskedView(16)(sample, 0, rng()).weights
    assert float(weights.mean()) == pytest.approx(11 / 16)


def test_a_picture_smaller_than_a_part_is_seen_whole():
    sample = Sample("small", torch.zeros(3, 9, 9, dtype=torch.uint8), None, Mask(torch.ones(9, 9)))
    batch = MaskedView(16, scale=0.5)(sample, 0, rng())
    assert batch.images.shape == (3, 16, 16)
    assert float(batch.targets.min()) == 1


def test_windows_need_boxes_and_pictures_their_mask():
    class NoBoxes:
        name, provides, box_source = "bare", frozenset({"images", "masks"}), ""

        def __len__(self) -> int:
            return 0

    with pytest.raises(ConfigError, match=r"'method\.view\.windows' is true and data set 'bare'"):
        MaskedView(16, windows=SPEC).units(NoBoxes())
    bare = Sample("bare", torch.zeros(3, 20, 20, dtype=torch.uint8))
    with pytest.raises(DataError, match="bare has no mask to learn from"):
        MaskedView(16)(bare, 0, rng())


def test_truth_reaches_only_the_view_that_needs_it():
    shapes = data.build(config.build(data.ShapesConfig, {"type": "shapes", "size": 48}), "train")
    assert Cached(shapes, 16)[0].truth is None
    assert Cached(shapes, 16, with_truth=True)[0].truth is not None


@pytest.mark.parametrize("windows", [False, True])
def test_run_says_that_it_was_trained_on_masks(tmp_path: Path, windows: bool):
    runs.train(run(method={"view": {"size": 16, "windows": windows}}), tmp_path / "run")
    loaded = load_segmenter(tmp_path / "run")
    assert loaded.metadata["supervision"] == {"train": "masks"}
    assert (loaded.window is not None) == windows


def test_bound_learns_what_no_unsupervised_run_learns_as_fast(tmp_path: Path):
    settings = run(
        method={"network": {"width": 8, "depth": 2}, "view": {"size": 32}},
        data={"train_images": 64, "test_images": 16},
        train={"images": 2560, "batch_size": 16, "optimizers": {"fit": {"lr": 1e-2}}},
        evaluation={"split": "dev"},
    )
    results = runs.train(settings, tmp_path / "run", trivial=True)
    iou = results["whole pictures: segan"].metrics["iou"]
    otsu = results["whole pictures: otsu"].metrics["iou"]
    assert iou > otsu + 0.2
