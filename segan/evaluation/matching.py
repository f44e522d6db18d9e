"""Pairing predicted boundary pixels with people's, at least cost.

Martin, Fowlkes and Malik, "Learning to detect natural image boundaries using local brightness,
color, and texture cues", TPAMI 2004, as a sparse assignment problem (Jonker and Volgenant,
Computing 1987). Each pixel is paired with at most one of the other side, no further away than a
given distance; the sum of distances, plus 100 times that distance for every pixel left alone, is
as small as can be. Costs are rounded to a hundredth of a pixel.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from segan.evaluation.metrics import Mask

Indices = NDArray[np.intp]
Costs = NDArray[np.float64]

MAX_DISTANCE = 0.0075  # of the diagonal of the picture
OUTLIER_COST = 100  # over the largest distance
COST_STEPS = 100  # to the pixel

# The solver's time grows with the square of the number of pixels: pieces are solved one by one, but
# small ones together, as each call has a price too.
_POOLED_PIXELS = 250

_EXACT = 2.0**50  # integers up to here, and sums of a few, are exact as floats


def largest_distance(height: int, width: int) -> float:
    """How far apart paired pixels of a picture may lie, in pixels: 0.0075 of its diagonal."""
    return MAX_DISTANCE * float(np.hypot(height, width))


class Counts(NamedTuple):
    """Boundary pixels of one prediction.

    Attributes:
        recalled: Paired pixels of people, summed over the people.
        num_truth: Pixels of people, summed likewise.
        matched: Predicted pixels that are paired with a pixel of at least one person.
        num_predicted: Predicted pixels.
    """

    recalled: int
    num_truth: int
    matched: int
    num_predicted: int


class BoundaryMatcher:
    """The people's boundaries of one picture, to which predictions are matched.

    What does not depend on the prediction is made once, and pieces of the prediction that are as
    they were in the one before, at the next lower threshold, are not solved again.

    Args:
        truths: Each person's boundary pixels, bool [H, W].
        max_distance: The largest distance of a pair, in pixels, inclusive.
    """

    def __init__(self, truths: Sequence[Mask], *, max_distance: float) -> None:
        self._reach = int(max_distance)
        height, width = truths[0].shape
        self._shape = height + 2 * self._reach, width + 2 * self._reach
        self._people = [
            _Person(truth, self._shape[1], self._reach, max_distance) for truth in truths
        ]

    def match(self, prediction: Mask) -> Counts:
        """Pairs the pixels of a prediction, bool [H, W], with every person's."""
        places = np.flatnonzero(np.pad(prediction, self._reach))
        numbers = np.full(self._shape[0] * self._shape[1], -1, np.int32)
        numbers[places] = np.arange(len(places))
        matches = [person.match(numbers, places) for person in self._people]
        return Counts(
            recalled=sum(int(np.count_nonzero(matched)) for matched in matches),
            num_truth=sum(person.num_pixels for person in self._people),
            matched=int(np.count_nonzero(np.logical_or.reduce(matches))),
            num_predicted=len(places),
        )


class _Person:
    """One person's boundary pixels and the places around each where its partner may lie."""

    def __init__(self, truth: Mask, width: int, reach: int, max_distance: float) -> None:
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        distances = np.hypot(rows, columns)
        near = distances <= max_distance
        own = np.flatnonzero(np.pad(truth, reach))
        self.num_pixels = len(own)
        self._around: Indices = own[:, None] + (rows * width + columns)[near]
        # SciPy takes a cost of 0 for no pair at all.
        costs = np.rint(distances[near] * COST_STEPS) + 1
        alone = float(np.rint(OUTLIER_COST * max_distance * COST_STEPS))
        # Among equals the pairing decides whose predicted pixels come last, row by row, so that
        # the result is one whatever is solved together. Everything stays an exact integer.
        num_places = int(truth.shape[0] + 2 * reach) * width
        most = _EXACT / (alone * max(self.num_pixels, 1))
        self._num_ranks = max(int(min(num_places, most)), 1)
        self._ranks_per_place = self._num_ranks / num_places
        unit = max(self.num_pixels, 1) * self._num_ranks
        self._costs, self._alone = costs * unit, alone * unit
        self._solved: dict[bytes, Mask] = {}

    def match(self, numbers: NDArray[np.int32], places: Indices) -> Mask:
        """Which predicted pixels are paired: bool [N].

        Args:
            numbers: The number of the predicted pixel at each place, -1 where there is none.
            places: The place of each predicted pixel [N].
        """
        found = numbers[self._around]
        true, step = np.nonzero(found >= 0)
        predicted = found[true, step].astype(np.intp)
        ranks = self._num_ranks - np.floor(places[predicted] * self._ranks_per_place)
        edges = _Edges(predicted, true, self._costs[step] + ranks)
        matched = np.zeros(len(places), np.bool_)
        solved: dict[bytes, Mask] = {}
        new: list[tuple[bytes, Indices, _Edges]] = []
        for pixels, piece in _pieces(edges, len(places), self.num_pixels):
            key = places[pixels].tobytes()
            if key in self._solved:
                solved[key] = matched[pixels] = self._solved[key]
            else:
                new.append((key, pixels, piece))
        for pool in _pools(new):
            together = zip(*(piece for *_, piece in pool), strict=True)
            _solve(_Edges(*map(np.concatenate, together)), self._alone, matched)
        for key, pixels, _ in new:
            solved[key] = matched[pixels]
        self._solved = solved
        return matched


