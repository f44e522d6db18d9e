"""What was found in one picture, as every output format takes it. Arrays, not tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[Any]  # integers [H, W]
Mask = NDArray[np.bool_]  # [h, w], True on the object

OBJECT = "object"


class Object(NamedTuple):
    """One object or region of a picture.

    Attributes:
        category: Its number in `Found.category_names`.
        left: Of its tight box, pixels.
        top: Likewise.
        mask: bool [h, w], inside its box.
        score: Mean probability of its pixels, in [0, 1]; None where there are none.
    """

    category: int
    left: int
    top: int
    mask: Mask
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found in one picture.

    Attributes:
        name: What its outputs are called, below their folders and without suffix.
        file: The picture's path below the folder that was given, with suffix.
        labels: Integers [H, W]: 0 and 1 for background and object, or regions' numbers from 0.
        objects: Integers [H, W]: 0 where there is none, i + 1 on object i. Without separation a
            mask is one object, and each region is one.
        object_categories: [B], the category of each object.
        category_names: ("object",) for masks; names of regions otherwise.
        named: Whether `labels` is a mask of objects rather than numbers of regions.
        probability: Of the object, float32 [H, W] in [0, 1]; None for regions.
        picture: uint8 [H, W, 3], RGB; None when no format needs it.
    """

    name: str
    file: str
    labels: Labels
    objects: Labels
    object_categories: NDArray[np.intp]
    category_names: tuple[str, ...]
    named: bool
    probability: NDArray[np.float32] | None = None
    picture: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.labels.shape
        return height, width

    def each(self) -> Iterator[Object]:
        """The objects one by one, those without a pixel left out."""
        for number, place in enumerate(ndimage.find_objects(self.objects), start=1):
            if place is None:
                continue
            mask: Mask = self.objects[place] == number
            score = None
            if self.probability is not None:
                score = float(self.probability[place][mask].mean())
            category = int(self.object_categories[number - 1])
            yield Object(category, place[1].start, place[0].start, mask, score)
