"""Aerial pictures of an ETH Zurich course, road against the rest; masks are anti-aliased."""

from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import require_folder
from segan.data.inspection import require_layout
from segan.data.labels import read_objects
from segan.data.paired import PairedImages, pairs_of
from segan.data.sample import Mask, Split


@settings
class EthRoadConfig:
    """The set's training part, the only one with masks.

    Attributes:
        root: The folder with `images` and `groundtruth`, or one of the two around it.
    """

    type: Literal["eth_road"] = "eth_road"
    root: Path


class EthRoad(PairedImages):
    """Pictures named satImage_001 and so on; roads peak at gray level 237 and count from 128.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, masks are missing, or the split is empty.
    """

    name = "eth_road"
    provides = frozenset({"images", "masks"})

    def __init__(self, config: EthRoadConfig, split: Split = "train") -> None:
        root = require_folder(config.root)
        for inner in ("data", "training"):
            if (root / inner).is_dir():
                root = root / inner
        images, truths = require_layout(root, "images"), require_layout(root, "groundtruth")
        pairs = pairs_of(images, truths)
        super().__init__(pairs, root, split, read=read_objects, wrap=Mask, kind="mask (.png)")
