"""Oxford Flowers 102 (Nilsback & Zisserman, ICVGIP 2008), with the authors' segmentations.

Segmentations are pictures whose background is painted blue. They were computed, not drawn by
people, and are taken for ground truth as in the literature on unsupervised segmentation.
"""

from pathlib import Path
from typing import Literal

import torch
from scipy.io import loadmat
from torch import Tensor

from segan.config import settings
from segan.data.images import find_images, read_image, reading, require_folder
from segan.data.inspection import require_layout
from segan.data.paired import Pair, PairedImages
from segan.data.sample import Mask, Split
from segan.data.splits import Part
from segan.errors import ConfigError, DataError

_PARTS: dict[str, Part] = {"trnid": "train", "valid": "dev", "tstid": "test"}
_BACKGROUND = (0, 0, 254)

# Gray levels per channel that JPEG moves the blue by; from memory, not measured on the set.
_TOLERANCE = 40


@settings
class Flowers102Config:
    """The set with its segmentations, which are a download of their own.

    Attributes:
        root: The folder with `jpg`, `segmim` and `setid.mat`.
    """

    type: Literal["flowers102"] = "flowers102"
    root: Path


class Flowers102(PairedImages):
    """The set's own train, val (dev) and test.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, segmentations are missing, a picture is in no
            split, or the split is empty.
    """

    name = "flowers102"
    provides = frozenset({"images", "masks"})

    def __init__(self, config: Flowers102Config, split: Split = "train") -> None:
        root = require_folder(config.root)
        images, masks = require_layout(root, "jpg"), require_layout(root, "segmim")
        parts = _read_parts(root / "setid.mat")
        pairs = []
        for path in find_images(images):
            number = path.stem.removeprefix("image_")
            if number not in parts:
                raise DataError(f"{path} is in no split of {root / 'setid.mat'}")
            truth = masks / f"segmim_{number}.jpg"
            pairs.append(Pair(path.stem, path, truth, parts[number]))
        kind = "segmentation in segmim"
        super().__init__(pairs, root, split, read=read_flower, wrap=Mask, kind=kind)


def read_flower(path: Path) -> Tensor:
    """The pixels of a segmentation that are not painted blue, bool [H, W]."""
    blue = torch.tensor(_BACKGROUND, dtype=torch.int16)[:, None, None]
    return (read_image(path).short() - blue).abs().amax(0) > _TOLERANCE


def _read_parts(path: Path) -> dict[str, Part]:
    """The part of each picture by its number, five digits."""
    if not path.is_file():
        raise ConfigError(f"data.root: {path.parent} has no file 'setid.mat' inside")
    with reading(path):
        numbers = loadmat(path, variable_names=list(_PARTS))
        return {f"{n:05}": part for key, part in _PARTS.items() for n in numbers[key].ravel()}
