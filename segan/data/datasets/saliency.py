"""Saliency sets: natural pictures with a mask of what stands out.

ECSSD (Shi, Yan, Xu & Jia, TPAMI 2016), DUTS (Wang et al., CVPR 2017) and DUT-OMRON (Yang et al.,
CVPR 2013).
"""

from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import require_folder
from segan.data.labels import read_objects
from segan.data.paired import Pair, PairedImages, pairs_of
from segan.data.sample import Mask, Split
from segan.data.splits import Part
from segan.errors import ConfigError


@settings
class EcssdConfig:
    """1000 pictures, without splits of their own.

    Attributes:
        root: The folder with `images` and `ground_truth_mask` (or `masks`).
    """

    type: Literal["ecssd"] = "ecssd"
    root: Path


@settings
class DutsConfig:
    """10553 pictures to train on and 5019 to test on.

    Attributes:
        root: The folder with `DUTS-TR/DUTS-TR-Image`, `DUTS-TR/DUTS-TR-Mask` and the same of
            `DUTS-TE`; one of the two may be missing.
    """

    type: Literal["duts"] = "duts"
    root: Path


@settings
class DutOmronConfig:
    """5168 pictures, without splits of their own.

    Attributes:
        root: The folder with `DUT-OMRON-image` and `pixelwiseGT-new-PNG` (or `images`, `masks`).
    """

    type: Literal["dut_omron"] = "dut_omron"
    root: Path


# Folders of pictures and of masks, and the part they are, as published or as often renamed.
_Folders = tuple[str, str, Part]
_FOLDERS: dict[str, tuple[_Folders, ...]] = {
    "ecssd": (("images", "ground_truth_mask", "any"), ("images", "masks", "any")),
    "duts": (
        ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", "train or dev"),
        ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask", "test"),
    ),
    "dut_omron": (
        ("DUT-OMRON-image", "pixelwiseGT-new-PNG", "any"),
        ("images", "masks", "any"),
    ),
}


class Saliency(PairedImages):
    """Pictures of one of the sets, named after their files.

    DUTS has its training part as train and dev, and its test part as test.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, masks are missing, or the split is empty.
    """

    provides = frozenset({"images", "masks"})

    def __init__(
        self, config: EcssdConfig | DutsConfig | DutOmronConfig, split: Split = "train"
    ) -> None:
        self.name = config.type
        root = require_folder(config.root)
        pairs = _pairs(root, _FOLDERS[config.type])
        super().__init__(pairs, root, split, read=read_objects, wrap=Mask, kind="mask (.png)")


def _pairs(root: Path, folders: tuple[_Folders, ...]) -> list[Pair]:
    there = [
        (root / images, root / masks, part)
        for images, masks, part in folders
        if (root / images).is_dir() and (root / masks).is_dir()
    ]
    if not there:
        wanted = " or ".join(f"{images!r} with {masks!r}" for images, masks, _ in folders)
        raise ConfigError(f"data.root: {root} has no folders {wanted} inside")
    return [pair for images, masks, part in there for pair in pairs_of(images, masks, part)]
