"""Label files as the classes and regions they mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from segan.data.images import UnreadableImage, read_image, read_labels, read_mask

VOID = -1

Colour = tuple[int, int, int]


def read_classes(path: Path, *, classes: Mapping[int, int]) -> Tensor:
    """A label map's classes, int32 [H, W].

    Args:
        path: One number per pixel, as gray levels or palette indices.
        classes: The class of each number that may occur, -1 where it says nothing.

    Raises:
        UnreadableImage: The file is no label map, or holds another number; one is named.
    """
    stored = read_labels(path)
    table = torch.full((max(classes) + 1,), VOID - 1, dtype=torch.int32)
    table[list(classes)] = torch.tensor(list(classes.values()), dtype=torch.int32)
    inside = (stored >= 0) & (stored < len(table))
    found = torch.where(inside, table[stored.clamp(0, len(table) - 1).long()], VOID - 1)
    if (unknown := found < VOID).any():
        number = int(stored[unknown][0])
        raise UnreadableImage(path, f"{number} is not one of its set's {len(classes)} labels")
    return found


def read_colour_classes(path: Path, *, classes: Mapping[Colour, int], tolerance: int = 0) -> Tensor:
    """The classes of a map that draws each in a colour, int32 [H, W].

    Args:
        path: A picture of colours.
        classes: The class of each colour that may occur, -1 where it says nothing.
        tolerance: Largest difference per channel, gray levels, from a colour that is still it.

    Raises:
        UnreadableImage: The file cannot be read, or holds another colour; one is named.
    """
    image = read_image(path)
    found = torch.full(image.shape[1:], VOID - 1, dtype=torch.int32)
    for colour, number in classes.items():
        reference = torch.tensor(colour, dtype=torch.int16)[:, None, None]
        found[(image.short() - reference).abs().amax(0) <= tolerance] = number
    if (unknown := found < VOID).any():
        colour = tuple(image[:, unknown][:, 0].tolist())
        raise UnreadableImage(path, f"the colour {colour} is not one of its set's {len(classes)}")
    return found


def read_regions(path: Path) -> Tensor:
    """The regions of a map that draws each in a colour of its own, int32 [H, W].

    Regions count from 1 in the order of their colours; 0 is black or transparent, where nothing
    was annotated.

    Raises:
        UnreadableImage: The file cannot be read.
    """
    red, green, blue = read_image(path).int().unbind(0)
    colours, regions = torch.unique(red << 16 | green << 8 | blue, return_inverse=True)
    return torch.add(regions, int(colours[0] != 0)).int()


# More classes than any such map has, and darker than the gray levels that anti-aliasing leaves.
_MOST_CLASSES = 64


def read_objects(path: Path) -> Tensor:
    """The objects of a mask, above gray level 127: bool [H, W].

    Raises:
        UnreadableImage: The file cannot be read or is no mask; one whose brightest level is above 1
            and below 128 is taken for a map of class numbers, and so is one of the lowest levels
            and 255 alone, which such maps use for what nobody annotated.
    """
    levels = read_mask(path)
    brightest = int(levels.max())
    if 1 < brightest < 128:
        raise UnreadableImage(
            path,
            f"no gray level is above {brightest}, as in a map of class numbers; objects of a mask "
            "are above 127, or 1 beside 0",
        )
    below = int(levels[levels < 255].max()) if bool((levels < 255).any()) else 0
    if brightest == 255 and 0 < below < _MOST_CLASSES:
        raise UnreadableImage(
            path,
            f"its gray levels are 0 to {below} and 255, as in a map of class numbers with a void; "
            "objects of a mask are above 127, or 1 beside 0",
        )
    return levels > (127 if brightest > 1 else 0)


def numbered(names: Sequence[str], *, void: int) -> dict[int, int]:
    """Labels stored as the numbers of their classes, and one label for void."""
    return {**{number: number for number in range(len(names))}, void: VOID}
