"""The sparse assignment problem: each row takes a column of its own, or none, at least cost.

Solved by SciPy (Jonker and Volgenant, Computing 1987), whose time grows with the number of rows
times that of columns: connected pieces are solved one by one, but small ones together, as each call
has a price too.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

Indices = NDArray[np.intp]
Costs = NDArray[np.float64]

_POOLED = 250  # columns that are worth a call
_MOST_ROUNDS = 200  # of asking, before a proof costs more than a solution


class Pairs(NamedTuple):
    """Possible pairs [E].

    Attributes:
        rows: Of each pair; those of a row follow one another.
        columns: Of each pair.
        costs: Of each pair, above 0.
    """

    rows: Indices
    columns: Indices
    costs: Costs

    def where(self, chosen: NDArray[np.bool_] | Indices) -> "Pairs":
        """Some of them."""
        return Pairs(self.rows[chosen], self.columns[chosen], self.costs[chosen])


class Piece(NamedTuple):
    """A connected piece of the graph of possible pairs.

    Attributes:
        rows: Ascending.
        columns: Ascending.
        pairs: All between them.
    """

    rows: Indices
    columns: Indices
    pairs: Pairs


def assign(pieces: Iterable[Piece], alone: float) -> tuple[Indices, Indices]:
    """The rows that take a column, and those columns, such that all costs least.

    Args:
        pieces: Of one problem.
        alone: The cost of a row that takes none.
    """
    none = np.empty(0, np.intp)
    chosen = [(none, none), *(_assign(pool, alone) for pool in _pools(pieces))]
    rows, columns = zip(*chosen, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def pieces_of(pairs: Pairs, *, num_rows: int, num_columns: int) -> Iterator[Piece]:
    """The connected pieces; rows and columns without a possible pair are in none.

    Args:
        pairs: Of rows 0 .. num_rows - 1, ascending, with columns 0 .. num_columns - 1.
        num_rows: The number of rows.
        num_columns: The number of columns.
    """
    if not len(pairs.rows):
        return
    size = num_rows + num_columns
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(pairs.rows, minlength=size), out=starts[1:])
    ends = (pairs.columns + num_rows).astype(np.int32)
    graph = csr_matrix((pairs.costs, ends, starts), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    has_pair = np.zeros(size, np.bool_)
    has_pair[pairs.rows] = has_pair[ends] = True
    rows, columns = np.flatnonzero(has_pair[:num_rows]), np.flatnonzero(has_pair[num_rows:])
    parts = zip(
        _groups(labels[rows]),
        _groups(labels[num_rows + columns]),
        _groups(labels[pairs.rows]),
        strict=True,
    )
    for of_rows, of_columns, of_pairs in parts:
        yield Piece(rows[of_rows], columns[of_columns], pairs.where(of_pairs))


def costs_least(piece: Piece, taken: Indices, alone: float) -> bool:
    """Whether an assignment costs least, proven by prices (linear programming duality).

    It does if and only if there are prices, of columns at most 0 and of rows at most `alone`, such
    that no pair costs less than its two prices, those taken cost just that, rows without a column
    pay `alone`, and columns without a row 0.

    Args:
        piece: A piece of the problem.
        taken: The column of each row of the piece [R], -1 for none.
        alone: The cost of a row that takes none.

    Returns:
        False also where prices take too long to find: a chain of many rows, each of which is better
        off only once the next one is.
    """
    rows, columns, pairs = piece
    numbered = Pairs(
        np.searchsorted(rows, pairs.rows), np.searchsorted(columns, pairs.columns), pairs.costs
    )
    is_taken = pairs.columns == taken[numbered.rows]
    row, column, costs = numbered.where(is_taken)
    column_of, row_of = np.full(len(rows), -1), np.full(len(columns), -1)
    column_of[row], row_of[column] = column, row
    paid = np.full(len(rows), alone)
    paid[row] = costs
    return not (paid > alone).any() and _has_prices(numbered, column_of, row_of, paid, alone)


def _has_prices(
    pairs: Pairs, column_of: Indices, row_of: Indices, paid: Costs, alone: float
) -> bool:
    """Whether prices are found that prove an assignment.

    Prices of columns start at 0. A row lowers that of a column which it would rather have, to what
    makes it indifferent; the row that has the column then pays more, and may ask elsewhere. If such
    prices exist, this ends at the highest ones.

    Args:
        pairs: Of rows 0 .. R - 1 and columns 0 .. C - 1.
        column_of: The column of each row [R], -1 for none.
        row_of: The row of each column [C], -1 for none.
        paid: What each row costs: its pair, or being alone [R].
        alone: The most that a row pays.
    """
    starts = np.searchsorted(pairs.rows, np.arange(len(paid) + 1))
    row_prices, column_prices = paid.copy(), np.zeros(len(row_of))
    asking = np.arange(len(paid))
    for _ in range(_MOST_ROUNDS):
        theirs = pairs.where(_ranges(starts[asking], starts[asking + 1]))
        offers = theirs.costs - row_prices[theirs.rows]
        is_lower = offers < column_prices[theirs.columns]
        lowered = theirs.columns[is_lower]
        if not len(lowered):
            return True
        np.minimum.at(column_prices, lowered, offers[is_lower])
        if (row_of[lowered] < 0).any():  # a column without a row costs nothing
            return False
        asking = np.flatnonzero(np.bincount(row_of[lowered]))
        row_prices[asking] = paid[asking] - column_prices[column_of[asking]]
        if (row_prices[asking] > alone).any():
            return False
    return False


def _ranges(starts: Indices, stops: Indices) -> Indices:
    """The numbers of several ranges, one after the other."""
    sizes = stops - starts
    return np.arange(sizes.sum()) + np.repeat(stops - np.cumsum(sizes), sizes)


def _groups(labels: NDArray[np.integer]) -> list[Indices]:
    """The positions of each label, in the order of the labels."""
    order = np.argsort(labels, kind="stable")
    cuts = [0, *(np.flatnonzero(np.diff(labels[order])) + 1), len(order)]
    return [order[first:last] for first, last in pairwise(cuts)]


def _pools(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Consecutive pieces, so many that a pool is worth a call."""
    pool: list[Piece] = []
    num_columns = 0
    for piece in pieces:
        pool.append(piece)
        num_columns += len(piece.columns)
        if num_columns >= _POOLED:
            yield _together(pool)
            pool, num_columns = [], 0
    if pool:
        yield _together(pool)


