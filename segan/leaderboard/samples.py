"""Strips of sample pictures: the same few of a data set, with each row's masks."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.data.sample import Dataset
from segan.evaluation.cases import Case, Cases, cases_of
from segan.evaluation.polarity import foreground_mask
from segan.evaluation.rows import Row, regions_of
from segan.files import written_aside
from segan.overlay import Picture, overlay

_COUNT = 6
_HEIGHT = 96
_WIDEST = 128
_GAP = 3
_QUALITY = 80


class Strip(NamedTuple):
    """A row of tiles, uint8 [H, W, 3], and the names of their pictures."""

    picture: Picture
    names: list[str]


def mask_strip(row: Row, dataset: Dataset, which: Cases) -> Strip:
    """What a segmenter makes of the first cases, drawn onto them."""

    def drawn(case: Case) -> Picture:
        boxes = None if case.box is None else case.box[None]
        regions = regions_of(row.segmenter, case.image[None], boxes).cpu()
        mask = foreground_mask(regions, foreground=row.segmenter.foreground)[0, 0].numpy() > 0.5
        clipped = _resized(mask.astype(np.uint8), case)
        if row.clip and case.inside is not None:
            clipped = clipped * _resized(case.inside.astype(np.uint8), case)
        return overlay(_tile(case), clipped)

    return _strip(dataset, which, drawn)


def truth_strip(dataset: Dataset, which: Cases) -> Strip:
    """The same cases with the truth."""

    def drawn(case: Case) -> Picture:
        return overlay(_tile(case), _resized(case.truth.astype(np.uint8), case))

    return _strip(dataset, which, drawn)


def picture_strip(dataset: Dataset, which: Cases) -> Strip:
    """The same cases as they are."""
    return _strip(dataset, which, _tile)


def _strip(dataset: Dataset, which: Cases, draw: Callable[[Case], Picture]) -> Strip:
    cases = list(islice(cases_of(dataset, which), _COUNT))
    tiles = [draw(case) for case in cases]
    gap = np.full((_HEIGHT, _GAP, 3), 255, np.uint8)
    parts: Sequence[NDArray[np.uint8]] = [part for tile in tiles for part in (tile, gap)]
    return Strip(np.concatenate(parts[:-1], axis=1), [case.picture for case in cases])


def _size(case: Case) -> tuple[int, int]:
    """Width and height of a case's tile, in the shape of the truth."""
    height, width = case.truth.shape
    return min(max(round(width * _HEIGHT / height), 16), _WIDEST), _HEIGHT


def _tile(case: Case) -> Picture:
    pixels = (255 * case.image).round().byte().permute(1, 2, 0).numpy()
    return np.asarray(cv2.resize(pixels, _size(case), interpolation=cv2.INTER_LINEAR), np.uint8)


def _resized(mask: NDArray[np.uint8], case: Case) -> NDArray[np.uint8]:
    resized = cv2.resize(mask, _size(case), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized, np.uint8)


def write_jpeg(path: Path, strip: Strip) -> None:
    """Write a strip, and the names of its pictures beside it, one a line."""
    ok, encoded = cv2.imencode(
        ".jpg", strip.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    assert ok
    with written_aside(path) as aside:
        aside.write_bytes(encoded.tobytes())
    names = "\n".join(name.replace("\n", " ") for name in strip.names)
    with written_aside(path.with_suffix(".txt")) as aside:
        aside.write_text(names + "\n", encoding="utf-8", errors="surrogateescape")
