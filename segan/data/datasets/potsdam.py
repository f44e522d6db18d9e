"""ISPRS Potsdam: aerial tiles of 6000 x 6000 pixels, cut up as IIC (Ji et al., ICCV 2019) does.

IIC halves every tile and cuts it into 15 x 15 squares of 200 pixels. It draws its test squares at
random from all labelled tiles; here the set's own test tiles are test, so that no test square
touches a training square. IIC also has the infrared channel; this reader has RGB.
"""

from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import torch
from pydantic import Field
from torch import Tensor

from segan.config import settings
from segan.data.images import image_size, require_folder
from segan.data.labels import VOID, Colour, read_colour_classes
from segan.data.paired import Pair, PairedImages
from segan.data.sample import Classes, Sample, Split
from segan.errors import ConfigError

_IMAGE, _LABELS = "_RGB.tif", "_label.tif"

# The set's test tiles, by row and column, from memory of its description; the other 24 train.
_TEST = frozenset(
    {"2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"}
    | {"5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"}
)

_COLOURS: dict[str, Colour] = {
    "road": (255, 255, 255),
    "building": (0, 0, 255),
    "low vegetation": (0, 255, 255),
    "tree": (0, 255, 0),
    "car": (255, 255, 0),
    "clutter": (255, 0, 0),
}
# Black divides the classes in the labels without boundaries.
_BOUNDARY = (0, 0, 0)

# Gray levels per channel; from memory, a tile has cars in (252, 255, 0).
_TOLERANCE = 5

_JOINED = {"road": 0, "car": 0, "building": 1, "clutter": 1, "low vegetation": 2, "tree": 2}


@settings
class PotsdamConfig:
    """The orthophotos in RGB with their labels.

    Attributes:
        root: A folder with `top_potsdam_*_RGB.tif` and `top_potsdam_*_label.tif` at any depth.
        classes: The set's 6, or IIC's 3: roads with cars, buildings with clutter, vegetation.
        side: Of a square, pixels, after shrinking.
        shrink: How many times smaller a tile is made first.
    """

    type: Literal["potsdam"] = "potsdam"
    root: Path
    classes: Literal[6, 3] = 6
    side: int = Field(default=200, ge=16)
    shrink: int = Field(default=2, ge=1)


class Potsdam(PairedImages):
    """Squares named tile, row and column, such as 2_10-00-14, of the tiles that have labels.

    Shrunk tiles are kept in memory once read, 36 MB each at the default settings.

    Raises:
        ConfigError: The root is missing or has no tiles.
        DataError: Too many files cannot be read, labels are missing, or the split is empty.
    """

    name = "potsdam"
    provides = frozenset({"images", "classes"})

    def __init__(self, config: PotsdamConfig, split: Split = "train") -> None:
        joined = ("road", "building", "vegetation")
        self.class_names = tuple(_COLOURS) if config.classes == 6 else joined
        self._config = config
        root = require_folder(config.root)
        classes = {colour: i for i, colour in enumerate(_COLOURS.values())}
        if config.classes == 3:
            classes = {colour: _JOINED[name] for name, colour in _COLOURS.items()}
        read = partial(
            read_colour_classes, classes=classes | {_BOUNDARY: VOID}, tolerance=_TOLERANCE
        )
        kind = f"label map (*{_LABELS})"
        super().__init__(_tiles(root), root, split, read=read, wrap=Classes, kind=kind)
        self._squares = [
            (tile, row, column)
            for tile, pair in enumerate(self.pairs)
            for row, column in _grid(image_size(pair.image), config.side * config.shrink)
        ]
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._squares)

    def __getitem__(self, index: int) -> Sample:
        tile, row, column = self._squares[index]
        if tile not in self._kept:
            self._kept[tile] = self._shrunk(tile)
        side = self._config.side
        area = (..., slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        image, labels = (whole[area].clone() for whole in self._kept[tile])
        name = f"{self.pairs[tile].name}-{row:02}-{column:02}"
        return Sample(name, image, None, Classes(labels.int()))

    def _shrunk(self, tile: int) -> tuple[Tensor, Tensor]:
        """A tile's picture uint8 [3, H, W], averaged, and classes int8 [H, W], sampled."""
        sample = super().__getitem__(tile)
        assert isinstance(sample.truth, Classes)
        step = self._config.shrink
        _, height, width = sample.image.shape
        pixels = sample.image.permute(1, 2, 0).numpy()
        size = (width // step, height // step)
        small = torch.from_numpy(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
        labels = sample.truth.labels[::step, ::step][: size[1], : size[0]].to(torch.int8)
        return small.permute(2, 0, 1).contiguous(), labels.contiguous()


def _tiles(root: Path) -> list[Pair]:
    """All tiles of the training part, and those of the test part that have labels.

    Most downloads have no labels for the test tiles, which were kept back for years.
    """
    images, labels = (
        {path.name.removeprefix("top_potsdam_").removesuffix(end): path for path in sorted(paths)}
        for end in (_IMAGE, _LABELS)
        for paths in [root.rglob(f"top_potsdam_*{end}")]
    )
    if not images:
        raise ConfigError(f"data.root: {root} has no top_potsdam_*{_IMAGE} at any depth")
    return [
        Pair(
            name,
            path,
            labels.get(name, path.with_name(f"top_potsdam_{name}{_LABELS}")),
            "test" if name in _TEST else "train or dev",
        )
        for name, path in images.items()
        if name in labels or name not in _TEST
    ]


def _grid(size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Rows and columns of the whole squares in a tile."""
    return [(row, column) for row in range(size[0] // side) for column in range(size[1] // side)]
