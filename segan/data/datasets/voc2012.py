"""PASCAL VOC 2012 segmentation (Everingham et al., IJCV 2015): 20 object classes and background."""

from functools import partial
from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import require_folder
from segan.data.inspection import require_layout
from segan.data.labels import numbered, read_classes
from segan.data.paired import Pair, PairedImages, read_names
from segan.data.sample import Classes, Split
from segan.data.splits import Part

_PARTS: dict[str, Part] = {"train": "train or dev", "val": "test"}
_VOID = 255


@settings
class Voc2012Config:
    """The set's segmentation task.

    Attributes:
        root: The folder `VOC2012`, or one of the two around it.
    """

    type: Literal["voc2012"] = "voc2012"
    root: Path


class Voc2012(PairedImages):
    """The set's train as train and dev, its val as test; outlines and difficult objects are void.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, label maps are missing, or the split is empty.
    """

    name = "voc2012"
    provides = frozenset({"images", "classes"})
    class_names = (
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
        *("car", "cat", "chair", "cow", "diningtable", "dog", "horse"),
        *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )

    def __init__(self, config: Voc2012Config, split: Split = "train") -> None:
        root = require_folder(config.root)
        for inner in ("VOCdevkit", "VOC2012"):
            if (root / inner).is_dir():
                root = root / inner
        images = require_layout(root, "JPEGImages")
        maps = require_layout(root, "SegmentationClass")
        lists = require_layout(root, "ImageSets", "Segmentation")
        pairs = [
            Pair(name, images / f"{name}.jpg", maps / f"{name}.png", part)
            for stem, part in _PARTS.items()
            if (lists / f"{stem}.txt").is_file()
            for name in read_names(lists / f"{stem}.txt")
        ]
        read = partial(read_classes, classes=numbered(self.class_names, void=_VOID))
        super().__init__(pairs, root, split, read=read, wrap=Classes, kind="label map (.png)")
