"""Superpixels and the graph of which touch which: their means, cuts and modes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.segmentation import slic

from segan.arrays import LabelMap, Picture, contiguous

NUM_THRESHOLDS = 10  # at which the eigenvector of a normalised cut is tried


def superpixels(picture: Picture, *, num_superpixels: int, compactness: float) -> LabelMap:
    """Superpixels of nearly one colour, by k-means from a grid: labels [H, W] from 0.

    Achanta, Shaji, Smith, Lucchi, Fua and Suesstrunk, "SLIC superpixels compared to
    state-of-the-art superpixel methods", TPAMI 2012.

    Args:
        picture: To cut up.
        num_superpixels: About how many; never more than pixels.
        compactness: Weight of distance in space against distance in Lab.
    """
    num_segments = min(num_superpixels, picture.shape[0] * picture.shape[1])
    labels = slic(picture, n_segments=num_segments, compactness=compactness, start_label=0)
    return contiguous(labels)


def region_means(features: NDArray[Any], labels: LabelMap) -> NDArray[np.float64]:
    """Means [R, F] of per-pixel features [H, W, F] over each region of labels [H, W]."""
    flat = labels.ravel()
    columns = features.reshape(len(flat), -1).T
    sums = np.stack([np.bincount(flat, weights=column) for column in columns], axis=1)
    means: NDArray[np.float64] = sums / np.bincount(flat)[:, None]
    return means


def touching(labels: LabelMap) -> NDArray[np.int64]:
    """Pairs [E, 2], smaller label first, of regions with 8-neighbouring pixels."""
    ends = [
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    ]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in ends])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int64), axis=1)
    count = int(labels.max()) + 1
    keys = np.unique(pairs[:, 0] * count + pairs[:, 1])
    return np.stack([keys // count, keys % count], axis=1)


def joined(pairs: NDArray[np.int64], num_nodes: int) -> NDArray[np.int32]:
    """Connected components [R], from 0, of the graph with these edges [E, 2]."""
    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (num_nodes, num_nodes))
    components: NDArray[np.int32] = connected_components(edges, directed=False)[1]
    return components


def normalized_cuts(
    affinity: NDArray[np.float64], thresholds: Sequence[float]
) -> NDArray[np.int64]:
    """Recursive two-way normalised cuts of a graph, one partition per threshold: labels [L, R].

    Shi and Malik, "Normalized cuts and image segmentation", TPAMI 2000: a set of nodes is divided
    in two as long as the best such cut costs less than the threshold. The divisions do not depend
    on the threshold, so one tree of them serves all, and smaller thresholds give coarser
    partitions of the same tree.

    Args:
        affinity: Symmetric [R, R], in [0, 1], with ones along its diagonal.
        thresholds: Of Ncut, in [0, 2].
    """
    limits = np.asarray(thresholds, np.float64)
    labels = np.zeros((len(limits), len(affinity)), np.int64)
    num_labels = 1
    stack = [(np.arange(len(affinity)), np.arange(len(limits)))]
    while stack:
        nodes, levels = stack.pop()
        if len(nodes) < 2:
            continue
        side, cost = _two_way_cut(affinity[np.ix_(nodes, nodes)])
        levels = levels[cost < limits[levels]]
        if len(levels):
            labels[np.ix_(levels, nodes[side])] = num_labels
            num_labels += 1
            stack += [(nodes[side], levels), (nodes[~side], levels)]
    return labels


def _two_way_cut(affinity: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """One side [R] of the best cut and its cost, cut(A, B) (1 / assoc(A) + 1 / assoc(B)).

    The second smallest solution of (D - W) y = lambda D y is thresholded at ten levels.
    """
    degree = affinity.sum(axis=1)
    laplacian = np.diag(degree) - affinity
    vector = linalg.eigh(laplacian, np.diag(degree), subset_by_index=[1, 1])[1][:, 0]
    # The largest entry is positive: an eigenvector has no sign of its own.
    vector = vector * np.sign(vector[np.abs(vector).argmax()])
    levels = np.linspace(vector.min(), vector.max(), NUM_THRESHOLDS, endpoint=False)
    sides = vector > levels[:, None]
    cut = ((sides @ affinity) * ~sides).sum(axis=1)
    assoc = sides @ degree
    other = degree.sum() - assoc
    proper = (assoc > 0) & (other > 0)
    costs = np.full(NUM_THRESHOLDS, np.inf)
    costs[proper] = cut[proper] / assoc[proper] + cut[proper] / other[proper]
    best = int(costs.argmin())
    return sides[best], float(costs[best])


def modes(
    domains: Sequence[NDArray[np.float64]],
    weights: NDArray[np.float64],
    *,
    max_iterations: int = 100,
    tolerance: float = 1e-2,
) -> list[NDArray[np.float64]]:
    """Where mean shift takes each point, [R, F] per domain.

    y <- sum_j n_j x_j / sum_j n_j over the x_j that lie within 1 of y in every domain at once
    (Comaniciu and Meer, TPAMI 2002: flat kernels, one per domain).

    Args:
        domains: The points' coordinates [R, F], in bandwidths, one array per domain.
        weights: How much each point counts, [R].
        max_iterations: Of shifting all points.
        tolerance: Shifts below this, in bandwidths, are none.
    """
    shifted = [points.copy() for points in domains]
    for _ in range(max_iterations):
        near = np.broadcast_to(weights, (len(weights),) * 2)
        for centre, points in zip(shifted, domains, strict=True):
            near = near * (_squared_distances(centre, points) <= 1)
        share = near / near.sum(axis=1, keepdims=True)
        means = [share @ points for points in domains]
        moved = max(
            float(np.abs(mean - centre).max()) for mean, centre in zip(means, shifted, strict=True)
        )
        shifted = means
        if moved < tolerance:
            break
    return shifted


def _squared_distances(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared distances [R, S] of points [R, F] and [S, F], up to rounding."""
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    distances: NDArray[np.float64] = squares - 2 * first @ second.T
    return distances
