"""Boxes and the windows around them: the one place where pictures are cropped and masks put back.

A window is an integer crop of a picture around a box, with a ring of context (the "viewport" of
cut-and-paste), resampled to the network's input size. A window that would leave the picture is
moved inside it, never padded: padding would tell a discriminator where the picture ended. Boxes
and windows are half-open, (x0, y0, x1, y1) in pixels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Window(NamedTuple):
    """An integer crop of a picture, half-open, in pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.y1 - self.y0

    def moved_to(self, x: int, y: int) -> "Window":
        """The window of this size whose top left corner is (x, y)."""
        return Window(x, y, x + self.width, y + self.height)


def window_around(
    box: Tensor,
    picture_size: tuple[int, int],
    *,
    context: float,
    square: bool = True,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Window:
    """The window of `context` times a box, moved inside the picture and never larger than it.

    Args:
        box: [4], half-open pixels.
        picture_size: Height and width of the picture.
        context: Window side over box side, at least 1.
        square: Whether both sides are `context` times the longer side of the box.
        shift: How far the window's centre lies from the box's, in box sides (x, y).
    """
    x0, y0, x1, y1 = box.tolist()
    height, width = picture_size
    box_width, box_height = x1 - x0, y1 - y0
    longer = max(box_width, box_height)
    wanted_width = longer if square else box_width
    wanted_height = longer if square else box_height
    side_x = min(max(round(context * wanted_width), 1), width)
    side_y = min(max(round(context * wanted_height), 1), height)
    centre_x = (x0 + x1) / 2 + shift[0] * box_width
    centre_y = (y0 + y1) / 2 + shift[1] * box_height
    left = min(max(round(centre_x - side_x / 2), 0), width - side_x)
    top = min(max(round(centre_y - side_y / 2), 0), height - side_y)
    return Window(left, top, left + side_x, top + side_y)


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased resampling of [N, C, H, W] to `size` (height, width)."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def crop(image: Tensor, window: Window, size: int) -> Tensor:
    """A window, float [C, size, size] in [0, 1], of a picture [C, H, W], uint8 or in [0, 1]."""
    region = image[:, window.y0 : window.y1, window.x0 : window.x1]
    region = region.float() / 255 if image.dtype == torch.uint8 else region.float()
    return resize(region[None], (size, size))[0].clamp(0, 1)


def put_back(values: Tensor, window: Window, picture_size: tuple[int, int]) -> Tensor:
    """Network output [C, S, S] resampled into its window of an otherwise zero [C, H, W]."""
    picture = values.new_zeros(values.shape[0], *picture_size)
    region = resize(values[None], (window.height, window.width))[0]
    picture[:, window.y0 : window.y1, window.x0 : window.x1] = region
    return picture


def box_in_window(box: Tensor, window: Window, size: int) -> Tensor:
    """A picture's box [4] in the pixels of its window resampled to `size`, clipped to it."""
    scale = box.new_tensor([size / window.width, size / window.height] * 2)
    origin = box.new_tensor([window.x0, window.y0] * 2)
    return ((box - origin) * scale).clamp(0, size)


def boxes_to_mask(boxes: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Masks [N, 1, H, W], one inside each box [N, 4] and zero outside, by pixel centres."""
    height, width = size
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    columns = (x >= x0) & (x < x1)
    rows = (y >= y0) & (y < y1)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def overlaps(window: Window, boxes: Tensor) -> Tensor:
    """Which boxes [B, 4] share some area with a window: bool [B]."""
    x0, y0, x1, y1 = boxes.unbind(1)
    return (x0 < window.x1) & (x1 > window.x0) & (y0 < window.y1) & (y1 > window.y0)


def free_positions(window: Window, boxes: Tensor, picture_size: tuple[int, int]) -> Tensor:
    """Where a window of this size overlaps no box.

    Returns:
        bool [H - height + 1, W - width + 1]: True at (y, x) when the window whose top left corner
        is there lies inside the picture and is disjoint from every box [B, 4].
    """
    height, width = picture_size
    rows, columns = height - window.height + 1, width - window.width + 1
    free = torch.ones(max(rows, 0), max(columns, 0), dtype=torch.bool)
    for x0, y0, x1, y1 in boxes.tolist():
        # Overlap: left < x1 and left + width > x0; the same for rows.
        left, right = int(x0) - window.width + 1, int(-(-x1 // 1))
        top, bottom = int(y0) - window.height + 1, int(-(-y1 // 1))
        free[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = False
    return free
