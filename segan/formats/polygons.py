"""Masks as polygons. Points are centres of pixels on the outline, so that a reader who fills a
polygon and draws its edge gets the mask back.
"""

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

    Under the even-odd rule, which nearly every reader fills by, the holes stay empty. A slit is the
    shortest line from a corner of a hole to a corner of what is joined already; where it leaves
    the mask, a line of pixels is added to it.
    """
    ring = piece.outer
    for hole in piece.holes:
        gaps = np.abs(ring[:, None] - hole).max(2)
        at, to = np.unravel_index(int(gaps.argmin()), gaps.shape)
        around = np.concatenate([hole[to:], hole[: to + 1]])
        ring = np.concatenate([ring[: at + 1], around, ring[at:]])
    return ring


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
