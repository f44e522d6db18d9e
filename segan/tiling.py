"""Large pictures in tiles: overlapping windows whose results are blended, or cut along the middle.

Next to its edge a tile lacks context, so the outer third of an overlap counts for nothing; in the
middle third the weight passes from one tile to the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor

from segan.errors import ConfigError
from segan.windows import Window

ALIGNMENT = 32
"""Tiles start at multiples of this, so that networks halve tiles as they halve whole pictures."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How large tiles are.

    Attributes:
        side: Of a tile, pixels.
        overlap: Of neighbours, pixels; at most half of the side.
    """

    side: int
    overlap: int

    def __post_init__(self) -> None:
        if self.overlap < 0 or self.side - self.overlap < max(ALIGNMENT, self.overlap):
            raise ConfigError(
                f"tiles of {self.side} pixels cannot overlap by {self.overlap}; give tiles of at "
                f"least {max(2 * self.overlap, self.overlap + ALIGNMENT)}"
            )


def tiles(size: tuple[int, int], tiling: Tiling) -> list[Window]:
    """The tiles of a picture, row by row; one, no larger than the picture, if it is small."""
    rows, columns = (spans(length, tiling) for length in size)
    return [Window(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(rows, columns)]


def grid(size: tuple[int, int], side: int) -> list[Window]:
    """Windows side by side that cover a picture, each pixel once."""
    height, width = size
    return [
        Window(x, y, min(x + side, width), min(y + side, height))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def spans(length: int, tiling: Tiling) -> list[tuple[int, int]]:
    """Where the tiles start and stop along an axis."""
    if length <= tiling.side:
        return [(0, length)]
    step = (tiling.side - tiling.overlap) // ALIGNMENT * ALIGNMENT
    last = (length - tiling.side) // ALIGNMENT * ALIGNMENT
    # The last one may be longer by what alignment takes.
    starts = [*range(0, last, step), last]
    return [(start, min(start + tiling.side, length)) for start in starts[:-1]] + [(last, length)]


def blended(values_of: Callable[[Window], Tensor], size: tuple[int, int], tiling: Tiling) -> Tensor:
    """The values [H, W] of a picture from those of its tiles, float32.

    Args:
        values_of: A tile's values [h, w].
        size: Height and width of the picture.
        tiling: The tiles.
    """
    rows, columns = (spans(length, tiling) for length in size)
    row_weights, column_weights = _weights(rows), _weights(columns)
    result = torch.zeros(size)
    for (y0, y1), vertical in zip(rows, row_weights, strict=True):
        for (x0, x1), horizontal in zip(columns, column_weights, strict=True):
            values = values_of(Window(x0, y0, x1, y1)).float().cpu()
            result[y0:y1, x0:x1] += values.mul(vertical[:, None]).mul_(horizontal)
    return result


def stitched(
    labels_of: Callable[[Window], Tensor], size: tuple[int, int], tiling: Tiling
) -> Tensor:
    """The labels int32 [H, W] of a picture from those of its tiles, cut amid each overlap."""
    rows, columns = (spans(length, tiling) for length in size)
    result = torch.zeros(size, dtype=torch.int32)
    cuts = zip(product(rows, columns), product(_cores(rows), _cores(columns)), strict=True)
    for ((y0, y1), (x0, x1)), ((top, bottom), (left, right)) in cuts:
        labels = labels_of(Window(x0, y0, x1, y1)).int().cpu()
        inner = labels[top - y0 : bottom - y0, left - x0 : right - x0]
        result[top:bottom, left:right] = inner
    return result


def _weights(found: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The weight of each tile's pixels along an axis; over all tiles they add up to one."""
    weights = [torch.ones(stop - start) for start, stop in found]
    for first in range(len(found) - 1):
        overlap = found[first][1] - found[first + 1][0]
        if overlap > 0:
            share = (torch.arange(overlap) + 0.5) / overlap
            rising = (3 * share - 1).clamp(0, 1)
            weights[first][-overlap:] *= 1 - rising
            weights[first + 1][:overlap] *= rising
    return weights


def _cores(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans cut in the middle of each overlap, so that they lie side by side."""
    cuts = [(found[i][1] + found[i + 1][0]) // 2 for i in range(len(found) - 1)]
    edges = [found[0][0], *cuts, found[-1][1]]
    return list(pairwise(edges))
