"""Masks drawn onto pictures, for people to look at. Arrays, not tensors: uint8 [H, W, 3], RGB."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segan.errors import ConfigError

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

# Cyan: neither skin, plants, stained tissue nor the usual fluorescence look like it.
MASK_COLOR: Color = (0, 225, 255)


def palette(count: int) -> NDArray[np.uint8]:
    """`count` colours [count, 3] that differ as much as so many can, always the same.

    Hues a golden ratio of the circle apart, in three rounds of brightness.
    """
    index = np.arange(count)
    hsv = np.stack([index * 0.618034 % 1 * 360, 0.55 + 0.15 * (index % 3), 1 - 0.2 * (index % 4)])
    colors = cv2.cvtColor(hsv.T[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]
    return np.asarray((255 * colors).round(), np.uint8)


def label_colors(labels: NDArray[np.integer]) -> Picture:
    """A label map [H, W] from 0 as a picture of one colour per label."""
    picture: Picture = palette(int(labels.max()) + 1)[labels]
    return picture


def label_overlay(picture: Picture, labels: NDArray[np.integer]) -> Picture:
    """The picture with each region tinted in its colour, and a white line between regions."""
    colors = palette(int(labels.max()) + 1)
    mixed = np.empty_like(picture)
    # In floats row by row: a large picture would take many times its size.
    for row, (pixels, numbers) in enumerate(zip(picture, labels, strict=True)):
        mixed[row] = (0.55 * pixels + 0.45 * colors[numbers]).round()
    ends = np.zeros(labels.shape, np.bool_)
    ends[:-1] |= labels[:-1] != labels[1:]
    ends[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    mixed[ends] = 255
    return mixed


def tint(picture: Picture, mask: NDArray[np.generic], *, color: Color, strength: float) -> Picture:
    """The picture with `color` mixed in where the mask is set.

    Args:
        picture: uint8 [H, W, 3].
        mask: [H, W], not zero on objects.
        color: What to mix in.
        strength: Share of the colour, in [0, 1].
    """
    levels = np.arange(256)[:, None]
    mixed = ((1 - strength) * levels + strength * np.asarray(color)).round()
    inside = mask != 0
    tinted = picture.copy()
    for channel in range(3):
        plane = tinted[..., channel]
        plane[inside] = mixed[:, channel].astype(np.uint8)[plane[inside]]
    return tinted


def contour(picture: Picture, mask: NDArray[np.generic], *, color: Color, width: int) -> Picture:
    """The picture with a line along the inside of the mask's outline.

    Args:
        picture: uint8 [H, W, 3].
        mask: [H, W], not zero on objects.
        color: Of the line.
        width: Of the line, pixels.
    """
    inside = (mask != 0).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    # Objects go on beyond the picture: its border is no outline.
    core = cv2.erode(inside, kernel, borderType=cv2.BORDER_REPLICATE)
    drawn = picture.copy()
    drawn[(inside == 1) & (core == 0)] = color
    return drawn


def overlay(picture: Picture, mask: NDArray[np.generic], *, color: Color = MASK_COLOR) -> Picture:
    """The picture with its mask as a light tint inside a line, wider on larger pictures."""
    width = max(1, round(max(picture.shape[:2]) / 400))
    return contour(tint(picture, mask, color=color, strength=0.3), mask, color=color, width=width)


def index_image(labels: NDArray[np.integer], colors: bytes) -> Image.Image:
    """Numbers [H, W] as an image of colour indices, or of 16-bit gray levels above 255.

    Raises:
        ConfigError: There are more than 65536.
    """
    most = int(labels.max())
    if most > 65535:
        raise ConfigError(
            f"{most + 1} regions in one picture; an index file holds 65536: use a coarser segmenter"
        )
    if most > 255:
        return Image.fromarray(labels.astype(np.uint16))
    height, width = labels.shape
    content = np.ascontiguousarray(labels, np.uint8)
    # Not copied: nobody draws on it.
    indexed = Image.frombuffer("P", (width, height), content, "raw", "P", 0, 1)
    # All 256 entries: with fewer, Pillow packs several indices into a byte.
    indexed.putpalette(colors.ljust(3 * 256, b"\0"))
    return indexed