def _together(pool: list[Piece]) -> Piece:
    """All rows, columns and pairs, one piece after the other."""
    if len(pool) == 1:
        return pool[0]
    pairs = Pairs(
        np.concatenate([piece.pairs.rows for piece in pool]),
        np.concatenate([piece.pairs.columns for piece in pool]),
        np.concatenate([piece.pairs.costs for piece in pool]),
    )
    rows = np.concatenate([piece.rows for piece in pool])
    return Piece(rows, np.concatenate([piece.columns for piece in pool]), pairs)


def _assign(piece: Piece, alone: float) -> tuple[Indices, Indices]:
    """As `assign`, of one piece or several, one after the other."""
    rows, columns, pairs = piece
    number = np.empty(int(columns.max()) + 1, np.int32)
    number[columns] = np.arange(len(columns))
    starts = np.append(np.flatnonzero(np.diff(pairs.rows, prepend=-1)), len(pairs.rows))
    graph = csr_matrix(
        (pairs.costs, number[pairs.columns], starts.astype(np.int32)),
        shape=(len(rows), len(columns)),
    )
    if len(rows) <= len(columns):
        partners = _partners(graph, alone)
        has_one = partners < len(columns)
        return rows[has_one], columns[partners[has_one]]
    partners = _partners(graph.T.tocsr(), alone)
    has_one = partners < len(rows)
    return rows[partners[has_one]], columns[has_one]


def _partners(graph: csr_matrix, alone: float) -> Indices:
    """The column of each row [R] in the least costly assignment; C or more for none.

    Args:
        graph: Cost of each possible pair [R, C], with no more rows than columns.
        alone: Cost of a row without a partner.
    """
    num_rows, num_columns = graph.shape
    # A private column for each row, its last, stands for none.
    own = np.arange(num_rows, dtype=np.int32)
    ends = graph.indptr[1:] + own
    given = np.ones(graph.nnz + num_rows, np.bool_)
    given[ends] = False
    costs = np.full(len(given), alone)
    costs[given] = graph.data
    columns = np.empty(len(given), np.int32)
    columns[given] = graph.indices
    columns[ends] = num_columns + own
    starts = graph.indptr + np.arange(num_rows + 1, dtype=np.int32)
    full = csr_matrix((costs, columns, starts), shape=(num_rows, num_columns + num_rows))
    partners: Indices = min_weight_full_bipartite_matching(full)[1]
    return partners
