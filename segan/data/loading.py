"""Drawing batches without end, from a position alone.

The item at a global position is a pure function of (seed, position): neither rank, worker nor
world size changes it, and resuming needs no state but the position.
"""

import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from segan.data.sample import Dataset, Sample, WithBackgrounds
from segan.data.views import Units, View

_SECONDS_AFTER_SIGTERM = 30
# Far beyond the positions of any run.
_PREVIEW_POSITION = 2**40


class Cached:
    """A data set whose decoded samples stay in memory up to a limit; the rest is decoded anew.

    Object-free pictures, where the set has any, take up to half of the memory.

    Args:
        dataset: Where they come from.
        limit_megabytes: Of the memory.
        with_truth: Keep their truth, for the one view that needs masks.
    """

    backgrounds: "Cached"

    def __init__(self, dataset: Dataset, limit_megabytes: int, *, with_truth: bool = False) -> None:
        self.dataset = dataset
        self.name = dataset.name
        self.provides = dataset.provides
        self.box_source = dataset.box_source
        self.with_truth = with_truth
        if isinstance(dataset, WithBackgrounds):
            limit_megabytes //= 2
            self.backgrounds = Cached(dataset.backgrounds, limit_megabytes)
        self.free_bytes = limit_megabytes * 2**20
        self.samples: dict[int, Sample] = {}
        self.outlines: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self.samples:
            return self.samples[index]
        sample = self.dataset[index]
        # Truth is for evaluation, which reads each picture once; views do not see it.
        sample = replace(sample, truth=sample.truth if self.with_truth else None)
        if index not in self.outlines:
            blank = torch.zeros(1, dtype=torch.uint8).expand(sample.image.shape)
            self.outlines[index] = Sample(name=sample.name, image=blank, boxes=sample.boxes)
        num_bytes = sample.image.nbytes + (sample.guess.opacity.nbytes if sample.guess else 0)
        if num_bytes <= self.free_bytes:
            self.free_bytes -= num_bytes
            self.samples[index] = sample
        return sample

    def outline(self, index: int) -> Sample:
        """A sample with a blank picture of its size: each is read once, however many there are."""
        if index not in self.outlines:
            self[index]
        return self.outlines[index]


class Draws(TorchDataset[Any]):
    """A data set seen through a view, addressed by global position: 0, 1, 2, ... without end.

    Each pass over the units is a fresh permutation.
    """

    def __init__(self, dataset: Dataset, view: View, units: Units, seed: int) -> None:
        self.dataset = dataset
        self.view = view
        self.items = units.items
        self.seed = seed

    def __getitem__(self, position: int) -> Any:
        epoch, offset = divmod(position, len(self.items))
        index, unit = self.items[_permutation(self.seed, epoch, len(self.items))[offset]]
        rng = np.random.default_rng((self.seed, 2, position))
        return self.view(self.dataset[index], unit, rng)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, 1, epoch)).permutation(count)


def preview_batch(draws: Draws, *, least: int = 8, most: int = 64) -> Any:
    """The same `least` to `most` items in every call, each unit once before any comes again."""
    num_units = len(draws.items)
    first = _PREVIEW_POSITION // num_units * num_units
    items = [draws[first + i] for i in range(min(most, max(least, num_units)))]
    return type(items[0])(*(torch.stack(field) for field in zip(*items, strict=True)))


class InfiniteBatches(Sampler[list[int]]):
    """This rank's share of each global batch, as positions, from draw `start` on."""

    def __init__(self, *, batch_size: int, rank: int, world_size: int, start: int) -> None:
        self.batch_size = batch_size
        self.share = batch_size // world_size
        self.first = rank * self.share
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        draw = self.start
        while True:
            first = draw * self.batch_size + self.first
            yield list(range(first, first + self.share))
            draw += 1


def batches(
    draws: Draws, *, batch_size: int, rank: int, world_size: int, start: int, workers: int
) -> Iterator[Any]:
    """Endless batches of this rank: named tuples of stacked tensors.

    Args:
        draws: Where items come from.
        batch_size: Global, over all ranks; divisible by `world_size`.
        rank: This process.
        world_size: Number of processes.
        start: Number of global batches drawn before.
        workers: Loader processes; 0 loads in this one.
    """
    sampler = InfiniteBatches(batch_size=batch_size, rank=rank, world_size=world_size, start=start)
    if workers:
        # Here, not in the workers: they are forked without OpenCV's threads, and would wait for
        # them for ever.
        cv2.setNumThreads(1)
    return iter(
        DataLoader(
            draws, batch_sampler=sampler, num_workers=workers, worker_init_fn=_prepare_worker
        )
    )


def _prepare_worker(_worker: int) -> None:
    # Signals to a process group are the trainer's to answer, which needs its loaders for a while.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_AFTER_SIGTERM))


def split_batch(batch: Any, size: int) -> list[Any]:
    """A named tuple of tensors as named tuples of `size` items each."""
    parts = [field.split(size) for field in batch]
    return [type(batch)(*fields) for fields in zip(*parts, strict=True)]


def to_device(batch: Any, device: torch.device) -> Any:
    """A named tuple of tensors on a device."""
    return type(batch)(*(field.to(device, non_blocking=True) for field in batch))
