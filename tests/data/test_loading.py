import itertools
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from segan.data.loading import Cached, Draws, InfiniteBatches, batches, preview_batch, split_batch
from segan.data.sample import Instances, Sample
from segan.data.views import Units


class Item(NamedTuple):
    index: Tensor
    unit: Tensor
    noise: Tensor


class Numbers:
    """Samples whose picture holds their index."""

    name = "numbers"
    provides = frozenset({"images"})
    box_source = ""

    def __init__(self, count: int = 5) -> None:
        self.count = count
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        image = torch.full((3, 64, 64), index, dtype=torch.uint8)
        return Sample(name=str(index), image=image, truth=Instances(image[0].int()))


class NumberView:
    needs = frozenset({"images"})

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> Item:
        return Item(sample.image[0, 0, 0], torch.tensor(unit), torch.tensor(rng.random()))


def draws(seed: int = 0) -> Draws:
    items = [(index, unit) for index in range(5) for unit in range(index % 3 + 1)]
    return Draws(Numbers(), NumberView(), Units(items, []), seed)


def positions(*, world_size: int, start: int = 0, count: int = 5) -> list[list[int]]:
    """Global batches as the ranks together draw them."""
    ranks = [
        itertools.islice(
            iter(InfiniteBatches(batch_size=8, rank=rank, world_size=world_size, start=start)),
            count,
        )
        for rank in range(world_size)
    ]
    return [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_together_draw_what_one_process_draws(world_size):
    assert positions(world_size=world_size) == [list(range(8 * d, 8 * d + 8)) for d in range(5)]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_draws_resume_where_they_stopped(world_size):
    whole = positions(world_size=1, count=7)
    assert positions(world_size=world_size, start=3, count=4) == whole[3:]


def test_every_epoch_covers_every_unit_in_an_order_of_its_own():
    drawn = draws()
    count = len(drawn.items)
    epochs = [
        [
            (int(item.index), int(item.unit))
            for item in map(drawn.__getitem__, range(e * count, (e + 1) * count))
        ]
        for e in range(4)
    ]
    assert all(sorted(epoch) == sorted(drawn.items) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_items_are_a_function_of_seed_and_position_alone():
    first, second, other = draws(), draws(), draws(seed=1)
    backwards = {p: second[p] for p in reversed(range(40))}
    assert all(first[p] == backwards[p] for p in range(40))
    assert sum(first[p] != other[p] for p in range(40)) > 30
    # The same unit again, in another epoch, comes with other noise.
    assert len({float(first[p].noise) for p in range(40)}) == 40


@pytest.mark.parametrize("workers", [1, 2])
def test_number_of_workers_does_not_change_batches(workers):
    def drawn(workers: int) -> list[Item]:
        endless = batches(draws(), batch_size=8, rank=1, world_size=2, start=3, workers=workers)
        return list(itertools.islice(endless, 6))

    for mine, theirs in zip(drawn(workers), drawn(0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_draws_can_be_sent_to_workers_that_are_not_forked():
    drawn = draws()
    drawn[0]
    assert pickle.loads(pickle.dumps(drawn))[17] == drawn[17]


def test_preview_is_the_same_each_time_and_repeats_no_unit_early():
    first, again = (preview_batch(draws(), least=12) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    units = list(zip(first.index.tolist(), first.unit.tolist(), strict=True))
    assert len(units) == 12
    assert sorted(units[:9]) == sorted(draws().items)
    assert len(preview_batch(draws(), least=2, most=4).unit) == 4


def test_cache_reads_once_and_keeps_truth_away():
    numbers = Numbers()
    cached = Cached(numbers, limit_megabytes=1)
    first = [cached[i] for i in (0, 1, 0, 1, 0)]
    assert numbers.reads == [0, 1]
    assert all(sample.truth is None for sample in first)
    assert [sample.name for sample in first] == ["0", "1", "0", "1", "0"]


def test_cache_stops_at_its_limit():
    numbers = Numbers(count=200)
    cached = Cached(numbers, limit_megabytes=1)
    for index in [*range(200), *range(200)]:
        assert int(cached[index].image[0, 0, 0]) == index
    fits = 2**20 // (3 * 64 * 64)
    assert sum(s.image.nbytes for s in cached.samples.values()) <= 2**20
    assert len(numbers.reads) == 200 + (200 - fits)


def test_split_batch_keeps_order_and_type():
    batch = Item(torch.arange(6), torch.arange(6) * 2, torch.rand(6))
    parts = split_batch(batch, 2)
    assert [type(part) for part in parts] == [Item] * 3
    assert torch.equal(torch.cat([part.unit for part in parts]), batch.unit)
