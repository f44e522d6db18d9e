"""White blood cells, segmentation_WBC "Dataset 1" (Zheng et al., Micron 2018): one cell each."""

from pathlib import Path
from typing import Literal

from segan.config import settings
from segan.data.boxes import boxes_of
from segan.data.images import read_image, read_mask, require_folder
from segan.data.inspection import inspect, require_pairs, require_size, require_some
from segan.data.sample import Mask, Sample, Split
from segan.data.splits import members

_LEVELS = {"cell": 63, "nucleus": 191}  # stored: 0 rest, 128 cytoplasm, 255 nucleus


@settings
class WbcConfig:
    """The set's "Dataset 1".

    Attributes:
        root: The folder "Dataset 1" or the one around it.
        objects: The whole cell, which is nucleus and cytoplasm, or the nucleus alone.
    """

    type: Literal["wbc"] = "wbc"
    root: Path
    objects: Literal["cell", "nucleus"] = "cell"


class Wbc:
    """Cells named 001 to 300, with the tight box of each mask.

    Raises:
        ConfigError: The root is missing or has no images.
        DataError: Too many files cannot be read, masks are missing, or the split is empty.
    """

    name = "wbc"
    provides = frozenset({"images", "boxes", "masks"})
    box_source = "masks"

    def __init__(self, config: WbcConfig, split: Split = "train") -> None:
        root = require_folder(config.root)
        if (root / "Dataset 1").is_dir():
            root = root / "Dataset 1"
        paths = [path for path in root.glob("*.bmp") if path.stem.isdigit()]
        files = {path.stem: path for path in sorted(paths, key=lambda path: int(path.stem))}
        pictures, self.skipped = inspect(files, root)
        names = [picture.name for picture in pictures]
        require_pairs(names, {path.stem for path in root.glob("*.png")}, "mask (.png)")
        chosen = members(names, [picture.digest for picture in pictures], split)
        self._paths = [pictures[i].path for i in chosen]
        require_some(self._paths, root, split)
        self._level = _LEVELS[config.objects]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        image = read_image(path)
        mask = read_mask(path.with_suffix(".png")) > self._level
        require_size(mask, image, path.stem)
        return Sample(path.stem, image, boxes_of(mask.int()), Mask(mask))
