"""Masks of objects are told from maps of class numbers by their gray levels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segan.data.images import UnreadableImage
from segan.data.labels import read_objects


def saved(folder: Path, *levels: int) -> Path:
    """A mask with one column of each level."""
    path = folder / "mask.png"
    Image.fromarray(np.tile(np.array(levels, np.uint8), (4, 1))).save(path)
    return path


@pytest.mark.parametrize(
    ("levels", "objects"),
    [
        ((0, 255), [False, True]),
        ((0, 1), [False, True]),
        ((0, 0), [False, False]),
        ((0, 30, 200, 255), [False, False, True, True]),
        ((0, 237), [False, True]),
    ],
)
def test_objects_are_above_the_middle_or_one(tmp_path: Path, levels: tuple, objects: list) -> None:
    assert read_objects(saved(tmp_path, *levels))[0].tolist() == objects


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((0, 1, 2, 20), "no gray level is above 20"),
        (
            (0, 1, 255),
            "its gray levels are 0 to 1 and 255, as in a map of class numbers with a void",
        ),
        ((0, 20, 255), "its gray levels are 0 to 20 and 255"),
    ],
)
def test_maps_of_class_numbers_are_refused(tmp_path: Path, levels: tuple, message: str) -> None:
    with pytest.raises(UnreadableImage, match=message):
        read_objects(saved(tmp_path, *levels))
