"""The sparse assignment problem and the proof that a solution costs least."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segan.evaluation.assignment import Pairs, Piece, assign, least_cost_prices, pieces_of

ALONE = 500.0


def problem(seed: int, size: tuple[int, int] = (12, 15)) -> np.ndarray:
    """Costs [R, C], infinite where there is no pair."""
    rng = np.random.default_rng(seed)
    costs = rng.integers(1, 100, size).astype(float)
    return np.where(rng.random(size) < 0.25, costs, np.inf)


def pairs_of(costs: np.ndarray) -> Pairs:
    rows, columns = np.nonzero(np.isfinite(costs))
    return Pairs(rows, columns, costs[rows, columns])


def least(costs: np.ndarray) -> float:
    """The least cost, from the dense problem with a private column for each row."""
    num_rows, num_columns = costs.shape
    dense = np.full((num_rows, num_columns + num_rows), 1e9)
    dense[:, :num_columns] = np.where(np.isfinite(costs), costs, 1e9)
    dense[np.arange(num_rows), num_columns + np.arange(num_rows)] = ALONE
    return float(dense[linear_sum_assignment(dense)].sum())


def cost(costs: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    return float(costs[rows, columns].sum() + ALONE * (len(costs) - len(rows)))


def costs_least(piece: Piece, taken: np.ndarray, guess: np.ndarray | None = None) -> bool:
    """Whether there are prices; if so, they are what prices have to be."""
    zeros = np.zeros(len(piece.columns))
    prices = least_cost_prices(piece, taken, ALONE, zeros if guess is None else guess)
    if prices is None:
        return False
    assert (prices <= 0).all()
    assert not prices[~np.isin(piece.columns, taken)].any()
    of = dict(zip(piece.columns.tolist(), prices.tolist(), strict=True))
    own = {row: ALONE for row, column in zip(piece.rows, taken, strict=True) if column < 0}
    chosen = dict(zip(piece.rows.tolist(), taken.tolist(), strict=True))
    pairs = list(zip(*(values.tolist() for values in piece.pairs), strict=True))
    own |= {row: cost - of[column] for row, column, cost in pairs if chosen[row] == column}
    assert max(own.values()) <= ALONE
    assert all(cost >= own[row] + of[column] for row, column, cost in pairs)
    return True


@pytest.mark.parametrize("pooled", [1, 20, 10**9])
def test_assignments_cost_as_little_as_dense_ones(monkeypatch, pooled):
    monkeypatch.setattr("segan.evaluation.assignment._POOLED", pooled)
    for seed in range(30):
        for size in ((12, 15), (15, 12), (9, 9), (1, 4), (20, 3)):
            costs = problem(seed, size)
            pairs = pairs_of(costs)
            pieces = list(pieces_of(pairs, num_rows=size[0], num_columns=size[1]))
            rows, columns = assign(pieces, ALONE)
            assert len(set(rows)) == len(rows)
            assert len(set(columns)) == len(columns)
            assert cost(costs, rows, columns) == least(costs), (seed, size)


def test_pieces_share_no_row_and_no_column_and_hold_all_pairs():
    costs = problem(4, (30, 40)) * np.where(
        np.random.default_rng(5).random((30, 40)) < 0.1, 1, np.inf
    )
    pairs = pairs_of(costs)
    pieces = list(pieces_of(pairs, num_rows=30, num_columns=40))
    assert len(pieces) > 3
    for name in ("rows", "columns"):
        together = np.concatenate([getattr(piece, name) for piece in pieces])
        assert len(set(together)) == len(together)
        assert set(together) == set(getattr(pairs, name))
    for piece in pieces:
        assert set(piece.rows) == set(piece.pairs.rows)
        assert set(piece.columns) == set(piece.pairs.columns)
    assert sum(len(piece.pairs.rows) for piece in pieces) == len(pairs.rows)
    assert not list(pieces_of(pairs_of(np.full((2, 2), np.inf)), num_rows=2, num_columns=2))


def test_only_what_costs_least_has_prices():
    """Against the least cost, for solutions with one pair or one chain of pairs changed."""
    verdicts = []
    for seed in range(60):
        costs = problem(seed)
        rng, guesses = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
        pieces = pieces_of(pairs_of(costs), num_rows=12, num_columns=15)
        for piece in pieces:
            within = np.full_like(costs, np.inf)
            within[piece.pairs.rows, piece.pairs.columns] = piece.pairs.costs
            within = within[piece.rows]
            rows, columns = assign([piece], ALONE)
            taken = np.full(12, -1)
            taken[rows] = columns
            zeros = np.zeros(len(piece.columns))
            known = least_cost_prices(piece, taken[piece.rows], ALONE, zeros)
            assert known is not None
            for _ in range(10):
                other = taken.copy()
                row = rng.choice(piece.rows)
                column = rng.choice(piece.columns)
                if not np.isfinite(costs[row, column]):
                    other[row] = -1  # one more is alone
                else:
                    other[other == column] = other[row] if rng.random() < 0.5 else -1
                    other[row] = column
                mine = other[piece.rows]
                has_one = np.flatnonzero(mine >= 0)
                if not np.isfinite(within[has_one, mine[has_one]]).all():
                    continue
                verdict = costs_least(piece, mine)
                assert verdict == (cost(within, has_one, mine[has_one]) == least(within))
                wild = guesses.integers(-1000, 50, len(known)).astype(float)
                for share in (0, 0.1, 0.3):
                    guess = np.where(guesses.random(len(known)) < share, wild, known)
                    assert costs_least(piece, mine, guess) == verdict
                assert costs_least(piece, mine, np.full(len(known), -1e4)) == verdict
                verdicts.append(verdict)
    assert min(verdicts.count(True), verdicts.count(False)) >= 50


def test_a_good_guess_saves_rounds(monkeypatch):
    """A chain of rows, each better off only once the next one is."""
    costs = np.full((30, 30), np.inf)
    np.fill_diagonal(costs, 5)
    costs[np.arange(1, 30), np.arange(29)] = 2
    costs[0, 0] = 1
    (piece,) = pieces_of(pairs_of(costs), num_rows=30, num_columns=30)
    zeros, taken = np.zeros(30), np.arange(30)
    prices = least_cost_prices(piece, taken, ALONE, zeros)
    assert prices is not None
    monkeypatch.setattr("segan.evaluation.assignment._MOST_ROUNDS", 1)
    assert least_cost_prices(piece, taken, ALONE, zeros) is None
    assert least_cost_prices(piece, taken, ALONE, prices) is not None


def test_a_pair_that_costs_more_than_being_alone_does_not_cost_least():
    (piece,) = pieces_of(pairs_of(np.array([[5.0]])), num_rows=1, num_columns=1)
    guess = np.zeros(1)
    assert least_cost_prices(piece, np.array([0]), 6.0, guess) is not None
    assert least_cost_prices(piece, np.array([-1]), 6.0, guess) is None
    assert least_cost_prices(piece, np.array([0]), 3.0, guess) is None
    assert least_cost_prices(piece, np.array([-1]), 3.0, guess) is not None
    assert len(assign([piece], 3.0)[0]) == 0
