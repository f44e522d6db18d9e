"""Scores of separate objects against true ones, of one category and without overlaps.

Average precision and recall: Lin et al., "Microsoft COCO", ECCV 2014, as its evaluation code
defines them; aggregated Jaccard index: Kumar et al., IEEE TMI 2017, Algorithm 1; panoptic quality:
Kirillov et al., CVPR 2019, Eq. 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segan.errors import DataError
from segan.evaluation.metrics import Values

LabelMap = NDArray[np.integer]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AR_DETECTIONS = 100


@dataclass(frozen=True, slots=True)
class Prediction:
    """The objects found in one picture.

    Attributes:
        labels: int [H, W]; 0 is background, l + 1 the object of score l.
        scores: float [L], finite, higher for surer objects; None when all are equally sure.
    """

    labels: LabelMap
    scores: Values | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the scores need to know of one picture with D found and G true objects.

    Attributes:
        scores: [D], surest first.
        matched: bool [10, D], which found objects have a true one to themselves at each of
            `IOU_THRESHOLDS`.
        num_truth: G.
        num_pairs: Pairs of IoU above 0.5; each object is in one at most.
        pair_iou: Sum of their IoUs.
        intersection: Aggregated over true objects with their best found ones, pixels.
        union: Likewise, with all pixels of the found objects that are nobody's best.
    """

    scores: Values
    matched: NDArray[np.bool_]
    num_truth: int
    num_pairs: int
    pair_iou: float
    intersection: int
    union: int


def compare_objects(prediction: Prediction, truth: LabelMap, *, name: str) -> Comparison:
    """Match the objects of one picture.

    Args:
        prediction: What was found.
        truth: int [H, W]; 0 is background.
        name: Of the picture, for messages.

    Raises:
        DataError: Sizes differ, or labels and scores are not what `Prediction` says.
    """
    _check(prediction, truth, name)
    overlaps, areas, true_areas, found = _overlaps(prediction.labels, truth)
    scores = np.ones(len(found)) if prediction.scores is None else prediction.scores[found - 1]
    order = np.argsort(-scores, kind="stable")
    overlaps, areas = overlaps[order], areas[order]
    ious = overlaps / (areas[:, None] + true_areas - overlaps)
    pairs = ious > 0.5
    intersection, union = _aggregated(overlaps, areas, true_areas, ious)
    return Comparison(
        scores=scores[order].astype(np.float64),
        matched=_matched(ious),
        num_truth=len(true_areas),
        num_pairs=int(np.count_nonzero(pairs)),
        pair_iou=float(ious[pairs].sum()),
        intersection=intersection,
        union=union,
    )


def average_precision(
    scores: Values, matched: NDArray[np.bool_], num_truth: float, weights: Values | None = None
) -> Values:
    """COCO's interpolated average precision at each IoU threshold: [T].

        AP = mean over r in {0, .01, .., 1} of max {precision at recall >= r}, 0 if never reached

    Args:
        scores: [D] of all found objects of a set.
        matched: [T, D], which of them are right.
        num_truth: True objects, above 0.
        weights: How often each found object counts [D]; once by default.
    """
    order = np.argsort(-scores, kind="stable")
    counts = np.ones(len(scores)) if weights is None else weights[order]
    hits = np.cumsum(matched[:, order] * counts, axis=1)
    precision = hits / (np.cumsum(counts) + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    recall = hits / num_truth
    places = [np.searchsorted(each, RECALLS, side="left") for each in recall]
    precisions: Values = np.take_along_axis(envelope, np.stack(places), axis=1).mean(axis=1)
    return precisions


def aggregated_jaccard(comparison: Comparison) -> float:
    """AJI of a picture: aggregated intersection over union, in [0, 1]; 1 when both are empty.

    Every true object meets the found one of the best IoU, which may serve several.
    """
    return comparison.intersection / comparison.union if comparison.union else 1.0


def panoptic_quality(pair_iou: Values, num_pairs: Values, num_objects: Values) -> Values:
    """PQ = sum of IoU over pairs / (TP + FP / 2 + FN / 2), in [0, 1]; NaN without any object.

    Args:
        pair_iou: Sums of IoU over the pairs above 0.5.
        num_pairs: TP, their number.
        num_objects: True and found objects together, 2 TP + FP + FN.
    """
    quality: Values = np.full(np.shape(num_pairs), np.nan)
    np.divide(pair_iou, num_objects / 2, out=quality, where=np.asarray(num_objects) > 0)
    return quality


def _check(prediction: Prediction, truth: LabelMap, name: str) -> None:
    labels, scores = prediction.labels, prediction.scores
    if labels.shape != truth.shape:
        sizes = " and ".join(" x ".join(map(str, each.shape)) for each in (labels, truth))
        raise DataError(f"{name}: prediction and truth differ in size, {sizes}")
    for words, found in (("prediction", labels), ("truth", truth)):
        if found.size and found.min() < 0:
            raise DataError(f"{name}: the {words} has label {found.min()}; objects start at 1")
    if scores is None:
        return
    if labels.size and labels.max() > len(scores):
        raise DataError(f"{name}: object {labels.max()} has no score; there are {len(scores)}")
    if not np.isfinite(scores).all():
        raise DataError(f"{name}: scores must be finite")


def _overlaps(
    labels: LabelMap, truth: LabelMap
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.integer]]:
    """Shared pixels [D, G] of found and true objects, areas [D] and [G], and found labels [D]."""
    found, rows = np.unique(np.append(labels.ravel(), 0), return_inverse=True)
    true, columns = np.unique(np.append(truth.ravel(), 0), return_inverse=True)
    codes = rows[:-1] * len(true) + columns[:-1]
    table = np.bincount(codes, minlength=len(found) * len(true)).reshape(len(found), len(true))
    return table[1:, 1:], table.sum(axis=1)[1:], table.sum(axis=0)[1:], found[1:]


def _matched(ious: Values) -> NDArray[np.bool_]:
    """Which found objects [10, D] are matched, of IoUs [D, G] with the surest first.

    Without overlaps a pair above .5 is the only one of both its objects, so that COCO's greedy
    assignment is a comparison. At exactly .5 an object can have two partners: there it takes its
    turn, and of equal ones the last.
    """
    num_found, num_truth = ious.shape
    best = ious.max(axis=1) if num_truth else np.zeros(num_found)
    matched = best >= IOU_THRESHOLDS[:, None]
    taken: set[int] = set()
    for row in np.flatnonzero(best == 0.5):
        partners = [int(each) for each in np.flatnonzero(ious[row] == 0.5)]
        free = [each for each in partners if each not in taken]
        matched[0, row] = bool(free)
        taken.update(free[-1:])
    return matched


def _aggregated(
    overlaps: NDArray[np.int64],
    areas: NDArray[np.int64],
    true_areas: NDArray[np.int64],
    ious: Values,
) -> tuple[int, int]:
    """Intersection and union of the aggregated Jaccard index, in pixels."""
    used = np.zeros(len(areas), np.bool_)
    intersection, union = 0, int(true_areas.sum())
    if ious.size:
        columns = np.arange(len(true_areas))
        best = ious.argmax(axis=0)
        shared = overlaps[best, columns]
        met = shared > 0
        used[best[met]] = True
        intersection = int(shared.sum())
        union += int((areas[best] - shared)[met].sum())
    return intersection, union + int(areas[~used].sum())
