"""Label maps of a segmenter at several scales, for the region and boundary protocols."""

import heapq
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label
from torch import Tensor

from segan.arrays import MIN_SHARE
from segan.errors import ConfigError
from segan.evaluation.hierarchies import LabelMap
from segan.evaluation.rows import native_regions
from segan.segmenter import PartitionSegmenter, Segmenter

NUM_LEVELS = 10

# Pieces below this share of a picture are absorbed in the coarsest map.
LARGEST_SHARE = 0.1


@torch.inference_mode()
def label_maps_of(
    segmenter: Segmenter, image: Tensor, *, num_levels: int = NUM_LEVELS, scale: float = 1.0
) -> list[LabelMap]:
    """Label maps int32 [H, W] of a picture uint8 [3, H, W], coarse to fine.

    A `PartitionSegmenter` gives its own. Of any other the most probable region at each pixel is
    taken, at native resolution; the 8-connected pieces are the finest map, and in the coarser ones
    pieces below `least_areas` are absorbed by `absorb`.

    Args:
        segmenter: Is put into evaluation mode.
        image: The picture.
        num_levels: How many maps; the same for everything that is compared, as the scores at each
            picture's own scale rise with it.
        scale: Network pixels per picture pixel, `WindowSpec.scale`.

    Raises:
        ConfigError: There are less than one level.
    """
    if num_levels < 1:
        raise ConfigError(f"levels is {num_levels}; it must be at least 1")
    if isinstance(segmenter, PartitionSegmenter):
        maps = segmenter.eval().partitions(image.float() / 255, num_levels=num_levels)
        return [labels.cpu().numpy().astype(np.int32) for labels in maps]
    classes = native_regions(segmenter, image, scale).argmax(0).cpu().numpy()
    pieces = label(classes, background=-1, connectivity=2) - 1  # type: ignore[no-untyped-call]
    return absorb(pieces, least_areas(classes.size, num_levels))[::-1]


def least_areas(num_pixels: int, num_levels: int) -> list[float]:
    """The least area of a region at each level, fine to coarse, in pixels.

    From 1 to a tenth of the picture in equal ratios; for one level alone, the share of the picture
    that 100 pixels of 481 x 321 are.
    """
    if num_levels == 1:
        return [num_pixels * MIN_SHARE]
    return [float(area) for area in np.geomspace(1, max(num_pixels * LARGEST_SHARE, 1), num_levels)]


def absorb(labels: NDArray[np.integer], areas: Sequence[float]) -> list[LabelMap]:
    """Label maps [H, W] in which every region has at least a given area, if there are two.

    The smallest region first, each that is too small joins the neighbour with which it shares the
    longest border, counted in pairs of pixels that touch at a side; of several, the first.

    Args:
        labels: Regions numbered from 0 [H, W].
        areas: Least areas in pixels, ascending; each map is made from the one before.
    """
    sizes = [int(size) for size in np.bincount(labels.ravel())]
    borders = _borders(labels, len(sizes))
    owner = np.arange(len(sizes))
    heap = [(size, region) for region, size in enumerate(sizes)]
    heapq.heapify(heap)
    maps = []
    for least in areas:
        while heap and heap[0][0] < least:
            size, region = heapq.heappop(heap)
            if sizes[region] != size or not borders[region]:
                continue
            other = max(borders[region], key=lambda near: (borders[region][near], -near))
            _join(region, other, borders)
            owner[region] = other
            sizes[other] += size
            sizes[region] = 0
            heapq.heappush(heap, (sizes[other], other))
        while (owner[owner] != owner).any():
            owner = owner[owner]
        kept = np.unique(owner, return_inverse=True)[1].astype(np.int32)
        maps.append(kept[labels])
    return maps


def _join(region: int, other: int, borders: list[dict[int, int]]) -> None:
    """Gives the borders of a region to another."""
    for near, length in borders[region].items():
        del borders[near][region]
        if near != other:
            borders[near][other] = borders[near].get(other, 0) + length
            borders[other][near] = borders[other].get(near, 0) + length
    borders[region] = {}


def _borders(labels: NDArray[np.integer], num_regions: int) -> list[dict[int, int]]:
    """The length of the border of each region with each of its neighbours."""
    pairs = np.concatenate(
        [
            np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()]),
            np.stack([labels[:-1].ravel(), labels[1:].ravel()]),
        ],
        axis=1,
    ).astype(np.int64)
    low, high = np.sort(pairs[:, pairs[0] != pairs[1]], axis=0)
    found, lengths = np.unique(low * num_regions + high, return_counts=True)
    borders: list[dict[int, int]] = [{} for _ in range(num_regions)]
    for pair, length in zip(found.tolist(), lengths.tolist(), strict=True):
        first, second = divmod(pair, num_regions)
        borders[first][second] = borders[second][first] = length
    return borders
