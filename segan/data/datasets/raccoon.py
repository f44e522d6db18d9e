"""Raccoons in natural photos (Dat Tran's detection set): annotated boxes, no masks."""

from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.boxes import check_boxes, match_boxes, read_boxes
from segan.data.images import find_images, read_image
from segan.data.inspection import inspect, require_layout, require_pairs, require_some
from segan.data.sample import Sample, Split
from segan.data.splits import members


@settings
class RaccoonConfig:
    """The set as its repository lays it out.

    Attributes:
        root: The folder with `images` and `annotations`. The tables in `data` repeat the boxes.
    """

    type: Literal["raccoon"] = "raccoon"
    root: Path


class Raccoon:
    """Photos with one or more boxes each, in the order of their numbers.

    Raises:
        ConfigError: The root is missing or is not laid out like the set, or a box is impossible.
        DataError: Too many files cannot be read, annotations are missing, or the split is empty.
    """

    name = "raccoon"
    provides = frozenset({"images", "boxes"})
    box_source = "annotated"

    def __init__(self, config: RaccoonConfig, split: Split = "train") -> None:
        folder = require_layout(config.root, "images")
        boxes = read_boxes(require_layout(config.root, "annotations"))
        paths = sorted(find_images(folder), key=lambda path: (len(path.stem), path.stem))
        pictures, self.skipped = inspect({path.stem: path for path in paths}, folder)
        names = [picture.name for picture in pictures]
        require_pairs(names, boxes, "annotation (.xml)")
        matched = match_boxes(boxes, [picture.path.name for picture in pictures])
        self._items = [
            (pictures[i].path, check_boxes(matched[i], pictures[i].size, names[i]))
            for i in members(names, [picture.digest for picture in pictures], split)
        ]
        require_some(self._items, folder, split)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        path, boxes = self._items[index]
        return Sample(path.stem, read_image(path), boxes)
