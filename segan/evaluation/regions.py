"""Region scores of BSDS500 (Arbelaez, Maire, Fowlkes & Malik, TPAMI 2011, section 2.3).

Segmentation covering, the probabilistic Rand index (Unnikrishnan, Pantofaru and Hebert, TPAMI 2007)
and variation of information (Meila, JMVA 2007) of one picture at several scales, against several
people's segmentations; every number as the benchmark's own program gives it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segan.evaluation import metrics
from segan.evaluation.hierarchies import NUM_THRESHOLDS, Hierarchy, Partitions, label_maps
from segan.evaluation.metrics import Values

Labels = NDArray[np.integer]
Counts = NDArray[np.intp]


class Contingency(NamedTuple):
    """How many pixels two label maps share, for the pairs of regions that share any.

    Attributes:
        rows: Number of the first map's region in each such pair [C], ascending.
        columns: Number of the second map's region [C].
        shared: Pixels in both [C].
        row_areas: Pixels of each region of the first map.
        column_areas: Pixels of each region of the second map.
    """

    rows: Counts
    columns: Counts
    shared: Counts
    row_areas: Counts
    column_areas: Counts


def contingency(first: Labels, second: Labels) -> Contingency:
    """The table of two label maps [H, W] whose numbers run from 0, as `numbered` makes them."""
    num_columns = int(second.max()) + 1
    pairs = first.astype(np.intp).ravel() * num_columns + second.ravel()
    num_pairs = (int(first.max()) + 1) * num_columns
    if num_pairs <= 8 * pairs.size:
        counts = np.bincount(pairs, minlength=num_pairs)
        found = np.flatnonzero(counts)
        shared = counts[found]
    else:
        found, shared = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(found, num_columns)
    return Contingency(
        rows, columns, shared, np.bincount(first.ravel()), np.bincount(second.ravel())
    )


def numbered(labels: Labels) -> Labels:
    """A label map with the same regions in small numbers; 0, and nothing else, stays 0."""
    assert labels.min() >= 0, "negative label"
    if labels.max() < labels.size:
        return labels
    renumbered = np.unique(np.append(labels.ravel(), 0), return_inverse=True)[1]
    return renumbered[:-1].reshape(labels.shape)


def covered(table: Contingency) -> Values:
    """max_S |R & S| / |R | S| for every region R of the first map; 0 for numbers without pixels."""
    union = table.row_areas[table.rows] + table.column_areas[table.columns] - table.shared
    best = np.zeros(len(table.row_areas))
    np.maximum.at(best, table.rows, table.shared / union)
    return best


def rand_index(table: Contingency) -> float:
    """The share of pairs of pixels on which two label maps agree, in [0, 1].

    1 - (sum_u n_u^2 / 2 + sum_v n_v^2 / 2 - sum_uv n_uv^2) / (N (N - 1) / 2)
    """
    rows, columns, shared = (
        float(np.square(counts.astype(np.float64)).sum())
        for counts in (table.row_areas, table.column_areas, table.shared)
    )
    num_pixels = float(table.shared.sum())
    num_pairs = num_pixels * (num_pixels - 1) / 2
    return 1 - (rows / 2 + columns / 2 - shared) / num_pairs if num_pairs else 1.0


def variation_of_information(table: Contingency) -> float:
    """H(first) + H(second) - 2 I(first; second), in bits, at least 0."""
    rows, columns, both = (
        _entropy(counts) for counts in (table.row_areas, table.column_areas, table.shared)
    )
    return max(2 * both - rows - columns, 0.0)


def _entropy(counts: Counts) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


@dataclass(frozen=True, slots=True)
class RegionScores:
    """Scores of one picture at T scales.

    Attributes:
        covering: Sum over all people's regions R of |R| max_S IoU(R, S) [T].
        area: Sum over all people's regions of |R|: pixels times people, less those labelled 0.
        covering_best: The sum with each region at its own best scale.
        rand: Rand index, mean over people [T].
        variation: Variation of information in bits, mean over people [T].
    """

    covering: Values
    area: float
    covering_best: float
    rand: Values
    variation: Values


def score_regions(
    prediction: Partitions | Hierarchy,
    people: Sequence[Labels],
    *,
    num_thresholds: int = NUM_THRESHOLDS,
) -> RegionScores:
    """Scores of one picture.

    Args:
        prediction: Its label maps, or its hierarchy.
        people: Each person's label map [H, W]. 0 is what a person left out: no region to cover, and
            its pixels are in no Rand index or variation.
        num_thresholds: At which a hierarchy is cut.
    """
    truths = [numbered(truth) for truth in people]
    areas = [np.bincount(truth.ravel()).astype(np.float64) for truth in truths]
    for area in areas:
        area[:1] = 0
    covering, rand, variation = [], [], []
    best = [np.zeros(len(area)) for area in areas]
    last = None
    for labels in label_maps(prediction, num_thresholds=num_thresholds):
        if labels is not last:
            tables = [contingency(truth, numbered(labels)) for truth in truths]
            covers = [covered(table) for table in tables]
            best = [np.maximum(*pair) for pair in zip(best, covers, strict=True)]
            known = [
                table if truth.all() else contingency(truth[truth > 0], numbered(labels)[truth > 0])
                for truth, table in zip(truths, tables, strict=True)
            ]
            values = (
                sum(float(area @ cover) for area, cover in zip(areas, covers, strict=True)),
                float(np.mean([rand_index(table) for table in known])),
                float(np.mean([variation_of_information(table) for table in known])),
            )
            last = labels
        covering.append(values[0])
        rand.append(values[1])
        variation.append(values[2])
    return RegionScores(
        covering=np.array(covering),
        area=float(sum(area.sum() for area in areas)),
        covering_best=sum(float(a @ b) for a, b in zip(areas, best, strict=True)),
        rand=np.array(rand),
        variation=np.array(variation),
    )


# --- over pictures -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegionCurves:
    """Scores over all pictures at each common scale [T]."""

    covering: Values
    rand: Values
    variation: Values


def region_curves(pictures: Iterable[RegionScores]) -> RegionCurves:
    """Covering pooled over people and pictures before dividing; the others as means."""
    found = list(pictures)
    area = sum(scores.area for scores in found)
    return RegionCurves(
        covering=np.sum([scores.covering for scores in found], axis=0) / area,
        rand=np.mean([scores.rand for scores in found], axis=0),
        variation=np.mean([scores.variation for scores in found], axis=0),
    )


class Summary(NamedTuple):
    """Metric to value, to its 95 % interval, and the position of the best common scale."""

    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    best: dict[str, float]


def summarise_regions(pictures: Sequence[RegionScores]) -> Summary:
    """The seven region metrics of a data set.

    `_ods`: all pictures at the common scale that is best for that metric. `_ois`: each at its own
    best. `covering_best`: each of the people's regions at its own best. Intervals resample
    pictures, with the common scale as it is.
    """
    curves = region_curves(pictures)
    best = {
        "covering_ods": int(curves.covering.argmax()),
        "pri_ods": int(curves.rand.argmax()),
        "vi_ods": int(curves.variation.argmin()),
    }
    area = np.array([scores.area for scores in pictures])
    ones = np.ones(len(pictures))
    sums = {
        "covering_ods": ([p.covering[best["covering_ods"]] for p in pictures], area),
        "covering_ois": ([p.covering.max() for p in pictures], area),
        "covering_best": ([p.covering_best for p in pictures], area),
        "pri_ods": ([p.rand[best["pri_ods"]] for p in pictures], ones),
        "pri_ois": ([p.rand.max() for p in pictures], ones),
        "vi_ods": ([p.variation[best["vi_ods"]] for p in pictures], ones),
        "vi_ois": ([p.variation.min() for p in pictures], ones),
    }
    weights = metrics.resampling_weights(len(pictures))
    draws = {
        name: metrics.bootstrap_means(np.array(values), counts, weights)
        for name, (values, counts) in sums.items()
    }
    return Summary(
        {name: float(np.sum(values) / counts.sum()) for name, (values, counts) in sums.items()},
        {name: metrics.central_interval(found) for name, found in draws.items()},
        {name: float(position) for name, position in best.items()},
    )
