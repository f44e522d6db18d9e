"""Boundary precision and recall of BSDS500 (Martin, Fowlkes & Malik, TPAMI 2004).

Thinned boundary pixels are paired with each person's at least cost; recall counts the pixels of all
people, precision a predicted pixel paired with a pixel of anyone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan.evaluation import metrics
from segan.evaluation.hierarchies import NUM_THRESHOLDS, Prediction, boundary_maps
from segan.evaluation.matching import BoundaryMatcher, largest_distance
from segan.evaluation.metrics import Values
from segan.evaluation.outlines import Labels, region_boundaries
from segan.evaluation.regions import Summary

NUM_BETWEEN = 100  # points at which F is read between two thresholds, both included

# [..., 4]: as the fields of `matching.Counts`.
Counts = NDArray[np.float64]


def score_boundaries(
    prediction: Prediction, people: Sequence[Labels], *, num_thresholds: int = NUM_THRESHOLDS
) -> Counts:
    """Counts of one picture at T scales: [T, 4], as the fields of `matching.Counts`.

    Args:
        prediction: Contour strengths or a hierarchy, cut at thresholds; or label maps, of which
            the boundaries between regions count.
        people: Each person's label map [H, W].
        num_thresholds: At which strengths are cut.
    """
    truths = [region_boundaries(labels) for labels in people]
    matcher = BoundaryMatcher(truths, max_distance=largest_distance(*truths[0].shape))
    rows = []
    last = None
    for boundaries in boundary_maps(prediction, num_thresholds=num_thresholds):
        if boundaries is not last:
            counts = matcher.match(boundaries)
            last = boundaries
        rows.append(counts)
    return np.array(rows, np.float64)


def precision_recall(counts: Counts) -> tuple[Values, Values]:
    """Precision and recall of counts [..., 4]; 0 where nothing is predicted, or nothing true."""
    recalled, num_truth, matched, num_predicted = np.moveaxis(counts, -1, 0)
    return matched / np.maximum(num_predicted, 1), recalled / np.maximum(num_truth, 1)


def f_measure(precision: Values, recall: Values) -> Values:
    """2 P R / (P + R), and 0 where it is 0/0."""
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1)


class BestF(NamedTuple):
    """The best F between two thresholds.

    Attributes:
        f: The value.
        position: Where it is: 2.25 is a quarter of the way from threshold 2 to 3, from 0.
    """

    f: float
    position: float


def best_f(precision: Values, recall: Values) -> BestF:
    """The largest F over all thresholds and 100 points of the straight lines between them.

    Precision and recall are interpolated, each by itself, and F taken of the two.
    """
    if len(recall) == 1:
        return BestF(float(f_measure(precision, recall)[0]), 0.0)
    part = np.linspace(0, 1, NUM_BETWEEN)
    between = [
        values[:-1, None] * (1 - part) + values[1:, None] * part for values in (precision, recall)
    ]
    found = f_measure(*between)
    row, column = np.unravel_index(found.argmax(), found.shape)
    return BestF(float(found[row, column]), float(row + part[column]))


def average_precision(precision: Values, recall: Values) -> float:
    """Area under the curve: 0.01 times the sum of precision at recall 0, 0.01, ..., 1.

    Precision is interpolated between the recalls that occur, and 0 outside them. Of thresholds
    with the same recall the lowest counts.
    """
    recalls, first = np.unique(recall, return_index=True)
    if len(recalls) < 2:
        return 0.0
    at = np.linspace(0, 1, 101)
    return float(np.interp(at, recalls, precision[first], left=0, right=0).sum() * 0.01)


def summarise_boundaries(pictures: Sequence[Counts]) -> Summary:
    """The three boundary metrics of a data set.

    `f_ods`: of the counts of all pictures at the best common threshold. `f_ois`: of the counts of
    each picture at its own best one. `ap`: `average_precision` of the counts of all pictures.
    Intervals resample pictures, with the common threshold as it is.

    Args:
        pictures: Counts [T, 4] of each.
    """
    counts = np.stack(pictures)
    own = counts[np.arange(len(counts)), f_measure(*precision_recall(counts)).argmax(axis=1)]
    pooled = precision_recall(counts.sum(axis=0))
    best = best_f(*pooled)
    weights = metrics.resampling_weights(len(counts))
    curves = precision_recall(np.tensordot(weights, counts, axes=1))
    draws = {
        "f_ods": f_measure(*(_at(values, best.position) for values in curves)),
        "f_ois": f_measure(*precision_recall(weights @ own)),
        "ap": np.array([average_precision(*curve) for curve in zip(*curves, strict=True)]),
    }
    return Summary(
        {
            "f_ods": best.f,
            "f_ois": float(f_measure(*precision_recall(own.sum(axis=0)))),
            "ap": average_precision(*pooled),
        },
        {name: metrics.central_interval(found) for name, found in draws.items()},
        {"f_ods": best.position},
    )


def _at(curves: Values, position: float) -> Values:
    """Curves [D, T] between two thresholds."""
    low = min(int(position), curves.shape[1] - 1)
    high = min(low + 1, curves.shape[1] - 1)
    between: Values = curves[:, low] + (position - low) * (curves[:, high] - curves[:, low])
    return between