class _Edges(NamedTuple):
    """Possible pairs: numbers of the predicted and the true pixel, and the cost, [E] each."""

    predicted: Indices
    true: Indices
    costs: Costs


def _pieces(edges: _Edges, num_predicted: int, num_true: int) -> Iterator[tuple[Indices, _Edges]]:
    """The predicted pixels and the edges of each connected piece of the graph."""
    if not len(edges.costs):
        return
    size = num_predicted + num_true
    pairs = edges.predicted, edges.true + num_predicted
    graph = csr_matrix((edges.costs, pairs), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    by_edge = _groups(labels[edges.predicted])
    pixels, _ = _renumbered(edges.predicted)
    by_pixel = _groups(labels[pixels])
    for some, part in zip(by_pixel, by_edge, strict=True):
        yield pixels[some], _Edges(edges.predicted[part], edges.true[part], edges.costs[part])


def _groups(labels: NDArray[np.integer]) -> list[Indices]:
    """The positions of each label, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _renumbered(numbers: Indices) -> tuple[Indices, Indices]:
    """The different numbers, ascending, and the place of each of the given ones among them."""
    present = np.bincount(numbers) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[numbers]


def _pools(
    pieces: Sequence[tuple[bytes, Indices, _Edges]],
) -> Iterator[list[tuple[bytes, Indices, _Edges]]]:
    """Consecutive pieces, so many that a pool has enough pixels to be worth a call."""
    pool: list[tuple[bytes, Indices, _Edges]] = []
    num_pixels = 0
    for piece in pieces:
        pool.append(piece)
        num_pixels += len(piece[1])
        if num_pixels >= _POOLED_PIXELS:
            yield pool
            pool, num_pixels = [], 0
    if pool:
        yield pool


def _solve(edges: _Edges, alone: float, matched: Mask) -> None:
    """Marks the predicted pixels that are paired."""
    predicted, first = _renumbered(edges.predicted)
    true, second = _renumbered(edges.true)
    if len(predicted) <= len(true):
        partners = _assign(first, second, edges.costs, alone)
        matched[predicted[partners < len(true)]] = True
    else:
        partners = _assign(second, first, edges.costs, alone)
        matched[predicted[partners[partners < len(predicted)]]] = True


def _assign(first: Indices, second: Indices, costs: Costs, alone: float) -> Indices:
    """The partner of each of the pixels of one side; the number of the others or more for none.

    Args:
        first: End of each edge on the side with fewer pixels.
        second: End on the other side.
        costs: Of the edges.
        alone: Cost of a pixel without a partner.
    """
    num_first, num_second = int(first.max()) + 1, int(second.max()) + 1
    # A private partner for each pixel of the first side stands for none.
    own = np.arange(num_first)
    rows = np.concatenate([first, own])
    order = np.argsort(rows, kind="stable")
    values = np.concatenate([costs, np.full(num_first, alone)])[order]
    columns = np.concatenate([second, num_second + own])[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows))])
    shape = num_first, num_first + num_second
    graph = csr_matrix((values, columns.astype(np.int32), starts.astype(np.int32)), shape=shape)
    partners: Indices = min_weight_full_bipartite_matching(graph)[1]
    return partners
