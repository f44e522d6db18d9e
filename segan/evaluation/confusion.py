"""Scores of clusters of pixels against classes, all from one confusion matrix of a whole data set.

A confusion matrix is int64 [K, C]: how many pixels of region k have class c. Hungarian matching:
Kuhn, "The Hungarian method for the assignment problem", 1955; adjusted Rand index: Hubert and
Arabie, "Comparing partitions", 1985; normalised mutual information: Vinh, Epps and Bailey, JMLR
2010, with the arithmetic mean of the entropies.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from segan.data.sample import Split
from segan.evaluation.metrics import Values

Counts = NDArray[np.int64]
Numbers = NDArray[np.int64] | NDArray[np.float64]
Labels = NDArray[np.integer]

UNMATCHED = -1


def confusion_matrix(
    labels: Labels, truth: Labels, *, num_regions: int, num_classes: int
) -> Counts:
    """How many pixels of region k have class c: [K, C]; pixels of negative truth count nowhere.

    Args:
        labels: Regions, [H, W], each in 0..K-1.
        truth: Classes, [H, W], each below C.
        num_regions: K.
        num_classes: C.
    """
    valid = truth >= 0
    codes = labels[valid].astype(np.int64) * num_classes + truth[valid]
    counts = np.bincount(codes, minlength=num_regions * num_classes)
    return counts.reshape(num_regions, num_classes)


@dataclass(frozen=True, slots=True)
class Matching:
    """Which class each region stands for, chosen with the truth of a split; -1 for none.

    Attributes:
        one_to_one: [K], no class twice.
        many_to_one: [K], each region's most frequent class.
        split: Whose truth it was.
    """

    one_to_one: tuple[int, ...]
    many_to_one: tuple[int, ...]
    split: Split


def match(confusion: Counts, *, split: Split) -> Matching:
    """The matchings of regions to classes that get the most pixels right, one to one and not.

    Regions beyond the number of classes, and those that share no pixel with what is left for them,
    stand for nothing.

    Args:
        confusion: [K, C].
        split: Of the pixels in it, for the record.
    """
    one_to_one = np.full(len(confusion), UNMATCHED)
    regions, classes = linear_sum_assignment(confusion, maximize=True)
    shared = confusion[regions, classes] > 0
    one_to_one[regions[shared]] = classes[shared]
    many_to_one = np.where(confusion.any(axis=1), confusion.argmax(axis=1), UNMATCHED)
    return Matching(tuple(one_to_one.tolist()), tuple(many_to_one.tolist()), split)


class ClassCounts(NamedTuple):
    """Pixels per class once every region stands for a class or none: [..., C] each."""

    hits: Counts
    truth: Counts
    predicted: Counts


def class_counts(confusion: Counts, classes: tuple[int, ...]) -> ClassCounts:
    """Pixels rightly predicted, true and predicted per class, of confusion matrices [..., K, C].

    Args:
        confusion: Pixel counts.
        classes: What each of the K regions stands for, -1 for nothing.
    """
    num_classes = confusion.shape[-1]
    stands_for = np.array(classes)[:, None] == np.arange(num_classes)
    return ClassCounts(
        hits=(confusion * stands_for).sum(axis=-2),
        truth=confusion.sum(axis=-2),
        predicted=confusion.sum(axis=-1) @ stands_for.astype(np.int64),
    )


def class_ious(hits: Numbers, truth: Numbers, predicted: Numbers) -> Values:
    """Intersection over union of each class, [..., C] from pixel counts, NaN without truth.

        IoU_c = hits_c / (truth_c + predicted_c - hits_c)

    A class without a pixel of truth has no IoU whatever was predicted, so that the mean is over
    the same classes for every segmenter; its false pixels are missing from other classes.
    """
    ious: Values = np.full(truth.shape, np.nan)
    np.divide(hits, truth + predicted - hits, out=ious, where=truth > 0)
    return ious


def normalised_mutual_information(confusion: Counts) -> float:
    """NMI = 2 I(K; C) / (H(K) + H(C)) of regions and classes [K, C], in [0, 1].

    One region and one class make 1: there is nothing that the one says and the other does not.
    """
    joint = confusion / confusion.sum()
    regions, classes = joint.sum(axis=1), joint.sum(axis=0)
    present = joint > 0
    independent = np.outer(regions, classes)
    information = float((joint[present] * np.log(joint[present] / independent[present])).sum())
    entropies = _entropy(regions) + _entropy(classes)
    if entropies == 0:
        return 1.0
    return min(max(2 * information / entropies, 0.0), 1.0)


def adjusted_rand_index(confusion: Counts) -> float:
    """ARI (Hubert and Arabie, Eq. 5) of regions and classes [K, C], at most 1 and 0 by chance.

        ARI = (sum_kc B(n_kc) - E) / ((sum_k B(n_k) + sum_c B(n_c)) / 2 - E)
        E = sum_k B(n_k) sum_c B(n_c) / B(n),    B(n) = n (n - 1) / 2

    In whole numbers up to the last division: pairs of pixels of a large set exceed 64 bits.
    One region and one class, or as many of each as pixels, make 1.
    """
    together = _pairs(confusion.ravel())
    in_regions, in_classes = _pairs(confusion.sum(axis=1)), _pairs(confusion.sum(axis=0))
    total = _pairs(confusion.sum(keepdims=True).ravel())
    above = 2 * (together * total - in_regions * in_classes)
    below = (in_regions + in_classes) * total - 2 * in_regions * in_classes
    return above / below if below else 1.0


def _pairs(counts: Counts) -> int:
    return sum(count * (count - 1) // 2 for count in counts.tolist())


def _entropy(shares: Values) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum()) if len(positive) > 1 else 0.0
