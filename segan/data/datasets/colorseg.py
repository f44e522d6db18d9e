"""Colour segmentation (IITP and SFU pictures): studio scenes, one colour per annotated region."""

from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.images import require_folder
from segan.data.labels import read_regions
from segan.data.paired import Pair, PairedImages, one_annotation, pairs_of
from segan.data.sample import Split
from segan.errors import ConfigError

# As the public download spells it.
_TRUTHS = "groud_truth"


@settings
class ColorSegConfig:
    """All parts of the set together.

    Attributes:
        root: The folder with `IITP-close`, `IITP-diffuse` and `Selected-SFU`, or some of them.
    """

    type: Literal["colorseg"] = "colorseg"
    root: Path


class ColorSeg(PairedImages):
    """Pictures named "part/stem", with one label map each: regions from 1, 0 where unannotated.

    Regions have no names. The shadow masks (`stem.1.png` and so on) are left alone.

    Raises:
        ConfigError: The root is missing or is not laid out like the set.
        DataError: Too many files cannot be read, label maps are missing, or the split is empty.
    """

    name = "colorseg"
    provides = frozenset({"images", "annotations"})

    def __init__(self, config: ColorSegConfig, split: Split = "train") -> None:
        root = require_folder(config.root)
        parts = sorted(path.parent for path in root.glob(f"*/{_TRUTHS}") if path.is_dir())
        pairs = [
            Pair(f"{part.name}/{pair.name}", pair.image, pair.truth)
            for part in parts
            if (part / "images").is_dir()
            for pair in pairs_of(part / "images", part / _TRUTHS)
        ]
        if not pairs:
            raise ConfigError(
                f"data.root: {root} has no folder with 'images' and {_TRUTHS!r} inside"
            )
        kind = f"label map in {_TRUTHS}"
        super().__init__(pairs, root, split, read=read_regions, wrap=one_annotation, kind=kind)
