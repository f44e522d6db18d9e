"""Scores of masks, checked against scikit-learn, scikit-image and naive loops."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from skimage.metrics import hausdorff_distance as skimage_hausdorff
from sklearn.metrics import accuracy_score, jaccard_score, precision_recall_fscore_support

from segan.evaluation import metrics

EMPTY = np.zeros((6, 8), bool)
FULL = np.ones((6, 8), bool)


def blobs(seed: int, *, height: int = 37, width: int = 52) -> np.ndarray:
    """A random rectangle with holes."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    y, x = rng.integers(0, 15, 2)
    mask[y : y + rng.integers(8, 22), x : x + rng.integers(8, 37)] = True
    return mask & (rng.random(mask.shape) > 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_iou_and_accuracy_match_sklearn(seed: int) -> None:
    prediction, truth = blobs(seed), blobs(seed + 100)
    expected = jaccard_score(truth.ravel(), prediction.ravel())
    assert metrics.iou(prediction, truth) == pytest.approx(expected, abs=1e-12)
    expected = accuracy_score(truth.ravel(), prediction.ravel())
    assert metrics.accuracy(prediction, truth) == pytest.approx(expected, abs=1e-12)


def test_iou_of_nothing_found_where_nothing_is_is_one() -> None:
    assert metrics.iou(EMPTY, EMPTY) == 1
    assert metrics.iou(FULL, EMPTY) == 0
    assert metrics.iou(EMPTY, FULL) == 0


def test_mean_absolute_error_by_hand() -> None:
    probability, truth = np.array([[0.25, 1.0]]), np.array([[False, True]])
    assert metrics.mean_absolute_error(probability, truth) == 0.125


def test_f_beta_curve_matches_sklearn_at_every_threshold() -> None:
    truth = blobs(1, height=12, width=40)
    probability = np.random.default_rng(2).random(truth.shape) ** 2 * 0.8 + 0.2 * truth
    curve = metrics.f_beta_curve(probability, truth)
    levels = np.rint(probability * 255)
    for k in range(1, 256):
        _, _, f, _ = precision_recall_fscore_support(
            truth.ravel(), (levels >= k).ravel(), beta=0.3**0.5, average="binary", zero_division=0
        )
        assert curve[k - 1] == pytest.approx(f, abs=1e-12)


def test_f_beta_is_zero_where_prediction_or_truth_is_empty() -> None:
    for probability, truth in ((EMPTY, FULL), (FULL, EMPTY), (EMPTY, EMPTY)):
        curve = metrics.f_beta_curve(probability.astype(float), truth)
        assert curve.shape == (255,)
        assert not curve.any()


@pytest.mark.parametrize("size", [(37, 52), (150, 120)])
def test_boundary_iou_matches_repeated_erosion(size: tuple[int, int]) -> None:
    height, width = size
    prediction, truth = (blobs(seed, height=height, width=width) for seed in (3, 4))
    prediction[:20, :30] = truth[5:30, :25] = True
    radius = max(round(0.02 * (height**2 + width**2) ** 0.5), 1)

    def band(mask: np.ndarray) -> np.ndarray:
        return mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=radius, border_value=0)

    expected = jaccard_score(band(truth).ravel(), band(prediction).ravel())
    assert metrics.boundary_iou(prediction, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_hausdorff_of_outlines_matches_skimage(seed: int) -> None:
    prediction, truth = blobs(seed), blobs(seed + 50)
    outlines = [mask & ~binary_erosion(mask, border_value=0) for mask in (prediction, truth)]
    distance = metrics.hausdorff_distance(prediction, truth, percentile=100)
    assert distance == pytest.approx(skimage_hausdorff(*outlines), abs=1e-12)


def test_hausdorff_95_matches_naive_distances() -> None:
    prediction, truth = blobs(7), blobs(8)
    outlines = [mask & ~binary_erosion(mask, border_value=0) for mask in (prediction, truth)]
    here, there = (np.argwhere(outline) for outline in outlines)
    pairs = np.linalg.norm(here[:, None] - there[None], axis=2)
    expected = max(np.percentile(pairs.min(axis=axis), 95) for axis in (0, 1))
    assert metrics.hausdorff_distance(prediction, truth) == pytest.approx(expected, abs=1e-12)


def test_hausdorff_ignores_few_stray_pixels_and_is_undefined_for_nothing() -> None:
    truth = np.zeros((100, 100), bool)
    truth[20:60, 20:60] = True
    prediction = truth.copy()
    prediction[99, 99] = True
    assert metrics.hausdorff_distance(prediction, truth) == 0
    assert metrics.hausdorff_distance(prediction, truth, percentile=100) == pytest.approx(
        40 * 2**0.5
    )
    assert metrics.hausdorff_distance(EMPTY, FULL) is None
    assert metrics.hausdorff_distance(FULL, EMPTY) is None


def test_bootstrap_interval_matches_normal_theory_and_repeats() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    low, high = metrics.bootstrap_interval(values)
    standard_error = values.std() / 400**0.5
    assert low == pytest.approx(values.mean() - 1.96 * standard_error, abs=0.15 * standard_error)
    assert high == pytest.approx(values.mean() + 1.96 * standard_error, abs=0.15 * standard_error)
    assert metrics.bootstrap_interval(values) == (low, high)
    assert metrics.bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_bootstrap_of_clusters_matches_a_loop_over_draws() -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.random(size) for size in (1, 5, 2, 0)]
    weights = metrics.resampling_weights(4, num_draws=50, seed=9)
    assert (weights.sum(axis=1) == 4).all()
    sums, counts = np.array([[p.sum(), len(p)] for p in pictures]).T
    drawn = (np.repeat(np.arange(4), row.astype(int)) for row in weights)
    expected = [np.concatenate([pictures[i] for i in draw]).mean() for draw in drawn]
    assert metrics.bootstrap_means(sums, counts, weights) == pytest.approx(expected)
