"""The instances protocol against COCO's own code and naive loops, and from pictures to scores."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from segan.data.sample import Instances, Mask, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation.instances import components, evaluate_instances, summarise
from segan.evaluation.objects import (
    Prediction,
    aggregated_jaccard,
    average_precision,
    compare_objects,
    panoptic_quality,
)
from segan.evaluation.rows import Row
from segan.segmenter import Segmenter


def label_map(generator: np.random.Generator, num_objects: int, size: int = 60) -> np.ndarray:
    """Rectangles, later ones over earlier ones, numbered without gaps."""
    labels = np.zeros((size, size), np.int32)
    for index in range(num_objects):
        y, x = generator.integers(0, size - 6, 2)
        height, width = generator.integers(5, 19, 2)
        labels[y : y + height, x : x + width] = index + 1
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def moved(generator: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """The true objects, some lost, some halved, all shifted in some pictures, and a false one."""
    labels = np.roll(truth, generator.integers(0, 2), axis=0)
    for label in range(1, truth.max() + 1):
        rows, columns = np.nonzero(labels == label)
        fate = generator.random()
        if fate < 0.1:
            labels[labels == label] = 0
        elif fate < 0.2:
            first = len(rows) // 2
            labels[rows[:first], columns[:first]] = labels.max() + 1
    labels[:4, :4] = labels.max() + 1
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


def cases(seed: int, num_pictures: int = 12) -> list[tuple[Prediction, np.ndarray]]:
    """Pictures with many, no found, no true and no objects; scores with ties."""
    generator = np.random.default_rng(seed)
    result = []
    for index in range(num_pictures):
        truth = label_map(generator, int(generator.integers(1, 14)))
        labels = moved(generator, truth)
        if index % 5 == 3:
            labels = np.zeros_like(labels)
        if index % 4 == 2:
            truth = np.zeros_like(truth)
        scores = generator.integers(1, 8, labels.max()) / 8
        result.append((Prediction(labels, scores), truth))
    return result


def coco(pairs: list[tuple[Prediction, np.ndarray]], max_detections: int) -> dict[str, float]:
    """The same scores by pycocotools; -1 where it defines none."""
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, annotations, found = [], [], []
    for index, (prediction, truth) in enumerate(pairs, start=1):
        images.append({"id": index, "height": truth.shape[0], "width": truth.shape[1]})
        for label in np.unique(truth[truth > 0]):
            code = masks.encode(np.asfortranarray(truth == label).astype(np.uint8))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": 1, "iscrowd": 0}
                | {"segmentation": code, "area": float((truth == label).sum())}
            )
        for label in np.unique(prediction.labels[prediction.labels > 0]):
            mask = np.asfortranarray(prediction.labels == label).astype(np.uint8)
            score = 1.0 if prediction.scores is None else float(prediction.scores[label - 1])
            found.append({"image_id": index, "category_id": 1, "score": score})
            found[-1] |= {"segmentation": masks.encode(mask), "area": float(mask.sum())}
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {"images": images, "annotations": annotations}
        true.dataset["categories"] = [{"id": 1, "name": "object"}]
        true.createIndex()
        results = COCO()
        results.dataset = true.dataset | {
            "annotations": [one | {"id": i + 1, "iscrowd": 0} for i, one in enumerate(found)]
        }
        results.createIndex()
        evaluation = COCOeval(true, results, "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [1, 100, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 2]
    recall = evaluation.eval["recall"][:, 0, 0, 1]
    return {"ap": precision.mean(), "ap50": precision[0].mean(), "ar100": recall.mean()}


def summary_of(pairs: list[tuple[Prediction, np.ndarray]], **options: int) -> dict:
    compared = [compare_objects(found, truth, name="picture") for found, truth in pairs]
    return summarise(compared, num_draws=10, **options).values


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_and_recall_are_those_of_coco(seed: int) -> None:
    pairs = cases(seed)
    expected = coco(pairs, 1000)
    found = summary_of(pairs)
    assert 0.05 < expected["ap"] < 0.95
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_only_the_surest_objects_of_a_picture_count_as_in_coco() -> None:
    generator = np.random.default_rng(0)
    truth = np.kron(np.arange(1, 145).reshape(12, 12), np.pad(np.ones((4, 4), int), 1))
    pairs = []
    for _ in range(2):
        labels = np.where(generator.random(truth.shape) < 0.12, 0, truth)
        pairs.append((Prediction(labels, generator.random(144)), truth))
    for limit in (100, 120, 1000):
        expected, found = coco(pairs, limit), summary_of(pairs, max_detections=limit)
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert summary_of(pairs)["ap50"] > summary_of(pairs, max_detections=100)["ap50"] + 0.2
    # Fewer for precision take nothing from recall, which has its number in its name.
    assert summary_of(pairs, max_detections=5)["ar100"] == found["ar100"]


def test_two_partners_of_exactly_one_half_are_assigned_as_by_coco() -> None:
    whole, halves = np.ones((4, 6), int), np.repeat([[1] * 3 + [2] * 3], 4, axis=0)
    wide = np.pad(halves, ((0, 0), (0, 3)), constant_values=3)
    for labels, truth in (
        (whole, halves),
        (halves, whole),
        (wide, np.pad(whole, ((0, 0), (0, 3)))),
    ):
        for scores in ([0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [0.5, 0.5, 0.5]):
            pair = Prediction(labels, np.array(scores[: labels.max()])), truth
            expected = coco([pair], 1000)
            assert expected["ap50"] > 0
            found = summary_of([pair])
            assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_objects_without_scores_are_equally_sure() -> None:
    pairs = [(Prediction(found.labels), truth) for found, truth in cases(3)]
    expected, found = coco(pairs, 1000), summary_of(pairs)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_nothing_found_scores_zero_and_nothing_true_is_undefined() -> None:
    truth = label_map(np.random.default_rng(0), 5)
    empty = np.zeros_like(truth)
    nothing_found = summary_of([(Prediction(empty), truth)])
    assert nothing_found == {
        "ap": 0, "ap50": 0, "ar100": 0, "aji": 0, "pq": 0, "sq": None, "rq": 0,
    }  # fmt: skip
    assert coco([(Prediction(empty), truth)], 1000)["ap"] == 0
    nothing_true = summary_of([(Prediction(truth), empty)])
    assert nothing_true == {
        "ap": None, "ap50": None, "ar100": None, "aji": 0, "pq": 0, "sq": None, "rq": 0,
    }  # fmt: skip
    assert coco([(Prediction(truth), empty)], 1000)["ap"] == -1
    nothing = summary_of([(Prediction(empty), empty)])
    assert (nothing["aji"], nothing["pq"], nothing["rq"]) == (1, None, None)
    perfect = summary_of([(Prediction(truth), truth)])
    assert set(perfect.values()) == {1}


@pytest.mark.parametrize("seed", range(4))
def test_aggregated_jaccard_and_panoptic_quality_are_those_of_loops(seed: int) -> None:
    pairs = cases(seed)
    jaccards, ious, num_objects = [], [], 0
    for prediction, truth in pairs:
        found = [prediction.labels == each for each in np.unique(prediction.labels) if each]
        true = [truth == each for each in np.unique(truth) if each]
        num_objects += len(found) + len(true)
        intersection = union = 0
        used = set()
        for real in true:
            overlap = [(real & mask).sum() / (real | mask).sum() for mask in found]
            ious += [iou for iou in overlap if iou > 0.5]
            if overlap and max(overlap) > 0:
                best = int(np.argmax(overlap))
                used.add(best)
                intersection += (real & found[best]).sum()
                union += (real | found[best]).sum()
            else:
                union += real.sum()
        union += sum(mask.sum() for index, mask in enumerate(found) if index not in used)
        jaccards.append(intersection / union if union else 1.0)
    summary = summary_of(pairs)
    assert summary["aji"] == pytest.approx(np.mean(jaccards), abs=1e-12)
    assert summary["pq"] == pytest.approx(np.sum(ious) / (num_objects / 2), abs=1e-12)
    assert summary["sq"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert summary["pq"] == pytest.approx(summary["sq"] * summary["rq"], abs=1e-12)
    assert 0.1 < summary["pq"] < 0.9


def test_one_found_object_may_be_the_best_of_several_true_ones() -> None:
    truth = np.repeat([[1] * 3 + [2] * 3], 4, axis=0)
    merged = compare_objects(Prediction(np.ones_like(truth)), truth, name="merged")
    # Each half shares 12 pixels with the whole of 24: 24 over 48.
    assert aggregated_jaccard(merged) == 0.5
    assert panoptic_quality(*map(np.array, (0.0, 0, 3))) == 0


def test_numbers_of_objects_change_nothing() -> None:
    generator = np.random.default_rng(5)
    pairs, renumbered = cases(5), []
    for prediction, truth in pairs:
        num_found = len(prediction.scores)
        numbers = generator.permutation(num_found) + 1
        scores = generator.permutation(num_found) / 100  # without ties the order is theirs alone
        found = np.concatenate([[0], numbers])[prediction.labels]
        shuffled = np.empty(num_found)
        shuffled[numbers - 1] = scores
        true = np.concatenate([[0], generator.choice(1000, truth.max(), replace=False) + 1])[truth]
        renumbered.append((Prediction(prediction.labels, scores), truth))
        renumbered.append((Prediction(found, shuffled), true))
    assert summary_of(renumbered[::2]) == pytest.approx(summary_of(renumbered[1::2]))


def test_counting_an_object_twice_is_having_it_twice() -> None:
    generator = np.random.default_rng(0)
    scores, matched = generator.random(50), generator.random((10, 50)) < 0.6
    weights = generator.integers(0, 4, 50)
    each = np.repeat(np.arange(50), weights)
    twice = average_precision(scores[each], matched[:, each], 90)
    counted = average_precision(scores, matched, 90, weights.astype(float))
    np.testing.assert_allclose(counted, twice, atol=1e-12)
    assert 0.1 < twice.mean() < 0.9


def test_intervals_hold_the_value_and_shrink_to_it_for_equal_pictures() -> None:
    compared = [compare_objects(found, truth, name="picture") for found, truth in cases(1, 30)]
    summary = summarise(compared)
    for name, value in summary.values.items():
        low, high = summary.intervals[name]
        assert low < value < high, name
    # Without ties: which of two equally sure objects of a picture comes first would be arbitrary.
    found, truth = cases(1)[0]
    found = Prediction(found.labels, np.arange(found.labels.max()) / 20)
    equal = summarise([compare_objects(found, truth, name="picture")] * 5)
    for name, value in equal.values.items():
        assert equal.intervals[name] == pytest.approx((value, value)), name


def test_components_touch_at_corners_and_are_large_enough() -> None:
    probability = np.zeros((12, 12))
    probability[0:3, 0:3] = 0.9
    probability[3:6, 3:6] = 0.7  # touches the first at a corner
    probability[8:10, 8:10] = 0.8  # four pixels
    probability[8:12, 0:4] = 0.5  # not above the threshold
    found = components(probability, threshold=0.5, min_pixels=5)
    assert np.array_equal(found.labels > 0, probability * (probability != 0.8) > 0.5)
    assert found.labels.max() == 1
    assert found.scores == pytest.approx([0.8])
    both = components(probability, threshold=0.5, min_pixels=4)
    assert both.labels[9, 9] == 2
    assert both.scores == pytest.approx([0.8, 0.8])
    lower = components(probability, threshold=0.4, min_pixels=5)
    assert lower.scores[lower.labels[9, 1] - 1] == pytest.approx(0.5)
    assert components(np.zeros((5, 5))).scores.shape == (0,)


# --- from pictures to scores ---------------------------------------------------------------------


class Red(Segmenter):
    """The object is what is red."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([1 - images[:, 0], images[:, 0]], dim=1)


