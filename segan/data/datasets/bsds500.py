"""Berkeley Segmentation Data Set 500 (Arbelaez, Maire, Fowlkes & Malik, TPAMI 2011).

Natural pictures, each cut into regions by four to nine people.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import loadmat

from segan.config import settings
from segan.data.images import (
    UnreadableImage,
    find_images,
    one_line,
    read_image,
    reading,
    require_folder,
)
from segan.data.inspection import inspect, require_pairs, require_size, require_some
from segan.data.sample import Annotations, Sample, Split
from segan.errors import ConfigError

_FOLDERS = {"train": "train", "dev": "val", "test": "test"}  # ours to the official split


@settings
class Bsds500Config:
    """The set with its official splits; our "dev" is its "val".

    Attributes:
        root: The folder `BSDS500`, which holds `data/images` and `data/groundTruth`, or the one
            around it.
    """

    type: Literal["bsds500"] = "bsds500"
    root: Path


class Bsds500:
    """Pictures of both orientations, with every person's label map.

    Raises:
        ConfigError: The root is missing or is not laid out like the set, or a split is not there.
        DataError: Too many files cannot be read, or some have no ground truth.
    """

    name = "bsds500"
    provides = frozenset({"images", "annotations"})
    box_source = ""

    def __init__(self, config: Bsds500Config, split: Split = "train") -> None:
        root = require_folder(config.root)
        root = (root / "BSDS500" if (root / "BSDS500").is_dir() else root) / "data"
        images = root / "images"
        folders = _folders(images, split)
        paths = [path for folder in folders for path in find_images(images / folder)]
        require_some(paths, images / folders[0] if len(folders) == 1 else images, split)
        pictures, self.skipped = inspect({path.stem: path for path in paths}, images)
        self._paths = [picture.path for picture in pictures]
        self._truths = {
            path.stem: path
            for folder in folders
            for path in (root / "groundTruth" / folder).glob("*.mat")
        }
        require_pairs([path.stem for path in self._paths], self._truths, "ground truth (.mat)")
        require_some(self._paths, images, split)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        path = self._paths[index]
        image = read_image(path)
        truth = read_annotations(self._truths[path.stem])
        for labels in truth.labels:
            require_size(labels, image, str(self._truths[path.stem]))
        return Sample(path.stem, image, truth=truth)


def _folders(images: Path, split: Split) -> list[str]:
    """The official splits that make up one of ours, checked to be there."""
    there = [name for name in _FOLDERS.values() if (images / name).is_dir()]
    wanted = there if split == "all" else [_FOLDERS[split]]
    if not there or not set(wanted) <= set(there):
        named = "" if split == "all" else f" for the split {split!r}"
        ours = [f"{name} (split {key!r})" for key, name in _FOLDERS.items() if name in there]
        found = f"; found {', '.join(ours)}" if there else ""
        raise ConfigError(
            f"data.root: no folder {one_line(str(images / (wanted or ['train'])[0]))}{named}{found}"
        )
    return wanted


def read_annotations(path: Path) -> Annotations:
    """Every person's label map, int32 [H, W], regions from 1, of a file of ground truth.

    Raises:
        UnreadableImage: The file is damaged or holds no such maps.
    """
    with reading(path):
        content = loadmat(path, variable_names=["groundTruth"])
        cells = content.get("groundTruth", np.empty(0))
        if not cells.size or cells.dtype != object:
            raise UnreadableImage(path, "it has no cell 'groundTruth' of segmentations")
        return Annotations(tuple(torch.from_numpy(_labels(path, cell)) for cell in cells.ravel()))


def _labels(path: Path, cell: Any) -> NDArray[np.int32]:
    if "Segmentation" not in (cell.dtype.names or ()) or cell.size != 1:
        raise UnreadableImage(path, "a cell of 'groundTruth' has no 'Segmentation'")
    labels = cell["Segmentation"].item()
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise UnreadableImage(path, "a 'Segmentation' is not a matrix of integers")
    result: NDArray[np.int32] = labels.astype(np.int32)
    return result
