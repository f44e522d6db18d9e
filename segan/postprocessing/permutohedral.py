"""Fast High-Dimensional Filtering Using the Permutohedral Lattice (Adams, Baek, Davis), EG 2010.

A Gaussian filter over n points in d dimensions, in three sparse steps: each point is spread over
the d + 1 corners of the lattice simplex around it (splat), the lattice is blurred by [1/2, 1, 1/2]
along its d + 1 axes (blur), and points read their corners back with the same weights (slice).

A lattice is built once for a set of points and then filters any number of channels at a cost that
does not depend on the bandwidth. Corners that no point touches do not exist: what would travel
across them is lost, so the filter is an approximation, poorest where points are far apart.
"""

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from segan.errors import ConfigError

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class PermutohedralLattice:
    """v_i <- sum_j exp(-|f_i - f_j|^2 / 2) v_j, approximately, for fixed points f.

    Args:
        features: [n, d], each coordinate in units of its standard deviation.

    Attributes:
        num_corners: Lattice points that some point touches.

    Raises:
        ConfigError: The points span more of the lattice than can be numbered.
    """

    def __init__(self, features: Doubles) -> None:
        num_points, d = features.shape
        keys, weights, steps = _simplices(features)
        corners, indices = np.unique(keys, return_inverse=True)
        self.num_corners = len(corners)
        self._slice = sparse.csr_matrix(
            (
                weights.ravel().astype(np.float32),
                indices.ravel().astype(np.int32),
                np.arange(0, num_points * (d + 1) + 1, d + 1, dtype=np.int32),
            ),
            shape=(num_points, self.num_corners),
        )
        self._splat = self._slice.T.tocsr()
        self._blurs = [_blur(corners, step) for step in steps]
        # What the blurs along d + 1 dependent axes give to a corner itself is 1 + 2^-d.
        self._slice *= np.float32(1 / (1 + 2.0**-d))

    def filter(self, values: Floats) -> Floats:
        """Filtered values [n, channels] of values [n, channels]."""
        spread = self._splat @ values
        for blur in self._blurs:
            spread = blur @ spread
        filtered: Floats = self._slice @ spread
        return filtered


def _simplices(features: Doubles) -> tuple[Integers, Doubles, Integers]:
    """The simplex around each point.

    Returns:
        Keys [n, d + 1] of its corners, their barycentric weights [n, d + 1], and by how much a key
        grows from a corner to the next along each axis [d + 1].
    """
    num_points, d = features.shape
    elevated = features @ _embedding(d)
    origin, ranks = _nearest_origin(elevated)
    order = np.argsort(ranks, axis=1)
    offsets = np.take_along_axis((elevated - origin) / (d + 1), order, axis=1)
    weights = np.empty((num_points, d + 1))
    weights[:, 0] = 1 + offsets[:, d] - offsets[:, 0]
    weights[:, 1:] = (offsets[:, :-1] - offsets[:, 1:])[:, ::-1]

    # A corner's first d coordinates, written as digits of one number; the last one follows.
    low = origin[:, :d].min(axis=0) - 2 * (d + 1)
    spans = origin[:, :d].max(axis=0) + 2 * (d + 1) - low
    if np.log2(spans.astype(np.float64)).sum() > 62:
        raise ConfigError("the filter's standard deviations are too small for the range of values")
    digits = np.append(np.cumprod(np.append(1, spans[:-1])), 0)
    steps = digits.sum() - (d + 1) * digits
    keys = np.empty((num_points, d + 1), np.int64)
    keys[:, 0] = (origin[:, :d] - low) @ digits[:d]
    # Corner k is corner k - 1 plus one, except d + 1 less where the rank is d + 1 - k.
    keys[:, 1:] = keys[:, :1] + steps[order[:, :0:-1]].cumsum(axis=1)
    return keys, weights, steps


def _embedding(d: int) -> Doubles:
    """[d, d + 1], from features to the hyperplane of coordinates that sum to zero.

    Scaled so that splat, blur and slice together have standard deviation 1 per feature: Section 3
    of the paper.
    """
    matrix = np.zeros((d, d + 1))
    for i in range(d):
        scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))
        matrix[i, : i + 1] = scale
        matrix[i, i + 1] = -(i + 1) * scale
    return matrix


def _nearest_origin(elevated: Doubles) -> tuple[Integers, Integers]:
    """The nearest corner of remainder 0, and how far each coordinate is from it, as ranks.

    Args:
        elevated: [n, d + 1], rows summing to zero.

    Returns:
        Coordinates [n, d + 1], multiples of d + 1 that sum to zero; ranks [n, d + 1], 0 for the
        coordinate that exceeds its corner's the most.
    """
    size = elevated.shape[1]
    multiples = np.rint(elevated / size).astype(np.int64)
    residuals = elevated - multiples * size
    ranks = np.empty_like(multiples)
    first_to_last = np.argsort(-residuals, axis=1, kind="stable")
    np.put_along_axis(ranks, first_to_last, np.arange(size)[None], axis=1)
    # Rounding each coordinate by itself may leave the hyperplane; the extreme ones are moved back.
    ranks += multiples.sum(axis=1, keepdims=True)
    moves = (ranks < 0).astype(np.int64) - (ranks >= size)
    return (multiples + moves) * size, ranks + moves * size


def _blur(corners: Integers, step: int) -> sparse.csr_matrix:
    """[1/2, 1, 1/2] along one axis, as a matrix over the existing corners (sorted keys)."""
    num_corners = len(corners)
    places = np.searchsorted(corners, corners + step).clip(max=num_corners - 1)
    exists = corners[places] == corners + step
    rows, columns = np.flatnonzero(exists), places[exists]
    halves = np.full(len(rows), 0.5, np.float32)
    forward = sparse.csr_matrix((halves, (rows, columns)), shape=(num_corners, num_corners))
    identity = sparse.identity(num_corners, np.float32, format="csr")
    return (forward + forward.T + identity).tocsr()