class Pictures:
    name = "pictures"
    box_source = ""

    def __init__(self, *samples: Sample, provides: str = "images instances") -> None:
        self.samples = samples
        self.provides = frozenset(provides.split())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def picture(name: str, *boxes: tuple[int, int, int, int], level: int = 255) -> Sample:
    labels = torch.zeros(40, 50, dtype=torch.int32)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        labels[y0:y1, x0:x1] = index + 1
    image = torch.zeros(3, 40, 50, dtype=torch.uint8)
    image[0, labels > 0] = level
    return Sample(name, image, None, Instances(labels))


APART = picture("apart", (2, 2, 12, 12), (20, 20, 30, 35))
TOUCHING = picture("touching", (5, 5, 15, 15), (15, 5, 25, 15), level=200)


def test_separate_objects_are_found_and_touching_ones_are_one() -> None:
    rows = {"red": Row(segmenter=Red(), supervision="boxes")}
    result = evaluate_instances(rows, Pictures(APART), split="test")["red"]
    assert result.metrics == dict.fromkeys(("ap", "ap50", "ar100", "aji", "pq", "sq", "rq"), 1)
    result = evaluate_instances(rows, Pictures(APART, TOUCHING), split="test")["red"]
    # The pair is one object of IoU one half with either: right at .5 only.
    assert result.metrics["ap50"] == pytest.approx(76 / 101)
    assert result.metrics["ar100"] == pytest.approx((3 + 9 * 2) / 10 / 4)
    assert result.metrics["pq"] == pytest.approx(2 / 3.5)
    assert (result.num_images, result.num_instances) == (2, 4)
    assert [record["num_found"] for record in result.records] == [2, 1]
    assert [record["matched_50"] for record in result.records] == [2, 1]
    assert [record["matched_75"] for record in result.records] == [2, 0]
    assert (result.protocol, result.matching, result.polarity) == ("instances", "none", "named")
    assert result.supervision == {"train": "boxes", "test": "none"}
    assert "at least 16 pixels" in result.postprocessing
    json.dumps(result.as_tree(), allow_nan=False)


