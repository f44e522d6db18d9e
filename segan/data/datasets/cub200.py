"""Caltech-UCSD Birds-200-2011 (Wah et al., 2011): one bird each, with its box and mask."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import torch
from torch import Tensor

from segan.config import settings
from segan.data.boxes import check_boxes
from segan.data.images import UnreadableImage, reading, require_folder
from segan.data.inspection import require_layout, require_pairs
from segan.data.labels import read_objects
from segan.data.paired import Pair, PairedImages, read_lines
from segan.data.sample import Mask, Sample, Split
from segan.data.splits import Part


@settings
class Cub200Config:
    """The set with its segmentations, which are a download of their own.

    Attributes:
        root: The folder with `images.txt` and `images`, or the one around it; `segmentations` in
            either.
    """

    type: Literal["cub200"] = "cub200"
    root: Path


class Cub200(PairedImages):
    """The set's training pictures as train and dev, its test pictures as test.

    Masks have the agreement of five people as gray levels: three or more make the bird. Boxes are
    taken as left, top, width and height in pixels counted from zero.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, masks or boxes are missing, a list is malformed,
            or the split is empty.
    """

    name = "cub200"
    provides = frozenset({"images", "boxes", "masks"})
    box_source = "annotated"

    def __init__(self, config: Cub200Config, split: Split = "train") -> None:
        root = require_folder(config.root)
        if (root / "CUB_200_2011").is_dir():
            root = root / "CUB_200_2011"
        images = require_layout(root, "images")
        # The segmentations' own archive unpacks beside CUB_200_2011 rather than into it.
        outside = config.root.expanduser() / "segmentations"
        masks = outside if outside.is_dir() else require_layout(root, "segmentations")
        pairs = _pairs(root, images, masks)
        super().__init__(
            list(pairs.values()), root, split, read=read_objects, wrap=Mask, kind="mask (.png)"
        )
        boxes = _read_boxes(root / "bounding_boxes.txt")
        self._boxes = {pair.name: boxes[key] for key, pair in pairs.items() if key in boxes}
        require_pairs([pair.name for pair in self.pairs], self._boxes, "box")

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        _, height, width = sample.image.shape
        return replace(
            sample, boxes=check_boxes(self._boxes[sample.name], (height, width), sample.name)
        )


def _pairs(root: Path, images: Path, masks: Path) -> dict[str, Pair]:
    """Every picture of the set by its number."""
    training = dict(_table(root / "train_test_split.txt", 2))
    pairs = {}
    for key, place in _table(root / "images.txt", 2):
        path = PurePosixPath(place)
        if key not in training or path.is_absolute() or ".." in path.parts:
            problem = "is not inside" if key in training else "is in no line of the split"
            raise UnreadableImage(root / "images.txt", f"picture {key}, {place!r}, {problem}")
        part: Part = "train or dev" if training[key] == "1" else "test"
        pairs[key] = Pair(path.stem, images / path, masks / path.with_suffix(".png"), part)
    return pairs


def _read_boxes(path: Path) -> dict[str, Tensor]:
    """The box [1, 4] of each picture by its number."""
    boxes = {}
    for key, *words in _table(path, 5):
        with reading(path):
            left, top, width, height = map(float, words)
        boxes[key] = torch.tensor([[left, top, left + width, top + height]])
    return boxes


def _table(path: Path, columns: int) -> list[list[str]]:
    """The words of each line, `columns` of them."""
    rows = [line.split() for line in read_lines(path)]
    for row in rows:
        if len(row) != columns:
            raise UnreadableImage(path, f"the line {' '.join(row)!r} has not {columns} columns")
    return rows
