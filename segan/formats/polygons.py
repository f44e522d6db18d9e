"""Masks as polygons. Points are centres of pixels on the outline, so that a reader who fills a
polygon and draws its edge gets the mask back.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.formats.found import Mask

Polygon = NDArray[np.int32]  # [P, 2] as x, y: centres of pixels, P >= 3


class Piece(NamedTuple):
    """An 8-connected piece of a mask: its outline, and the outlines of the holes in it."""

    outer: Polygon
    holes: list[Polygon]


def outlines(mask: Mask, *, left: int = 0, top: int = 0) -> list[Piece]:
    """The pieces of a mask [h, w] whose corner lies at (left, top) of the picture."""
    contours, tree = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top)
    )
    pieces: dict[int, Piece] = {}
    holes: list[tuple[int, Polygon]] = []
    for number, contour in enumerate(contours):
        parent = int(tree[0, number, 3])
        if parent < 0:
            pieces[number] = Piece(_polygon(contour), [])
        else:
            holes.append((parent, _polygon(contour)))
    for parent, hole in holes:
        pieces[parent].holes.append(hole)
    return list(pieces.values())


def with_slits(piece: Piece) -> Polygon:
    """One polygon for a piece with holes: a slit leads to each hole and back.

    Under the even-odd rule, which nearly every reader fills by, the holes stay empty. A slit runs
    along a row, from a leftmost pixel of a hole's outline to the next one on the left of the outer
    outline, or of a hole's that reaches further left. Where the mask ends there is such a pixel, so
    slits stay inside it. Takes nearly linear time in the length of the outlines.
    """
    if not piece.holes:
        return piece.outer
    rings = [_every_pixel(polygon).tolist() for polygon in (piece.outer, *piece.holes)]
    starts = [ring.index(min(ring)) for ring in rings]  # least x
    slits: list[dict[int, list[int]]] = [{} for _ in rings]  # of a ring: place to what joins there
    joined: dict[int, list[tuple[int, int, int]]] = {}  # of a row: x, ring and place, sorted
    holes = sorted(range(1, len(rings)), key=lambda number: rings[number][starts[number]][0])
    for number in (0, *holes):
        if number:
            x, y = rings[number][starts[number]]
            _, other, place = joined[y][bisect_left(joined[y], (x + 1, -1, -1)) - 1]
            slits[other].setdefault(place, []).append(number)
        for place, (x, y) in enumerate(rings[number]):
            insort(joined.setdefault(y, []), (x, number, place))
    walked: list[list[int]] = []
    entered = [_around(rings[0], starts[0], slits[0])]
    while entered:  # holes may be joined to holes, any number deep
        found = next(entered[-1], None)
        if found is None:
            entered.pop()
        elif isinstance(found, int):
            entered.append(_around(rings[found], starts[found], slits[found]))
        else:
            walked.append(found)
    return _corners(np.array(walked, np.int32))


def fill(polygons: list[Polygon], size: tuple[int, int], *, left: int = 0, top: int = 0) -> Mask:
    """The mask bool [h, w] of polygons, each filled by the even-odd rule, edges included."""
    filled = np.zeros(size, np.uint8)
    for polygon in polygons:
        moved: NDArray[np.int32] = polygon - np.array([left, top], np.int32)
        cv2.fillPoly(filled, [moved], 1)
    return filled > 0


def _polygon(contour: Any) -> Polygon:
    points = np.asarray(contour, np.int32)[:, 0]
    # Readers want three points, also where a pixel or a line has fewer.
    return points if len(points) >= 3 else np.resize(points, (3, 2)).astype(np.int32)


def _every_pixel(polygon: Polygon) -> Polygon:
    """All pixels of a polygon whose sides run along rows, columns and diagonals."""
    sides = np.roll(polygon, -1, axis=0) - polygon
    lengths = np.abs(sides).max(1)
    steps = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    moved = steps[:, None] * np.repeat(np.sign(sides), lengths, axis=0)
    every: Polygon = (np.repeat(polygon, lengths, axis=0) + moved).astype(np.int32)
    return every


def _around(
    ring: list[list[int]], start: int, slits: Mapping[int, Sequence[int]]
) -> Iterator[list[int] | int]:
    """The pixels of a ring from one of them to itself, with the numbers of the rings joined."""
    for place in (*range(start, len(ring)), *range(start)):
        yield ring[place]
        for number in slits.get(place, ()):
            yield number
            yield ring[place]
    yield ring[start]


def _corners(points: Polygon) -> Polygon:
    """A closed line without the points that do not change its direction."""
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    onward = np.sign(np.roll(points, -1, axis=0) - points)
    turns: Polygon = points[(onward != np.roll(onward, 1, axis=0)).any(1)]
    return turns
