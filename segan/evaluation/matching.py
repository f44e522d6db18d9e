"""Pairing predicted boundary pixels with people's, at least cost.

Martin, Fowlkes and Malik, "Learning to detect natural image boundaries using local brightness,
color, and texture cues", TPAMI 2004, as a sparse assignment problem (Jonker and Volgenant,
Computing 1987). Each pixel is paired with at most one of the other side, no further away than a
given distance; the sum of distances, plus 100 times that distance for every pixel of people left
alone, is as small as can be. (A pair takes a pixel away on either side, so that a charge on both
would be the same charge, twice as high.) Costs are in hundredths of a pixel, with one more for a
pair.

From one threshold to the next few pixels come or go, and only pairs near those change. So in large
connected pieces pairs are made anew there alone, and kept if all together are proven to cost least.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segan.evaluation.assignment import Indices, Pairs, Piece, assign, least_cost_prices, pieces_of
from segan.evaluation.metrics import Mask

MAX_DISTANCE = 0.0075  # of the diagonal of the picture
OUTLIER_COST = 100  # over the largest distance
COST_STEPS = 100  # to the pixel

# Pieces of so many pixels of people are mended where something changed, if that is within so many
# largest distances of at most this share of them.
_LARGE = 600
_NEARBY = 8
_MENDED = 0.75

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

    People are stacked one below the other, each with a copy of the prediction, so that all are
    matched at once; a place is a pixel of the stack.

    Args:
        truths: Each person's boundary pixels, bool [H, W].
        max_distance: The largest distance of a pair, in pixels, inclusive.
    """

    def __init__(self, truths: Sequence[Mask], *, max_distance: float) -> None:
        reach = int(max_distance)
        height, width = (size + 2 * reach for size in truths[0].shape)
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        distances = np.hypot(rows, columns)
        near = distances <= max_distance
        self._reach, self._num_people, self._width = reach, len(truths), width
        self._own = np.flatnonzero(np.concatenate([np.pad(truth, reach) for truth in truths]))
        self._around: Indices = (self._own[:, None] + (rows * width + columns)[near]).ravel()
        self._true = np.repeat(np.arange(len(self._own)), np.count_nonzero(near))
        # SciPy takes a cost of 0 for no pair at all; being alone costs more than any pair.
        costs = np.rint(distances[near] * COST_STEPS) + 1
        alone = max(float(np.rint(OUTLIER_COST * max_distance * COST_STEPS)), costs.max() + 2)
        # Among equals the pairing decides whose predicted pixels come last, row by row, so that
        # the result is one whatever is solved together; of a picture of millions of pixels some
        # share a rank. Everything stays an exact integer.
        most = max(1, *(int(np.count_nonzero(truth)) for truth in truths))
        num_places = height * width
        num_ranks = max(int(min(num_places, _EXACT / (alone * most))), 1)
        ranks = num_ranks - np.floor(np.arange(num_places) * (num_ranks / num_places))
        self._ranks = np.tile(ranks, len(truths))
        self._costs = costs * (most * num_ranks)
        self._alone = alone * most * num_ranks
        self._present = np.zeros(len(self._ranks), np.bool_)
        self._partners = np.full(len(self._own), -1, np.intp)  # places
        # Of each place, from the last proof that it was in; only guesses.
        self._prices = np.zeros(len(self._ranks))
        # The places of each piece's predicted pixels. People's pixels stay, so that these say
        # which of them are in the piece, all its pairs, and who is paired with whom.
        self._pieces: set[bytes] = set()

    def match(self, prediction: Mask) -> Counts:
        """Pairs the pixels of a prediction, bool [H, W], with every person's."""
        padded = np.pad(prediction, self._reach)
        assert padded.size * self._num_people == len(self._present), "sizes differ"
        assert padded.shape[1] == self._width, "sizes differ"
        present = np.tile(padded.ravel(), self._num_people)
        self._partners = self._paired(present)
        self._present = present
        paired = np.zeros(len(present), np.bool_)
        paired[self._partners[self._partners >= 0]] = True
        return Counts(
            recalled=int(np.count_nonzero(paired)),
            num_truth=len(self._own),
            matched=int(np.count_nonzero(paired.reshape(self._num_people, -1).any(axis=0))),
            num_predicted=int(np.count_nonzero(prediction)),
        )

    def _paired(self, present: Mask) -> Indices:
        """The partner of each true pixel, a place, or -1, given what is predicted at each place."""
        places = np.flatnonzero(present)
        pairs = self._pairs(present, places)
        # The last place, -1, stays -1 either way.
        before = np.where(present[self._partners], self._partners, -1)
        near_change = self._near_change(present, before)
        partners = np.full(len(self._own), -1)
        pieces: set[bytes] = set()
        new: list[Piece] = []
        for piece in pieces_of(pairs, num_rows=len(partners), num_columns=len(places)):
            key = places[piece.columns].tobytes()
            pieces.add(key)
            mended = before[piece.rows] if key in self._pieces else None
            if mended is None and len(piece.rows) >= _LARGE:
                mended = self._mended(piece, places, before, near_change[piece.rows])
            if mended is None:
                new.append(piece)
            else:
                partners[piece.rows] = mended
        true, columns = assign(new, self._alone)
        partners[true] = places[columns]
        self._pieces = pieces
        return partners

    def _pairs(self, present: Mask, places: Indices) -> Pairs:
        """True pixels and predicted ones near them; columns are numbers of `places`."""
        hits = np.flatnonzero(present[self._around])
        true, at = self._true[hits], self._around[hits]
        number = np.empty(len(present), np.intp)  # read where there is a pixel
        number[places] = np.arange(len(places))
        costs = self._costs[hits % len(self._costs)] + self._ranks[at]
        return Pairs(true, number[at], costs)

    def _near_change(self, present: Mask, before: Indices) -> Mask:
        """Whether each true pixel is near one that lost its partner, or a new place."""
        changed = present & ~self._present
        changed[self._own[before != self._partners]] = True
        radius = _NEARBY * self._reach
        kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        near = cv2.dilate(changed.view(np.uint8).reshape(-1, self._width), kernel)
        is_near: Mask = near.view(np.bool_).ravel()[self._own]
        return is_near

    def _mended(
        self, piece: Piece, places: Indices, before: Indices, near_change: Mask
    ) -> Indices | None:
        """The partners of a piece's rows, places or -1, paired anew where something changed.

        Args:
            piece: Of the graph of pairs.
            places: The place of each column.
            before: The partner that each true pixel had, a place, or -1.
            near_change: Whether each row of the piece is to be paired anew.

        Returns:
            None if that would be most of the piece, or does not cost least.
        """
        if near_change.mean() > _MENDED:
            return None
        rows, columns, pairs = piece
        taken = np.full(int(rows.max()) + 1, -1)  # the column of each row
        kept = rows[~near_change & (before[rows] >= 0)]
        taken[kept] = np.searchsorted(places, before[kept])
        is_open = np.zeros(len(taken), np.bool_)
        is_open[rows[near_change]] = True
        is_free = np.ones(int(columns.max()) + 1, np.bool_)
        is_free[taken[kept]] = False
        anew = pairs.where(is_open[pairs.rows] & is_free[pairs.columns])
        pieces = pieces_of(anew, num_rows=len(is_open), num_columns=len(is_free))
        found, theirs = assign(pieces, self._alone)
        taken[found] = theirs
        taken = taken[rows]
        guess = self._prices[places[columns]]
        prices = least_cost_prices(piece, taken, self._alone, guess)
        if prices is None:
            return None
        self._prices[places[columns]] = prices
        return np.where(taken < 0, -1, places[taken])
