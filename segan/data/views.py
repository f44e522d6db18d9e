"""Views: what a method needs of the data, and how a sample becomes an item of its batch.

A view's batches have no field for masks: that training is unsupervised is a property of the types.
The one exception is in a file of its own, `segan.data.masked`.
"""

from typing import ClassVar, Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from segan.data.sample import Dataset, Sample
from segan.errors import ConfigError
from segan.segmenter import WindowSpec
from segan.windows import (
    Window,
    box_in_window,
    boxes_to_mask,
    crop,
    free_positions,
    overlaps,
    window_around,
)

Placement = Literal["uniform", "scanline"]
Neighbours = Literal["hide", "avoid", "show"]


class Units(NamedTuple):
    """What one draw may draw.

    Attributes:
        items: (sample index, unit within the sample): a box for box methods.
        skipped: One line for each unit that cannot be used, with the reason.
        noun: What a unit is, in the plural.
    """

    items: list[tuple[int, int]]
    skipped: list[str]
    noun: str = "objects"


class View(Protocol):
    """What a method sees of a data set.

    Attributes:
        needs: Subset of a data set's `provides`; "masks" for the supervised bound alone.
    """

    needs: ClassVar[frozenset[str]]

    def units(self, dataset: Dataset) -> Units:
        """Everything that can be drawn from a data set."""
        ...

    def window(self, sample: Sample, unit: int) -> Window | None:
        """The part of a picture that a unit shows, or None for all of it."""
        ...

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """One item of a batch, a named tuple of tensors; random only through `rng`."""
        ...


class ImageBatch(NamedTuple):
    """Parts of pictures, [N, 3, S, S] in [0, 1]."""

    images: Tensor


class PairBatch(NamedTuple):
    """Parts of pictures, and the noise that makes a second view of each.

    The view draws the noise and the method applies it, on its device: the number of processes
    changes nothing.

    Attributes:
        images: [N, 3, S, S] in [0, 1].
        photometric: [N, 4] uniform in [-1, 1): brightness, contrast, saturation, hue.
        geometric: [N, 4] uniform in [-1, 1): rotation, scale, shift across, shift down.
        flip: [N], 1 to mirror left and right, else 0.
    """

    images: Tensor
    photometric: Tensor
    geometric: Tensor
    flip: Tensor


