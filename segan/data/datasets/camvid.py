"""CamVid (Brostow, Fauqueur & Cipolla, PRL 2009): street scenes of 11 classes, as used by SegNet.

The layout is that of the SegNet tutorial. Frames are of four videos, so neighbours look alike.
"""

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from segan.config import settings
from segan.data.images import UnreadableImage, require_folder
from segan.data.inspection import require_layout
from segan.data.labels import numbered, read_classes
from segan.data.paired import Pair, PairedImages, read_lines
from segan.data.sample import Classes, Split
from segan.data.splits import Part

_PARTS: dict[str, Part] = {"train": "train", "val": "dev", "test": "test"}
_VOID = 11


@settings
class CamVidConfig:
    """The set as the SegNet tutorial lays it out.

    Attributes:
        root: The folder with `train.txt`, `train` and `trainannot`, or the one around it.
    """

    type: Literal["camvid"] = "camvid"
    root: Path


class CamVid(PairedImages):
    """The set's own train, val (dev) and, where its list is there, test.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, labels are missing, or the split is empty.
    """

    name = "camvid"
    provides = frozenset({"images", "classes"})
    class_names = (
        *("sky", "building", "pole", "road", "pavement", "tree"),
        *("sign", "fence", "car", "pedestrian", "bicyclist"),
    )

    def __init__(self, config: CamVidConfig, split: Split = "train") -> None:
        root = require_folder(config.root)
        if (root / "CamVid").is_dir():
            root = root / "CamVid"
        require_layout(root, "train")
        pairs = [
            pair
            for stem, part in _PARTS.items()
            if (root / f"{stem}.txt").is_file()
            for pair in _listed(root, root / f"{stem}.txt", part)
        ]
        read = partial(read_classes, classes=numbered(self.class_names, void=_VOID))
        super().__init__(pairs, root, split, read=read, wrap=Classes, kind="label map (.png)")


def _listed(root: Path, path: Path, part: Part) -> list[Pair]:
    """The pairs of a list, whose lines name files below the author's own folder."""
    pairs = []
    for line in read_lines(path):
        # The last folder and the file name; what stands before is another machine's.
        places = [PurePosixPath(word).parts[-2:] for word in line.split()]
        if len(places) != 2 or ".." in (*places[0], *places[1]):
            raise UnreadableImage(path, f"{line!r} is not a picture and its label map")
        image, labels = (root.joinpath(*place) for place in places)
        pairs.append(Pair(image.stem, image, labels, part))
    return pairs
