"""Objects and pieces of regions, told apart by what is connected."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.arrays import LabelMap, connected_regions


def separate(
    mask: NDArray[np.bool_], *, min_area: int = 0, max_area: int | None = None
) -> LabelMap:
    """The 8-connected pieces of a mask as objects 1, 2, ... of an int32 map [H, W]; 0 elsewhere.

    Args:
        mask: bool [H, W].
        min_area: Smaller pieces are left out, pixels.
        max_area: Larger pieces are left out, pixels; None keeps all.
    """
    _, pieces, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = np.asarray(facts, np.int32)[:, cv2.CC_STAT_AREA]
    kept = _kept(areas, min_area, max_area)
    kept[0] = False
    return _renumbered(np.asarray(pieces, np.int32), kept)


def separate_regions(
    labels: LabelMap, *, min_area: int = 0, max_area: int | None = None
) -> tuple[LabelMap, NDArray[np.intp]]:
    """The 8-connected pieces of all regions as objects, and the region [B] of each.

    Args:
        labels: Integers [H, W] from 0.
        min_area: Smaller pieces are left out, pixels.
        max_area: Larger pieces are left out, pixels; None keeps all.
    """
    pieces = connected_regions(labels, min_share=0)
    _, first, areas = np.unique(pieces, return_index=True, return_counts=True)
    kept = _kept(areas, min_area, max_area)
    return _renumbered(pieces, kept), labels.ravel()[first[kept]].astype(np.intp)


def _kept(areas: NDArray[np.integer], least: int, most: int | None) -> NDArray[np.bool_]:
    return np.asarray((areas >= least) & ((most is None) | (areas <= (most or 0))), np.bool_)


def _renumbered(pieces: NDArray[np.integer], kept: NDArray[np.bool_]) -> LabelMap:
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    result: LabelMap = numbers[pieces]
    return result
