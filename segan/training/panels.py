"""Sample panels: what the segmenter makes of a fixed set of windows, for people to watch."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segan.files import written_aside
from segan.methods.base import Preview
from segan.overlay import label_colors, overlay

_GAP = 2


def panel(preview: Preview, *, columns: int = 12, tile: int = 96) -> NDArray[np.uint8]:
    """A picture with one column per window: image, mask, composite, outline of the mask.

    Where a method fills holes, the filled picture comes after the composite.

    Of partitions, the rows are image, regions, each in one colour, and the composite.

    Args:
        preview: At least one window; the first `columns` are drawn.
        columns: How many windows.
        tile: Side of each tile, pixels.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    count = min(columns, len(preview.images))
    images = _tiles(preview.images[:count], tile)
    if preview.masks.shape[1] > 1:
        labels = preview.masks[:count].argmax(1).cpu().numpy()
        rows = [images, [_enlarged(label_colors(each), tile) for each in labels]]
        if preview.composites is not None:
            rows.append(_tiles(preview.composites[:count], tile))
        return _grid(rows)
    masks = _tiles(preview.masks[:count].expand(-1, 3, -1, -1), tile)
    rows = [images, masks]
    if preview.composites is not None:
        rows.append(_tiles(preview.composites[:count], tile))
    if preview.filled is not None:
        rows.append(_tiles(preview.filled[:count], tile))
    rows.append(
        [overlay(image, mask[..., 0] > 127) for image, mask in zip(images, masks, strict=True)]
    )
    return _grid(rows)


def _grid(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    padded = [[np.pad(t, ((0, _GAP), (0, _GAP), (0, 0))) for t in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded])


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture, whole or not at all."""
    ok, data = cv2.imencode(".png", picture[..., ::-1])
    assert ok
    with written_aside(path) as aside:
        aside.write_bytes(data.tobytes())


def _tiles(images: Tensor, side: int) -> list[NDArray[np.uint8]]:
    arrays = (images.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [_enlarged(array, side) for array in arrays]


def _enlarged(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    enlarged = cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(enlarged, np.uint8)
