"""COCO-Stuff (Caesar, Uijlings & Ferrari, CVPR 2018): things and stuff, in coarse classes.

The 182 labels are joined to the 27 supercategories of the label hierarchy, as IIC (Ji, Henriques &
Vedaldi, ICCV 2019), PiCIE and STEGO do; IIC's smaller tasks have 15 or 3 of them, the rest void.
"""

from functools import partial
from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import require_folder
from segan.data.inspection import require_layout
from segan.data.labels import VOID, read_classes
from segan.data.paired import Pair, PairedImages, pairs_of, read_names
from segan.data.sample import Classes, Split
from segan.data.splits import Part

_PARTS: dict[str, Part] = {"train2017": "train or dev", "val2017": "test"}
_UNLABELED = 255

# Numbers in the pixel maps, one less than the set's label numbers. Things are 0 to 90.
_THINGS = {
    "electronic": range(71, 77),
    "appliance": range(77, 83),
    "food": range(51, 61),
    "furniture": range(61, 71),
    "indoor": range(83, 91),
    "kitchen": range(43, 51),
    "accessory": range(25, 33),
    "animal": range(15, 25),
    "outdoor": range(9, 15),
    "person": range(1),
    "sports": range(33, 43),
    "vehicle": range(1, 9),
}
# Stuff is 91 to 181, in the order of the alphabet and so scattered.
_STUFF = {
    "ceiling": (101, 102),
    "floor": (100, *range(113, 118)),
    "food": (120, 121, 152, 169),
    "furniture": (97, 106, 107, 109, 111, 122, 129, 132, 155, 160, 164),
    "rawmaterial": (99, 131, 138, 142),
    "textile": (91, 92, 103, 104, 108, 130, 136, 140, 151, 166, 167),
    "wall": range(170, 177),
    "window": (179, 180),
    "building": (94, 95, 127, 150, 157, 165),
    "ground": (110, 124, 125, 135, 139, 143, 144, 146, 148, 153, 158),
    "plant": (93, 96, 118, 123, 128, 133, 141, 162, 168),
    "sky": (105, 156),
    "solid": (126, 134, 149, 159, 161, 181),
    "structural": (98, 112, 137, 145, 163),
    "water": (119, 147, 154, 177, 178),
}
GROUPS = {
    **{f"{name}-things": tuple(numbers) for name, numbers in _THINGS.items()},
    **{f"{name}-stuff": tuple(numbers) for name, numbers in _STUFF.items()},
}

# How many of the supercategories are classes: all, those of stuff, or the three of IIC.
CLASS_NAMES = {
    27: tuple(GROUPS),
    15: tuple(f"{name}-stuff" for name in _STUFF),
    3: ("sky-stuff", "plant-stuff", "ground-stuff"),
}


@settings
class CocoStuffConfig:
    """The pictures of COCO 2017 with the pixel maps of stuff and things.

    Attributes:
        root: The folder with `images/train2017`, `images/val2017` and the pixel maps in
            `annotations` or `stuffthingmaps`, likewise; one of the two parts may be missing.
        classes: 27 supercategories, the 15 of stuff, or sky, plant and ground.
        curated: A list of picture names without suffix in `curated/train2017` and
            `curated/val2017`, such as IIC's "Coco164kFull_Stuff_Coarse_7.txt", of which only the
            pictures are used. These lists were made with the ground truth.
    """

    type: Literal["coco_stuff"] = "coco_stuff"
    root: Path
    classes: Literal[27, 15, 3] = 27
    curated: str = ""


class CocoStuff(PairedImages):
    """train2017 as train and dev, val2017 as test.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, pixel maps are missing, or the split is empty.
    """

    name = "coco_stuff"
    provides = frozenset({"images", "classes"})

    def __init__(self, config: CocoStuffConfig, split: Split = "train") -> None:
        self.class_names = CLASS_NAMES[config.classes]
        root = require_folder(config.root)
        images = require_layout(root, "images")
        maps = root / "stuffthingmaps"
        maps = maps if maps.is_dir() else require_layout(root, "annotations")
        pairs = [
            pair
            for folder, part in _PARTS.items()
            if (images / folder).is_dir()
            for pair in _part(images / folder, maps / folder, part, root, config.curated)
        ]
        read = partial(read_classes, classes=classes_of(self.class_names))
        kind = f"pixel map in {maps.name}"
        super().__init__(pairs, root, split, read=read, wrap=Classes, kind=kind)


def classes_of(names: tuple[str, ...]) -> dict[int, int]:
    """The class of every number in a pixel map, -1 where it is in none of those named."""
    wanted = {name: number for number, name in enumerate(names)}
    found = {n: wanted.get(name, VOID) for name, numbers in GROUPS.items() for n in numbers}
    return {**found, _UNLABELED: VOID}


def _part(images: Path, maps: Path, part: Part, root: Path, curated: str) -> list[Pair]:
    if not curated:
        return pairs_of(images, maps, part)
    return [
        Pair(name, images / f"{name}.jpg", maps / f"{name}.png", part)
        for name in read_names(root / "curated" / images.name / curated)
    ]