class ImageView:
    """A random square part of each picture, at one scale: all that clustering needs.

    Args:
        size: Side of the part, network pixels.
        scale: Network pixels per picture pixel.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(self, size: int, scale: float = 1.0) -> None:
        self.size = size
        self.scale = scale
        self.side = round(size / scale)

    def units(self, dataset: Dataset) -> Units:
        """All pictures that are large enough.

        Raises:
            ConfigError: None is.
        """
        items, skipped = [], []
        for index in range(len(dataset)):
            sample = dataset[index]
            height, width = _size(sample)
            if min(height, width) >= self.side:
                items.append((index, 0))
            else:
                skipped.append(
                    f"{sample.name}: {width} x {height} pixels, less than {self.side} "
                    "('method.size' over 'method.scale')"
                )
        if not items:
            raise ConfigError(
                f"every picture of {dataset.name} is smaller than {self.side} pixels, which is "
                "'method.size' over 'method.scale'; lower the size or raise the scale"
            )
        return Units(items, skipped, "pictures")

    def window(self, sample: Sample, unit: int) -> Window | None:  # noqa: ARG002
        """None: there is no window but the picture."""
        return None

    def part(self, sample: Sample, rng: np.random.Generator) -> Tensor:
        """A random part [3, S, S] of a picture."""
        height, width = _size(sample)
        left = int(rng.integers(width - self.side + 1))
        top = int(rng.integers(height - self.side + 1))
        window = Window(left, top, left + self.side, top + self.side)
        return crop(sample.image, window, self.size)

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> ImageBatch:  # noqa: ARG002
        """One part of a picture."""
        return ImageBatch(self.part(sample, rng))


class PairView(ImageView):
    """A part of a picture and the noise that makes another view of it (Ji et al. 2019)."""

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> PairBatch:  # type: ignore[override]  # noqa: ARG002
        """One part, and the numbers that its second view is made with."""
        images = self.part(sample, rng)
        noise = torch.from_numpy(rng.uniform(-1, 1, 8).astype(np.float32))
        flip = torch.tensor(float(rng.integers(2)))
        return PairBatch(images, noise[:4], noise[4:], flip)


class ShiftBatch(NamedTuple):
    """Parts of pictures, and the noise with which objects are moved; as in `PairBatch`, drawn only.

    Attributes:
        images: [N, 3, S, S] in [0, 1].
        offsets: [N, 2] uniform in [-1, 1): to the right and down.
        jitter: [N, 2] uniform in [0, 1): brightness of the object and of the rest.
        colour: [N, 3] uniform in [-1, 1): brightness, saturation, contrast of all that is judged.
        polygons: [N, 1, S, S] of 0 and 1: random polygons, the masks of grounded fakes.
    """

    images: Tensor
    offsets: Tensor
    jitter: Tensor
    colour: Tensor
    polygons: Tensor


class ShiftView(ImageView):
    """A part of a picture and the noise that moves what is cut from it (Bielski & Favaro 2022)."""

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> ShiftBatch:  # type: ignore[override]  # noqa: ARG002
        """One part, and the numbers that it is moved and coloured by."""
        images = self.part(sample, rng)
        noise = torch.from_numpy(rng.uniform(-1, 1, 7).astype(np.float32))
        polygon = random_polygon(rng, self.size)
        return ShiftBatch(images, noise[:2], (noise[2:4] + 1) / 2, noise[4:], polygon)


class CutPasteBatch(NamedTuple):
    """Object windows, each with an object-free window from the same picture.

    Attributes:
        objects: [N, 3, S, S] in [0, 1].
        backgrounds: [N, 3, S, S] in [0, 1], crops of the same size resampled exactly as the
            objects, unless the view was told that smaller ones will do.
        boxes: [N, 4] the object's box in window pixels, half-open.
        jitter: [N, 3] uniform in [0, 1): photometric noise of object, background and real window.
        polygons: [N, 1, S, S] of 0 and 1: random polygons, the masks of grounded fakes.
        hidden: [N, 1, S, S], 1 inside the boxes of other objects, where discriminators must not
            look: composites never show a second object, so they would take one for the sign of a
            real window.
    """

    objects: Tensor
    backgrounds: Tensor
    boxes: Tensor
    jitter: Tensor
    polygons: Tensor
    hidden: Tensor


class CutPasteView:
    """An object's window, and a place elsewhere in the picture to paste it (Remez et al. 2018).

    Args:
        spec: Size and context of the windows.
        placement: "uniform": any window of the same size that overlaps no box. "scanline": one at
            the same height where there is room, which keeps the scale right under perspective;
            otherwise uniform.
        neighbours: What becomes of other objects in a window: "hide" them from discriminators,
            "avoid" windows that show any, or "show" them.
        smallest_background: Where the picture has no room for a background window as large as the
            object's, take the largest that fits, down to this share of it and to the size of
            the network's input. Both are then shrunk, though not by the same factor.
        shift: The window's centre is moved by up to this share of the box, on each axis, so that
            a mask cannot be had from the position alone.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images", "boxes"})

    def __init__(
        self,
        spec: WindowSpec,
        placement: Placement,
        *,
        neighbours: Neighbours = "hide",
        smallest_background: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        self.spec = spec
        self.placement = placement
        self.neighbours = neighbours
        self.smallest_background = smallest_background
        self.shift = shift

    def window(self, sample: Sample, unit: int, shift: tuple[float, float] = (0.0, 0.0)) -> Window:
        """The window around box `unit`, its centre moved by `shift` box sides."""
        assert sample.boxes is not None
        return window_around(
            sample.boxes[unit],
            _size(sample),
            context=self.spec.context,
            square=self.spec.square,
            shift=shift,
        )

    def units(self, dataset: Dataset) -> Units:
        """All boxes for which the picture has a free background window.

        Raises:
            ConfigError: A box lies outside its picture, or every picture is smaller than a window.
        """
        items, skipped, largest = [], [], 0
        for index in range(len(dataset)):
            sample = dataset[index]
            largest = max(largest, min(sample.image.shape[-2:]))
            for unit in range(_count_boxes(sample)):
                reason = self._unusable(sample, unit)
                if reason is None:
                    items.append((index, unit))
                else:
                    skipped.append(f"{sample.name}, box {unit + 1}: {reason}")
        if largest < self.spec.size:
            raise ConfigError(
                f"every picture of {dataset.name} is smaller than the windows of "
                f"{self.spec.size} pixels ('method.size'); the largest has {largest}"
            )
        return Units(items, skipped)

    def _unusable(self, sample: Sample, unit: int) -> str | None:
        """Why box `unit` cannot be trained on, if so."""
        assert sample.boxes is not None
        height, width = _size(sample)
        if min(height, width) < self.spec.size:
            return f"{width} x {height} pixels are less than the window of {self.spec.size}"
        window = self.window(sample, unit)
        shown = overlaps(self._reach(sample, unit), sample.boxes)
        if self.neighbours == "avoid" and shown.sum() > 1:
            return "its window shows another object ('method.neighbours' is 'avoid')"
        if self._room(sample, window) is None:
            return "no room for a background window beside the objects"
        return None

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> CutPasteBatch:
        """One object, its window and a background window."""
        assert sample.boxes is not None
        across, down = rng.uniform(-self.shift, self.shift, 2)
        window = self.window(sample, unit, (across, down))
        place = self._place(sample, window, rng)
        size = self.spec.size
        return CutPasteBatch(
            objects=crop(sample.image, window, size),
            backgrounds=crop(sample.image, place, size),
            boxes=box_in_window(sample.boxes[unit], window, size),
            jitter=torch.from_numpy(rng.random(3, dtype=np.float32)),
            polygons=random_polygon(rng, size),
            hidden=self._hidden(sample.boxes, unit, window),
        )

    def _hidden(self, boxes: Tensor, unit: int, window: Window) -> Tensor:
        """What discriminators must not look at: [1, S, S]."""
        if self.neighbours != "hide":
            return torch.zeros(1, self.spec.size, self.spec.size)
        return other_boxes(boxes, unit, window, self.spec.size)

    def _reach(self, sample: Sample, unit: int) -> Window:
        """Everything that windows of a box may show, however they are shifted."""
        ends = (-self.shift, self.shift)
        corners = [self.window(sample, unit, (across, down)) for across in ends for down in ends]
        x0, y0, x1, y1 = zip(*corners, strict=True)
        return Window(min(x0), min(y0), max(x1), max(y1))

    def _room(self, sample: Sample, window: Window) -> tuple[Window, Tensor] | None:
        """The size of the background for an object's window, and where it can lie, if anywhere."""
        assert sample.boxes is not None
        scale = 1.0
        while scale >= self.smallest_background:
            width, height = round(scale * window.width), round(scale * window.height)
            if scale < 1 and min(width, height) < self.spec.size:
                return None
            smaller = Window(window.x0, window.y0, window.x0 + width, window.y0 + height)
            free = free_positions(smaller, sample.boxes, _size(sample))
            if free.any():
                return smaller, free
            scale *= 0.9
        return None

    def _place(self, sample: Sample, window: Window, rng: np.random.Generator) -> Window:
        room = self._room(sample, window)
        assert room is not None
        background, free = room
        top = 0
        if self.placement == "scanline" and free[window.y0 : window.y0 + 1].any():
            top, free = window.y0, free[window.y0 : window.y0 + 1]
        places = free.flatten().nonzero()[:, 0]
        row, column = divmod(int(places[rng.integers(len(places))]), free.shape[1])
        return background.moved_to(column, top + row)


def _count_boxes(sample: Sample) -> int:
    """How many boxes a picture has.

    Raises:
        ConfigError: One of them does not lie inside.
    """
    if sample.boxes is None:
        return 0
    height, width = _size(sample)
    for number, (x0, y0, x1, y1) in enumerate(sample.boxes.tolist(), start=1):
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ConfigError(
                f"{sample.name}: box {number} ({x0:g}, {y0:g}, {x1:g}, {y1:g}) does not lie "
                f"inside its picture of {width} x {height} pixels"
            )
    return len(sample.boxes)


def other_boxes(boxes: Tensor, unit: int, window: Window, side: int) -> Tensor:
    """The other boxes in a window, without what they share with box `unit`: [1, S, S] of 0, 1."""
    others = overlaps(window, boxes)
    others[unit] = False
    if not others.any():
        return torch.zeros(1, side, side)
    own, *rest = (
        boxes_to_mask(box_in_window(box, window, side)[None], (side, side))[0]
        for box in (boxes[unit], *boxes[others])
    )
    return torch.stack(rest).amax(0) * (1 - own)


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[1], sample.image.shape[2]


def random_polygon(rng: np.random.Generator, size: int) -> Tensor:
    """A mask [1, size, size] of a random polygon (Arandjelovic & Zisserman 2019, appendix A).

    Four to six corners at sorted angles around a centre in the middle 80 %, at radii of 0.1 to 0.5
    of the side.
    """
    corners = int(rng.integers(4, 7))
    centre = rng.uniform(0.1, 0.9, 2)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.1, 0.5, corners)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [(points * size).round().astype(np.int32)], (1.0,))
    return torch.from_numpy(mask)[None]
