"""Nuclei of the 2018 Data Science Bowl, BBBC038 (Caicedo et al., Nature Methods 2019).

Microscopy pictures with one mask file per nucleus; boxes are the tight boxes of those masks.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from segan.config import settings
from segan.data.boxes import boxes_of
from segan.data.images import find_images, read_image, read_mask
from segan.data.inspection import (
    inspect,
    require_layout,
    require_pairs,
    require_size,
    require_some,
)
from segan.data.sample import Instances, Sample, Split
from segan.data.splits import members

Look = Literal["dark", "purple", "light"]

# Both lie in wide gaps. Mean of max - min over the channels: gray pictures have exactly 0, stained
# ones at least 11.9. Median gray level: dark pictures have at most 33, light ones at least 226.
STAINED = 6.0
BRIGHT = 128.0


@settings
class Dsb2018Config:
    """The set's `stage1_train`.

    Attributes:
        root: The folder `stage1_train` or the one around it.
        look: Only pictures that look alike: "dark" (fluorescence), "purple" (stained tissue) or
            "light" (bright field), told apart by `look_of` without any mask.
    """

    type: Literal["dsb2018"] = "dsb2018"
    root: Path
    look: Literal["dark", "purple", "light", "all"] = "all"


class Dsb2018:
    """Nuclei as instances and boxes; a picture's name is its folder's.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, masks are missing, or nothing is left.
    """

    name = "dsb2018"
    provides = frozenset({"images", "boxes", "masks", "instances"})
    box_source = "instance masks"

    def __init__(self, config: Dsb2018Config, split: Split = "train") -> None:
        root = config.root.expanduser()
        if (root / "stage1_train").is_dir():
            root = root / "stage1_train"
        files = {path.stem: path for path in find_images(root) if path.parent.name == "images"}
        pictures, self.skipped = inspect(files, root)
        self._masks = {
            p.name: find_images(require_layout(p.path.parent.parent, "masks")) for p in pictures
        }
        names = [picture.name for picture in pictures]
        require_pairs(names, [name for name in names if self._masks[name]], "masks")
        chosen = members(names, [picture.digest for picture in pictures], split)
        self._paths = [pictures[i].path for i in chosen]
        if config.look != "all":
            self._paths = [p for p in self._paths if look_of(read_image(p)) == config.look]
        require_some(self._paths, root, split, "" if config.look == "all" else config.look)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        image = read_image(path)
        labels = read_instances(self._masks[path.stem], image)
        return Sample(path.stem, image, boxes_of(labels), Instances(labels))


def look_of(image: Tensor) -> Look:
    """How a picture uint8 [3, H, W] looks, from its colours alone."""
    colourfulness = (image.amax(0) - image.amin(0)).float().mean()
    if colourfulness > STAINED:
        return "purple"
    return "dark" if image.float().mean(0).median() < BRIGHT else "light"


def read_instances(masks: list[Path], image: Tensor) -> Tensor:
    """One label map int32 [H, W] of one mask file per object; empty masks count for nothing."""
    labels = torch.zeros(image.shape[1:], dtype=torch.int32)
    count = 0
    for path in masks:
        levels = read_mask(path)
        require_size(levels, image, str(path))
        rows, columns = (levels > 127).nonzero(as_tuple=True)
        free = labels[rows, columns] == 0
        if free.any():
            count += 1
            labels[rows[free], columns[free]] = count
    return labels
