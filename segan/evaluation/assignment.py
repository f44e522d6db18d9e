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
_MOST_ROUNDS = 200  # of asking, from one start, before a proof costs more than a solution


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
        pairs: All between them, in the order of the rows, each of which has one.
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


def least_cost_prices(piece: Piece, taken: Indices, alone: float, guess: Costs) -> Costs | None:
    """Prices that prove that an assignment costs least (linear programming duality).

    It costs least if and only if there are prices, of columns at most 0 and of rows at most
    `alone`, such that no pair costs less than its two prices, those taken cost just that, rows
    without a column pay `alone`, and columns without a row 0.

    Args:
        piece: A piece of the problem.
        taken: The column of each row of the piece [R], -1 for none; each a pair of the piece, no
            column twice.
        alone: The cost of a row that takes none.
        guess: Prices of the columns [C], as of a problem much like this one: the closer, the
            sooner this ends. Any numbers are allowed.

    Returns:
        Prices of the columns [C], or None: there are none, or they take too long to find, as in a
        chain of many rows, each of which is better off only once the next one is.
    """
    rows, columns, pairs = piece
    row, column, _ = numbered = _numbered(piece)
    is_taken = pairs.columns == taken[row]
    column_of, row_of = np.full(len(rows), -1), np.full(len(columns), -1)
    column_of[row[is_taken]], row_of[column[is_taken]] = column[is_taken], row[is_taken]
    paid = np.full(len(rows), alone)
    paid[row[is_taken]] = pairs.costs[is_taken]
    if (paid > alone).any():
        return None
    wanted = _Table.of(numbered, len(rows))
    has_row = row_of >= 0
    lowest = np.where(has_row, paid[row_of] - alone, 0)
    # No row may pay more than `alone`, and a column without a row costs nothing.
    start = np.clip(guess, lowest, 0)
    prices = _prices(wanted, column_of, row_of, paid, alone, start)
    if prices is None and start.any():
        prices = _prices(wanted, column_of, row_of, paid, alone, np.zeros_like(start))
    return prices


class _Table(NamedTuple):
    """The pairs of each row side by side, filled up with infinite costs [R, D].

    Attributes:
        columns: Of each pair; 0 where there is none.
        costs: Of each pair; infinite where there is none.
    """

    columns: Indices
    costs: Costs

    @classmethod
    def of(cls, pairs: Pairs, num_rows: int) -> "_Table":
        """Of pairs of rows 0 .. R - 1, each with at least one."""
        starts = _starts(pairs.rows)
        place = np.arange(len(pairs.rows)) - starts[pairs.rows]
        shape = (num_rows, int(place.max()) + 1)
        columns, costs = np.zeros(shape, np.intp), np.full(shape, np.inf)
        columns[pairs.rows, place], costs[pairs.rows, place] = pairs.columns, pairs.costs
        return cls(columns, costs)


def _prices(
    wanted: _Table,
    column_of: Indices,
    row_of: Indices,
    paid: Costs,
    alone: float,
    start: Costs,
) -> Costs | None:
    """As `least_cost_prices`, with prices that may only fall from where they start.

    A row lowers the price of a column which it would rather have, to what makes it indifferent;
    the row that has the column then pays more, and may ask elsewhere. If there are such prices,
    none above those at the start, this ends at the highest of them, unless it takes too long.

    Args:
        wanted: The pairs, of rows 0 .. R - 1 and columns 0 .. C - 1.
        column_of: The column of each row [R], -1 for none.
        row_of: The row of each column [C], -1 for none.
        paid: What each row costs: its pair, or being alone [R].
        alone: The most that a row pays.
        start: Prices of the columns [C], at most 0, and 0 of those without a row.
    """
    prices = start.copy()
    pays = paid.copy()
    has_one = np.flatnonzero(column_of >= 0)
    pays[has_one] -= prices[column_of[has_one]]
    columns, costs = wanted
    for _ in range(_MOST_ROUNDS):
        theirs = costs - pays[:, None]
        lower = np.flatnonzero(theirs < prices[columns])
        if not len(lower):
            return prices
        lowered = columns.ravel()[lower]
        holders = row_of[lowered]
        if (holders < 0).any():  # a column without a row costs nothing
            return None
        np.minimum.at(prices, lowered, theirs.ravel()[lower])
        asking = np.flatnonzero(np.bincount(holders))
        pays = paid[asking] - prices[column_of[asking]]
        if (pays > alone).any():
            return None
        columns, costs = wanted.columns[asking], wanted.costs[asking]
    return None


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
    rows, columns, _ = piece
    numbered = _numbered(piece)
    if len(rows) <= len(columns):
        partners = _partners(numbered, len(rows), len(columns), alone)
        has_one = partners < len(columns)
        return rows[has_one], columns[partners[has_one]]
    by_column = np.argsort(numbered.columns, kind="stable")
    row, column, costs = numbered.where(by_column)
    turned = Pairs(column, row, costs)
    partners = _partners(turned, len(columns), len(rows), alone)
    has_one = partners < len(rows)
    return rows[partners[has_one]], columns[has_one]


def _numbered(piece: Piece) -> Pairs:
    """The pairs, with the numbers of their rows and columns in the piece."""
    rows, columns, pairs = piece
    number = np.empty(int(columns.max()) + 1, np.intp)
    number[columns] = np.arange(len(columns))
    row = np.repeat(np.arange(len(rows)), np.diff(_starts(pairs.rows)))
    return Pairs(row, number[pairs.columns], pairs.costs)


def _starts(numbers: Indices) -> Indices:
    """Where each run of equal numbers starts, and where the last one ends."""
    return np.append(np.flatnonzero(np.diff(numbers, prepend=-1)), len(numbers))


def _partners(pairs: Pairs, num_rows: int, num_columns: int, alone: float) -> Indices:
    """The column of each row [R] in the least costly assignment; C or more for none.

    Args:
        pairs: Of rows 0 .. R - 1, ascending, with columns 0 .. C - 1.
        num_rows: R, no more than C.
        num_columns: C.
        alone: Cost of a row without a partner.
    """
    # A private column for each row, its last, stands for none.
    own = np.arange(num_rows)
    ends = np.cumsum(np.bincount(pairs.rows, minlength=num_rows)) + own
    given = np.arange(len(pairs.rows)) + pairs.rows
    costs = np.empty(len(pairs.rows) + num_rows)
    costs[given], costs[ends] = pairs.costs, alone
    columns = np.empty(len(costs), np.int32)
    columns[given], columns[ends] = pairs.columns, num_columns + own
    starts = np.append(0, ends + 1).astype(np.int32)
    graph = csr_matrix((costs, columns, starts), shape=(num_rows, num_columns + num_rows))
    partners: Indices = min_weight_full_bipartite_matching(graph)[1]
    return partners
