"""The procedural world: a pure function of its seed, and not solved by colour alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from segan import config
from segan.data.boxes import boxes_of
from segan.data.datasets.shapes import _LEVELS, Shapes, ShapesConfig, draw_picture
from segan.data.sample import Instances, Sample
from segan.errors import ConfigError
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import Row, compare
from segan.methods.classical import TRIVIAL_ROWS
from segan.segmenter import WindowSpec
from segan.windows import Window, boxes_to_mask, free_positions

LEVELS = ("single", "default", "hard")


def shapes(split: str = "train", **options: object) -> Shapes:
    return Shapes(config.build(ShapesConfig, {"type": "shapes", **options}), split)  # type: ignore[arg-type]


def labels_of(sample: Sample) -> Tensor:
    assert isinstance(sample.truth, Instances)
    return sample.truth.labels


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_depend_on_seed_split_and_index_alone(level):
    first, again = shapes(level=level), shapes(level=level)
    for index in (7, 0, 7):
        assert torch.equal(first[index].image, again[index].image)
        assert torch.equal(labels_of(first[index]), labels_of(again[index]))
    # In another order, from a longer set, and beside other splits.
    assert torch.equal(shapes(level=level, train_images=3)[0].image, first[0].image)
    assert not torch.equal(shapes(level=level, seed=1)[0].image, first[0].image)
    assert not torch.equal(first[1].image, first[0].image)


def test_splits_are_disjoint_and_all_is_the_three_together():
    sizes = {"train_images": 4, "test_images": 3}
    parts = {split: shapes(split, **sizes) for split in ("train", "dev", "test")}
    assert [len(part) for part in parts.values()] == [4, 3, 3]
    names = [part[i].name for part in parts.values() for i in range(len(part))]
    assert len(set(names)) == 10
    digests = {part[i].image.numpy().tobytes() for part in parts.values() for i in range(len(part))}
    assert len(digests) == 10
    everything = shapes("all", **sizes)
    assert [everything[i].name for i in range(len(everything))] == names
    assert torch.equal(everything[5].image, parts["dev"][1].image)
    # Held-out pictures stay the same however long training is.
    assert torch.equal(shapes("test", train_images=9)[0].image, parts["test"][0].image)


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_are_tight_around_instances(level):
    dataset = shapes("dev", level=level)
    for index in range(12):
        sample = dataset[index]
        labels = labels_of(sample)
        assert sample.boxes is not None
        assert sample.boxes.shape == (int(labels.max()), 4)
        assert sorted(labels.unique().tolist()) == list(range(len(sample.boxes) + 1))
        for number, box in enumerate(sample.boxes.tolist(), start=1):
            rows, columns = (labels == number).nonzero(as_tuple=True)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == [float(corner) for corner in tight]


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_have_the_declared_form(level):
    for index, size in enumerate((32, 50, 128)):
        sample = shapes("train", level=level, size=size)[index]
        assert sample.image.shape == (3, size, size)
        assert sample.image.dtype == torch.uint8
        labels = labels_of(sample)
        assert labels.shape == (size, size)
        assert labels.dtype == torch.int32
        assert sample.boxes is not None
        assert 1 <= len(sample.boxes) <= _LEVELS[level].objects[1]


def test_levels_differ_as_they_say():
    def statistics(level: str) -> tuple[float, float, float]:
        dataset = shapes("dev", level=level)
        samples = [dataset[i] for i in range(30)]
        counts = [len(s.boxes) for s in samples if s.boxes is not None]
        areas = [float((labels_of(s) > 0).float().mean()) for s in samples]
        touching = [
            bool(torch.cat([labels_of(s)[0], labels_of(s)[-1], labels_of(s)[:, 0]]).any())
            for s in samples
        ]
        return float(np.mean(counts)), float(np.mean(areas)), float(np.mean(touching))

    single, default, hard = (statistics(level) for level in LEVELS)
    assert single[0] == 1
    assert 1.5 < default[0] < 2.5 < hard[0]
    assert 0.03 < single[1] < 0.15
    assert 0.05 < default[1] < 0.2
    # Objects lie inside the picture, except on the hard level.
    assert single[2] == default[2] == 0
    assert hard[2] > 0.1
    assert shapes().name == "shapes"
    assert shapes(level="hard").name == "shapes-hard"


def edges_in_free_windows(level: str, distractors: tuple[int, int] | None = None) -> float:
    """Share of steep steps between neighbouring pixels in windows that overlap no box."""
    drawn = _LEVELS[level]
    if distractors is not None:
        drawn = replace(drawn, distractors=distractors)
    shares = []
    for seed in range(15):
        image, labels = draw_picture(np.random.default_rng(seed), drawn, 128)
        window = Window(0, 0, 40, 40)
        free = free_positions(window, boxes_of(torch.from_numpy(labels)), (128, 128)).nonzero()
        for y, x in free[:: max(1, len(free) // 4)].tolist():
            region = image[y : y + 40, x : x + 40].astype(np.float64) / 255
            shares.append(float((np.abs(np.diff(region, axis=1)).max(axis=2) > 0.15).mean()))
    assert len(shares) > 20
    return float(np.mean(shares))


def test_distractors_also_lie_in_windows_without_an_object():
    """Else an edge would give an object away; the ground itself has next to none."""
    bare = edges_in_free_windows("default", distractors=(0, 0))
    assert edges_in_free_windows("default") > max(0.01, 20 * bare)


def test_objects_have_the_colours_of_their_own_ground():
    """Far more of a body is found in the ground of its picture than in that of another."""
    dataset = shapes("dev")
    bodies, grounds = [], []
    for index in range(12):
        sample = dataset[index]
        pixels = sample.image.flatten(1).T.float() / 255
        inside = labels_of(sample).flatten() > 0
        bodies.append(pixels[inside][::7])
        grounds.append(pixels[~inside][::5])

    def share_found(shift: int) -> float:
        found = [
            float((torch.cdist(body, grounds[(i + shift) % 12]).amin(1) < 0.05).float().mean())
            for i, body in enumerate(bodies)
        ]
        return float(np.mean(found))

    assert share_found(0) > max(0.25, 1.9 * share_found(1))


def test_boxes_hold_more_than_their_objects():
    """Else the given box would be the answer: objects fill between a third and 3/4 of it."""
    dataset = shapes("dev")
    shares = []
    for index in range(40):
        sample = dataset[index]
        labels = labels_of(sample)
        assert sample.boxes is not None
        for number, box in enumerate(sample.boxes, start=1):
            inside = boxes_to_mask(box[None], labels.shape)[0, 0].bool()
            shares.append(float((labels[inside] == number).float().mean()))
    assert 0.5 < np.mean(shares) < 0.75


def test_colour_alone_does_not_solve_a_window():
    """Trivial guesses on 60 dev pictures, through the evaluation that scores everything else."""
    dataset = shapes("dev", test_images=60)
    which = Cases(windows="box", spec=WindowSpec(size=48, context=1.6))
    names = ("all_foreground", "centre_ellipse", "otsu", "kmeans", "given_box")
    rows = {name: Row(segmenter=TRIVIAL_ROWS[name](), clip=name == "given_box") for name in names}
    found = compare(rows, dataset, which, split="dev")
    ious = {name: result.metrics["iou"] for name, result in found.items()}
    limits = dict.fromkeys(names, 0.65) | {"given_box": 0.75}
    assert {name: iou for name, iou in ious.items() if iou is None or iou > limits[name]} == {}
    # With the truth choosing between the two sides of a threshold, it is still no segmentation.
    for name in ("otsu", "kmeans"):
        oracle = found[name].metrics["iou_oracle_polarity"]
        assert oracle is not None
        assert oracle <= 0.65


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"size": 8}, "'size' is 8; it must be greater than or equal to 32"),
        ({"train_images": 0}, "'train_images' is 0; it must be greater than or equal to 1"),
        (
            {"train_images": 1_000_001},
            "'train_images' is 1000001; it must be less than or equal to 1000000",
        ),
        ({"seed": -1}, "'seed' is -1; it must be greater than or equal to 0"),
        ({"level": "easy"}, "'level' is 'easy'; valid: single, default, hard"),
    ],
)
def test_impossible_worlds_are_refused(setting, expected):
    with pytest.raises(ConfigError) as caught:
        shapes(**setting)
    assert str(caught.value) == f"config: {expected}"
