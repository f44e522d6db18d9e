"""What the BSDS protocols score: label maps, contour strengths and hierarchies of regions.

A hierarchy is an ultrametric contour map (Arbelaez, "Boundary extraction in natural images using
ultrametric contour maps", CVPRW 2006): cut at any threshold, its contours are closed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.evaluation.metrics import Mask, Values
from segan.evaluation.outlines import region_boundaries, thin

LabelMap = NDArray[np.int32]

NUM_THRESHOLDS = 99


@dataclass(frozen=True)
class Partitions:
    """One picture cut into regions, at one or several scales.

    Attributes:
        labels: int32 [H, W] each; numbers mean nothing but "the same region".
    """

    labels: tuple[LabelMap, ...]


@dataclass(frozen=True)
class Contours:
    """The strength of a boundary at each pixel of a picture, float [H, W] in [0, 1]."""

    strength: Values


@dataclass(frozen=True)
class Hierarchy:
    """The strength of closed contours between pixels, float [2 H + 1, 2 W + 1] in [0, 1].

    Pixel (i, j) of the picture is at (2 i + 1, 2 j + 1); contours run between pixels.
    """

    strength: Values


Prediction = Partitions | Contours | Hierarchy


def scales(prediction: Prediction, *, num_thresholds: int = NUM_THRESHOLDS) -> Values:
    """The scales at which a prediction is scored: 1 .. L for L label maps, else thresholds.

    The thresholds are k / (T + 1), k = 1 .. T.
    """
    if isinstance(prediction, Partitions):
        return np.arange(1.0, len(prediction.labels) + 1)
    thresholds: Values = np.linspace(
        1 / (num_thresholds + 1), 1 - 1 / (num_thresholds + 1), num_thresholds
    )
    return thresholds


def label_maps(
    prediction: Partitions | Hierarchy, *, num_thresholds: int = NUM_THRESHOLDS
) -> Iterator[LabelMap]:
    """The label map [H, W] at each scale; the same object where nothing changes.

    The regions of a hierarchy are the 8-connected pieces in which the strength is at most the
    threshold.
    """
    if isinstance(prediction, Partitions):
        yield from prediction.labels
        return
    num_below = -1
    labels = np.empty(0, np.int32)
    for threshold in scales(prediction, num_thresholds=num_thresholds):
        below = prediction.strength <= threshold
        # Each is part of the next one, so equal counts mean equal pieces.
        if (count := int(np.count_nonzero(below))) != num_below:
            pieces = cv2.connectedComponents(below.astype(np.uint8), connectivity=8)[1]
            labels = np.asarray(pieces, np.int32)[1::2, 1::2]
            num_below = count
        yield labels


def boundary_maps(
    prediction: Prediction, *, num_thresholds: int = NUM_THRESHOLDS
) -> Iterator[Mask]:
    """The boundary pixels, bool [H, W], one pixel wide, at each scale; as `label_maps`."""
    if isinstance(prediction, Partitions):
        yield from (region_boundaries(labels) for labels in prediction.labels)
        return
    strength = prediction.strength
    if isinstance(prediction, Hierarchy):
        strength = strength[2::2, 2::2]
    num_above = -1
    boundaries = np.empty(0, np.bool_)
    for threshold in scales(prediction, num_thresholds=num_thresholds):
        above = strength >= threshold
        if (count := int(np.count_nonzero(above))) != num_above:
            boundaries = thin(above)
            num_above = count
        yield boundaries
