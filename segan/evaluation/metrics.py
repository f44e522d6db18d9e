"""Scores of one mask against one truth, and confidence intervals of their means.

Masks and truths are bool [H, W]; probabilities are float [H, W] in [0, 1]. Nothing here returns
NaN or infinity: where a score is not defined the function says so and returns None.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

NUM_THRESHOLDS = 255
BETA_SQUARED = 0.3


def iou(prediction: Mask, truth: Mask) -> float:
    """Intersection over union, in [0, 1]; 1 when both are empty.

    A segmenter that rightly finds nothing is right; leaving such pictures out would score every
    segmenter on different ones.
    """
    union = np.count_nonzero(prediction | truth)
    return float(np.count_nonzero(prediction & truth) / union) if union else 1.0


def accuracy(prediction: Mask, truth: Mask) -> float:
    """Fraction of pixels given the right class, in [0, 1]."""
    return float(np.count_nonzero(prediction == truth) / truth.size)


def mean_absolute_error(probability: NDArray[np.floating], truth: Mask) -> float:
    """Mean of |p - truth| over pixels, in [0, 1]."""
    return float(np.abs(probability - truth).mean())


def f_beta_curve(probability: NDArray[np.floating], truth: Mask) -> Values:
    """F-beta of an image at each of the thresholds round(255 p) >= k, k = 1..255: [255].

        F = (1 + beta^2) P R / (beta^2 P + R) = TP / (TP + (beta^2 FN + FP) / (1 + beta^2))

    with beta^2 = 0.3 (Achanta et al., CVPR 2009), and 0 where it is 0/0. Average the curves over
    images first and take the maximum afterwards. Threshold 0, which makes any map all foreground,
    is left out: it would lift every bad map to the all-foreground score.
    """
    levels = np.rint(probability * NUM_THRESHOLDS).astype(np.uint8)
    hits = _at_least(levels[truth])
    misses = np.count_nonzero(truth) - hits
    false_alarms = _at_least(levels.ravel()) - hits
    whole = hits + (BETA_SQUARED * misses + false_alarms) / (1 + BETA_SQUARED)
    curve: Values = np.zeros(NUM_THRESHOLDS)
    np.divide(hits, whole, out=curve, where=whole > 0)
    return curve


def _at_least(levels: NDArray[np.uint8]) -> Values:
    """How many 8-bit levels are >= k, for k = 1..255."""
    counts = np.bincount(levels, minlength=NUM_THRESHOLDS + 1)
    at_least: Values = counts[:0:-1].cumsum()[::-1].astype(np.float64)
    return at_least


def boundary_iou(prediction: Mask, truth: Mask, *, dilation: float = 0.02) -> float:
    """IoU of the two inner boundary bands (Cheng et al., CVPR 2021, Eq. 3); 1 when both are empty.

    Args:
        prediction: bool [H, W].
        truth: bool [H, W].
        dilation: Width of the bands over the diagonal of the picture; at least one pixel.
    """
    radius = max(round(dilation * float(np.hypot(*truth.shape))), 1)
    square = np.ones((3, 3), np.uint8)
    return iou(_rim(prediction, square, radius), _rim(truth, square, radius))


def hausdorff_distance(prediction: Mask, truth: Mask, *, percentile: float = 95.0) -> float | None:
    """The larger of the two directed distances between the outlines, in pixels.

    A directed distance is a percentile, over the outline pixels of one mask, of the distance to the
    nearest outline pixel of the other; 100 gives the classical Hausdorff distance. An outline is
    every mask pixel with one of its four neighbours outside the mask, or outside the picture.

    Returns:
        None when either mask is empty: there is no distance to nothing.
    """
    if not prediction.any() or not truth.any():
        return None
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)).astype(np.uint8)
    here, there = (np.argwhere(_rim(mask, cross, 1)) for mask in (prediction, truth))
    directed = KDTree(there).query(here)[0], KDTree(here).query(there)[0]
    return float(max(np.percentile(distances, percentile) for distances in directed))


def _rim(mask: Mask, element: NDArray[np.uint8], radius: int) -> Mask:
    """What eroding a mask `radius` times takes away; outside the picture nothing is mask."""
    eroded = cv2.erode(
        mask.astype(np.uint8),
        element,
        iterations=radius,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    rim: Mask = mask & (eroded == 0)
    return rim


# --- intervals -----------------------------------------------------------------------------------


def resampling_weights(num_images: int, *, num_draws: int = 1000, seed: int = 0) -> Values:
    """How often each image occurs in each bootstrap draw: [num_draws, num_images]."""
    drawn = np.random.default_rng(seed).integers(num_images, size=(num_draws, num_images))
    drawn += np.arange(num_draws)[:, None] * num_images
    counts = np.bincount(drawn.ravel(), minlength=num_draws * num_images)
    return counts.reshape(num_draws, num_images).astype(np.float64)


def bootstrap_means(sums: Values, counts: Values, weights: Values) -> Values:
    """The mean over all scored things in each bootstrap draw: [D] or [D, T].

    Args:
        sums: Sum over the things scored in each image, [N] or [N, T], finite.
        counts: Number of things scored in each image [N].
        weights: How often each image occurs in each draw [D, N]; draws that hit only images in
            which nothing is scored are left out.
    """
    totals = weights @ counts
    means: Values = ((weights @ sums)[totals > 0].T / totals[totals > 0]).T
    return means


def central_interval(draws: Values, *, level: float = 0.95) -> tuple[float, float]:
    """The interval that leaves (1 - level) / 2 of the draws [D] on either side."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_interval(
    values: Values, *, level: float = 0.95, num_draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of the mean of one finite value per image [N]."""
    weights = resampling_weights(len(values), num_draws=num_draws, seed=seed)
    return central_interval(bootstrap_means(values, np.ones(len(values)), weights), level=level)
