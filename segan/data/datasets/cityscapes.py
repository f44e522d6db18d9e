"""Cityscapes (Cordts et al., CVPR 2016): street scenes, 27 classes as PiCIE and STEGO use them."""

from functools import partial
from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import find_images
from segan.data.inspection import require_layout
from segan.data.labels import VOID, read_classes
from segan.data.paired import Pair, PairedImages
from segan.data.sample import Classes, Split
from segan.data.splits import Part

# The public test part comes without ground truth.
_PARTS: dict[str, Part] = {"train": "train or dev", "val": "test"}
_IMAGE, _LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"

# Of the 34 label numbers, 0 to 6 are void; 255 is how -1, a license plate, is stored.
_FIRST = 7


@settings
class CityscapesConfig:
    """The finely labelled pictures.

    Attributes:
        root: The folder with `leftImg8bit` and `gtFine`.
    """

    type: Literal["cityscapes"] = "cityscapes"
    root: Path


class Cityscapes(PairedImages):
    """The set's train as train and dev, its val as test.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, label maps are missing, or the split is empty.
    """

    name = "cityscapes"
    provides = frozenset({"images", "classes"})
    class_names = (
        *("road", "sidewalk", "parking", "rail track", "building", "wall", "fence"),
        *("guard rail", "bridge", "tunnel", "pole", "polegroup", "traffic light"),
        *("traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car"),
        *("truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
    )

    def __init__(self, config: CityscapesConfig, split: Split = "train") -> None:
        images = require_layout(config.root, "leftImg8bit")
        labels = require_layout(config.root, "gtFine")
        pairs = [
            Pair(stem, path, labels / folder / path.parent.name / f"{stem}{_LABELS}", part)
            for folder, part in _PARTS.items()
            if (images / folder).is_dir()
            for path in find_images(images / folder)
            if (stem := path.name.removesuffix(_IMAGE)) != path.name
        ]
        void = dict.fromkeys((*range(_FIRST), 255), VOID)
        classes = {_FIRST + number: number for number in range(len(self.class_names))}
        read = partial(read_classes, classes=classes | void)
        kind = f"label map (*{_LABELS})"
        super().__init__(pairs, config.root, split, read=read, wrap=Classes, kind=kind)
