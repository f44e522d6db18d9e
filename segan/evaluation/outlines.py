"""Boundary pixels of label maps, and lines worn down to one pixel.

Thinning is that of Guo and Hall, "Parallel thinning with two-subiteration algorithms", CACM 1989.
"""

import numpy as np
from numpy.typing import NDArray

from segan.evaluation.metrics import Mask

Labels = NDArray[np.integer]
Indices = NDArray[np.intp]

# The eight neighbours, clockwise from the one above; bit i of a code is neighbour i.
_ROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def region_boundaries(labels: Labels) -> Mask:
    """Where a label map [H, W] changes: bool [H, W], thinned to one pixel.

    A pixel is marked if, of the four pixels of which it is the upper left, two that touch at a side
    differ. This is how the benchmark's files give the people's boundaries.
    """
    across = labels[:, :-1] != labels[:, 1:]
    down = labels[:-1] != labels[1:]
    marked = np.zeros(labels.shape, np.bool_)
    marked[:, :-1] |= across
    marked[:-1] |= down
    marked[:-1, :-1] |= across[1:] | down[:, 1:]
    return thin(marked)


def thin(mask: Mask) -> Mask:
    """A mask [H, W] worn down to lines one pixel wide, whose 8-connected pieces and holes stay.

    Equal to MATLAB's `bwmorph(mask, 'thin', inf)`. A pixel goes in the first half of a pass if
    it is on the edge of one piece (G1: its neighbourhood has one 8-connected piece), is neither an
    end nor deep inside (G2), and lies on a south, east or north-west side (G3); in the second half
    G3 looks the opposite way. Both halves repeat until nothing goes.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    pixels = padded.ravel()
    steps = np.array([row * (width + 2) + column for row, column in _ROUND])
    candidates = np.flatnonzero(pixels)
    marks = np.zeros(pixels.shape, np.bool_)
    while len(candidates):
        # A pixel that stayed stays until one of its neighbours goes.
        touched = []
        for removable in _REMOVABLE:
            codes = np.zeros(len(candidates), np.uint8)
            for bit, step in enumerate(steps):
                codes |= pixels[candidates + step] << bit
            gone = candidates[removable[codes]]
            pixels[gone] = 0
            touched.append((gone[:, None] + steps).ravel())
            candidates = _left(pixels, marks, [candidates, touched[-1]])
        candidates = _left(pixels, marks, touched)
    result: Mask = padded[1:-1, 1:-1].astype(np.bool_)
    return result


def _left(pixels: NDArray[np.uint8], marks: Mask, places: list[Indices]) -> Indices:
    """The places at which there is a pixel, each once; `marks` is all False before and after."""
    for some in places:
        marks[some] = True
    left = np.flatnonzero(marks & pixels.view(np.bool_))
    for some in places:
        marks[some] = False
    return left


def _removable() -> tuple[Mask, Mask]:
    """Which of the 256 neighbourhoods let a pixel go, in either half of a pass."""
    codes = np.arange(256)
    # In the paper's order: x1 is the eastern neighbour and the numbers go anticlockwise.
    x1, x2, x3, x4, x5, x6, x7, x8 = ((codes >> bit & 1) == 1 for bit in (2, 1, 0, 7, 6, 5, 4, 3))
    pieces = (
        (~x1 & (x2 | x3)).astype(int) + (~x3 & (x4 | x5)) + (~x5 & (x6 | x7)) + (~x7 & (x8 | x1))
    )
    pairs_one = sum(pair.astype(int) for pair in (x1 | x2, x3 | x4, x5 | x6, x7 | x8))
    pairs_two = sum(pair.astype(int) for pair in (x2 | x3, x4 | x5, x6 | x7, x8 | x1))
    pairs = np.minimum(pairs_one, pairs_two)
    either = (pieces == 1) & (pairs >= 2) & (pairs <= 3)
    return either & ~((x2 | x3 | ~x8) & x1), either & ~((x6 | x7 | ~x4) & x5)


_REMOVABLE = _removable()