def test_limit_scale_and_undefined_are_recorded() -> None:
    rows = {"red": Row(segmenter=Red())}
    pictures = Pictures(picture("empty"), APART)
    result = evaluate_instances(rows, pictures, split="dev", limit=1, scale=0.5)["red"]
    assert (result.num_images, result.window_options) == (1, {"scale": 0.5})
    assert result.metrics["ap"] is None
    assert result.undefined == dict.fromkeys(("ap", "ap50", "ar100", "pq", "sq", "rq"), 1)
    assert result.intervals["ap"] is None
    coarse = evaluate_instances(rows, Pictures(APART), split="dev", scale=0.5)["red"]
    assert 0.9 < coarse.metrics["sq"] <= 1


def test_unnamed_regions_get_their_object_by_the_border() -> None:
    class Flipped(Red):
        foreground = None

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flip(1)

    result = evaluate_instances({"x": Row(segmenter=Flipped())}, Pictures(APART), split="test")["x"]
    assert (result.metrics["ap"], result.polarity) == (1, "border")


def test_what_cannot_be_scored_is_said_in_one_line() -> None:
    rows = {"red": Row(segmenter=Red())}
    with pytest.raises(ConfigError, match=r"pictures has no instances .*; it provides images, mas"):
        evaluate_instances(rows, Pictures(APART, provides="images masks"), split="test")
    masked = Sample("masked", APART.image, None, Mask(APART.truth.labels > 0))
    with pytest.raises(DataError, match="masked has no instances"):
        evaluate_instances(rows, Pictures(masked), split="test")
    cut = Sample("cut", APART.image[:, :30], None, APART.truth)
    with pytest.raises(DataError, match="cut: prediction and truth differ in size, 30 x 50 and 40"):
        evaluate_instances(rows, Pictures(cut), split="test")
    with pytest.raises(DataError, match="nothing to score in pictures, split dev"):
        evaluate_instances(rows, Pictures(), split="dev")
    options = ({"threshold": 1.0}, {"min_pixels": 0}, {"max_detections": 0}, {"limit": 0})
    for wrong in (*options, {"scale": 0.0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is "):
            evaluate_instances(rows, Pictures(APART), split="test", **wrong)


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Prediction(np.full((2, 2), -1)), "the prediction has label -1"),
        (Prediction(np.full((2, 2), 3), np.ones(2)), "object 3 has no score; there are 2"),
        (Prediction(np.ones((2, 2), int), np.array([np.nan])), "scores must be finite"),
    ],
)
def test_predictions_that_mean_nothing_are_refused(prediction: Prediction, words: str) -> None:
    with pytest.raises(DataError, match=words):
        compare_objects(prediction, np.ones((2, 2), int), name="picture")
    with pytest.raises(DataError, match="the truth has label -2"):
        compare_objects(Prediction(np.ones((2, 2), int)), np.full((2, 2), -2), name="picture")
