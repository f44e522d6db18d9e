"""The instances protocol: separate objects, whatever they are, at native resolution.

A segmenter says where objects are, not which is which: they are the connected components of its
mask, and the mean probability in each is its score.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segan.data.sample import Dataset, Instances, Sample, Split
from segan.errors import ConfigError, DataError
from segan.evaluation import metrics
from segan.evaluation.objects import (
    AR_DETECTIONS,
    Comparison,
    Prediction,
    aggregated_jaccard,
    average_precision,
    compare_objects,
    panoptic_quality,
)
from segan.evaluation.polarity import foreground_mask
from segan.evaluation.results import Evaluation, Record
from segan.evaluation.rows import Row, native_regions, pictures_of

Scores = dict[str, float | None]
Intervals = dict[str, tuple[float, float] | None]


def components(
    probability: NDArray[np.floating], *, threshold: float = 0.5, min_pixels: int = 16
) -> Prediction:
    """The 8-connected components of a mask, each with its mean probability for a score.

    Args:
        probability: Of the object, [H, W] in [0, 1].
        threshold: The mask is what is above it.
        min_pixels: Smaller components are dropped.
    """
    mask = (probability > threshold).astype(np.uint8)
    num_labels, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_pixels
    kept[0] = False
    numbers = np.where(kept, kept.cumsum(), 0).astype(np.int32)
    sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=num_labels)
    return Prediction(numbers[labels], sums[kept] / stats[kept, cv2.CC_STAT_AREA])


def evaluate_instances(
    rows: Mapping[str, Row],
    dataset: Dataset,
    *,
    split: Split,
    limit: int | None = None,
    scale: float = 1.0,
    threshold: float = 0.5,
    min_pixels: int = 16,
    max_detections: int = 1000,
) -> dict[str, Evaluation]:
    """Scores of several segmenters on the same objects, each picture read once.

    Two unnamed regions get their object by the label-free border rule.

    Args:
        rows: Name to segmenter.
        dataset: Provides instances.
        split: What `dataset` is, for the record.
        limit: Only the first so many pictures.
        scale: Network pixels per picture pixel, `WindowSpec.scale`.
        threshold: Of the mask that is split into objects, in [0, 1).
        min_pixels: Smaller components are dropped, native pixels.
        max_detections: As in `summarise`.

    Raises:
        ConfigError: There are no instances, or more than two unnamed regions, or an option is off.
        DataError: A picture lacks its truth, or there is nothing to score.
    """
    _check(dataset, threshold, min_pixels, max_detections)
    split_mask = functools.partial(components, threshold=threshold, min_pixels=min_pixels)
    samples = pictures_of(dataset, limit=limit, scale=scale)
    pictures, compared = _compare(rows, samples, scale, split_mask)
    if not pictures:
        raise DataError(f"nothing to score in {dataset.name}, split {split}: no pictures")
    shared: dict[str, Any] = {
        "dataset": dataset.name,
        "split": split,
        "window_options": None if scale == 1 else {"scale": scale},
        "postprocessing": f"connected components above {threshold:g} of at least {min_pixels} "
        f"pixels, scored by mean probability, at most {max_detections} in a picture",
    }
    return {
        name: _evaluation(row, pictures, compared[name], max_detections, shared)
        for name, row in rows.items()
    }


class Summary(NamedTuple):
    """Scores of a set by name, None where undefined, and their 95 % intervals."""

    values: Scores
    intervals: Intervals


def summarise(
    comparisons: Sequence[Comparison], *, max_detections: int = 1000, num_draws: int = 1000
) -> Summary:
    """Class-agnostic scores of a set of pictures.

    `ap` is the mean over IoU .5, .55, .., .95 of average precision over the whole set, `ap50` the
    one at .5; `ar100` the mean over the same of recall with the 100 surest objects of a picture;
    `pq` (`sq` times `rq`) counts pairs over the whole set; `aji` is a mean over pictures. Intervals
    resample pictures; of equally sure objects of one picture the order is kept.

    Args:
        comparisons: Of each picture, from `compare_objects`.
        max_detections: Only so many of a picture's objects, the surest, count for `ap` and
            `ap50`. COCO takes 100; a picture of cells can hold several times as many.
        num_draws: Bootstrap draws of the intervals.
    """
    objects = _Objects(comparisons, max_detections)
    ones = np.ones(len(comparisons))
    values: Scores = objects.ap_and_ar(ones) | objects.others(ones)
    draws = [
        objects.ap_and_ar(each) | objects.others(each)
        for each in metrics.resampling_weights(len(comparisons), num_draws=num_draws)
    ]
    intervals: Intervals = {}
    for name, value in values.items():
        defined = [found for draw in draws if (found := draw[name]) is not None]
        known = value is not None and defined
        intervals[name] = metrics.central_interval(np.array(defined)) if known else None
    return Summary(values, intervals)


class _Objects:
    """The objects of a set of pictures as flat arrays, surest first."""

    def __init__(self, comparisons: Sequence[Comparison], max_detections: int) -> None:
        ranks = np.concatenate([np.arange(len(each.scores)) for each in comparisons])
        kept = ranks < max(max_detections, AR_DETECTIONS)
        scores = np.concatenate([each.scores for each in comparisons])[kept]
        sizes = [len(each.scores) for each in comparisons]
        order = np.argsort(-scores, kind="stable")
        self.scores = scores[order]
        self.ranks = ranks[kept][order]
        self.matched = np.concatenate([each.matched for each in comparisons], 1)[:, kept][:, order]
        self.pictures = np.repeat(np.arange(len(comparisons)), sizes)[kept][order]
        self.first = self.ranks < max_detections
        self.first_matched = self.matched[:, self.first]
        self.truth = np.array([each.num_truth for each in comparisons], np.float64)
        self.found = np.array(sizes, np.float64)
        self.pairs = np.array([each.num_pairs for each in comparisons], np.float64)
        self.pair_iou = np.array([each.pair_iou for each in comparisons])
        self.jaccard = np.array([aggregated_jaccard(each) for each in comparisons])

    def ap_and_ar(self, weights: metrics.Values) -> Scores:
        """Average precision and recall when each picture counts so many times [N]."""
        num_truth = float(weights @ self.truth)
        if num_truth == 0:
            return {"ap": None, "ap50": None, "ar100": None}
        counts = weights[self.pictures]
        precisions = average_precision(
            self.scores[self.first], self.first_matched, num_truth, counts[self.first]
        )
        hits = self.matched @ (counts * (self.ranks < AR_DETECTIONS))
        recall = float((hits / num_truth).mean())
        return {"ap": float(precisions.mean()), "ap50": float(precisions[0]), "ar100": recall}

    def others(self, weights: metrics.Values) -> Scores:
        """Aggregated Jaccard index and panoptic quality, likewise."""
        pairs, total = float(weights @ self.pairs), float(weights @ (self.truth + self.found))
        iou = float(weights @ self.pair_iou)
        quality = panoptic_quality(np.array(iou), np.array(pairs), np.array(total))
        return {
            "aji": float(weights @ self.jaccard / weights.sum()),
            "pq": float(quality) if total else None,
            "sq": iou / pairs if pairs else None,
            "rq": 2 * pairs / total if total else None,
        }


def _check(dataset: Dataset, threshold: float, min_pixels: int, max_detections: int) -> None:
    if "instances" not in dataset.provides:
        provides = ", ".join(sorted(dataset.provides))
        raise ConfigError(
            f"{dataset.name} has no instances to score against; it provides {provides}"
        )
    if not 0 <= threshold < 1:
        raise ConfigError(f"threshold is {threshold}; it must be in [0, 1)")
    for name, value in (("min_pixels", min_pixels), ("max_detections", max_detections)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")


def _truth(sample: Sample) -> NDArray[np.integer]:
    if not isinstance(sample.truth, Instances):
        raise DataError(
            f"{sample.name} has no instances to score against; remove it or add its truth"
        )
    labels: NDArray[np.integer] = sample.truth.labels.numpy()
    return labels


@torch.inference_mode()
def _probability(row: Row, sample: Sample, scale: float) -> NDArray[np.float64]:
    """How sure the segmenter is of an object at each pixel [H, W]."""
    regions = native_regions(row.segmenter, sample.image, scale)
    mask = foreground_mask(regions[None], foreground=row.segmenter.foreground)
    probability: NDArray[np.float64] = mask[0, 0].clamp(0, 1).double().cpu().numpy()
    return probability


def _compare(
    rows: Mapping[str, Row],
    samples: Iterable[Sample],
    scale: float,
    split_mask: Callable[[NDArray[np.floating]], Prediction],
) -> tuple[list[str], dict[str, list[Comparison]]]:
    """The names of the pictures, and by row what each of them gave."""
    pictures = []
    compared: dict[str, list[Comparison]] = {name: [] for name in rows}
    for sample in samples:
        truth = _truth(sample)
        pictures.append(sample.name)
        for name, row in rows.items():
            found = split_mask(_probability(row, sample, scale))
            compared[name].append(compare_objects(found, truth, name=sample.name))
    return pictures, compared


def _evaluation(
    row: Row,
    pictures: list[str],
    compared: list[Comparison],
    max_detections: int,
    shared: dict[str, Any],
) -> Evaluation:
    """The result of one row; `shared` are the fields that it has in common with the others."""
    summary = summarise(compared, max_detections=max_detections)
    return Evaluation(
        protocol="instances",
        windows="none",
        **shared,
        train_box_source=row.train_box_source,
        num_images=len(pictures),
        num_instances=sum(each.num_truth for each in compared),
        metrics=summary.values,
        intervals=summary.intervals,
        undefined={name: 1 for name, value in summary.values.items() if value is None},
        polarity="border" if row.segmenter.foreground is None else "named",
        supervision={"train": row.supervision, "test": "none"},
        segmenter_sha256=row.sha256,
        records=[_record(*each) for each in zip(pictures, compared, strict=True)],
    )


def _record(picture: str, found: Comparison) -> Record:
    at_50, at_75 = np.count_nonzero(found.matched[[0, 5]], axis=1).tolist()
    return {
        "image": picture,
        "num_truth": found.num_truth,
        "num_found": len(found.scores),
        "aji": aggregated_jaccard(found),
        "num_pairs": found.num_pairs,
        "pair_iou": found.pair_iou,
        "matched_50": at_50,
        "matched_75": at_75,
    }
