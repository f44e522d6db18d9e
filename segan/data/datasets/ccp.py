"""Clothing Co-Parsing (Yang, Luo & Lin, CVPR 2014): one person in full length, labelled clothes.

The person is every labelled pixel; skin and hair are labels too.
"""

from pathlib import Path
from typing import Literal

import torch
from scipy.io import loadmat
from torch import Tensor

from segan.config import settings
from segan.data.boxes import boxes_of
from segan.data.images import find_images, read_image, reading
from segan.data.inspection import (
    inspect,
    require_layout,
    require_pairs,
    require_size,
    require_some,
)
from segan.data.sample import Mask, Sample, Split
from segan.data.splits import members


@settings
class CcpConfig:
    """The pictures with pixel-level labels.

    Attributes:
        root: The folder with `photos` and `annotations/pixel-level`.
    """

    type: Literal["ccp"] = "ccp"
    root: Path


class Ccp:
    """People, with the tight box of each mask.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, labels are missing, or the split is empty.
    """

    name = "ccp"
    provides = frozenset({"images", "boxes", "masks"})
    box_source = "masks"

    def __init__(self, config: CcpConfig, split: Split = "train") -> None:
        photos = require_layout(config.root, "photos")
        self._labels = require_layout(config.root, "annotations", "pixel-level")
        labelled = {path.stem for path in self._labels.glob("*.mat")}
        # The public download has further photos that are only tagged as a whole.
        tags = config.root.expanduser() / "annotations" / "image-level"
        tagged = {path.stem for path in tags.glob("*.mat")} - labelled
        paths = [path for path in find_images(photos) if path.stem not in tagged]
        files = {path.stem: path for path in paths}
        pictures, self.skipped = inspect(files, photos)
        names = [picture.name for picture in pictures]
        require_pairs(names, labelled, "pixel-level labels (.mat)")
        chosen = members(names, [picture.digest for picture in pictures], split)
        self._paths = [pictures[i].path for i in chosen]
        require_some(self._paths, photos, split)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        image = read_image(path)
        mask = read_person(self._labels / f"{path.stem}.mat")
        require_size(mask, image, path.stem)
        return Sample(path.stem, image, boxes_of(mask.int()), Mask(mask))


def read_person(path: Path) -> Tensor:
    """The labelled pixels, bool [H, W], of a file of clothing labels."""
    with reading(path):
        return torch.from_numpy(loadmat(path, variable_names=["groundtruth"])["groundtruth"] != 0)
