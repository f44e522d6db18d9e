"""How a segmenter is run on pictures: what it sees, what it says, and that at the picture's size.

An engine's `prepare` and `finish` run in other threads, beside `segment`, which has the network for
itself and takes as many pictures of one size at a time as fit.
"""

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from segan.errors import ConfigError
from segan.evaluation.polarity import Named
from segan.evaluation.rows import probability_in_boxes, regions_of, scaled_image
from segan.exporting.whole import WholePicture
from segan.opening import Opened
from segan.refining import Flipped
from segan.segmenter import (
    NetworkSegmenter,
    PartitionSegmenter,
    RegionSegmenter,
    Segmenter,
    WindowSpec,
)
from segan.tiling import Tiling, blended, grid, stitched
from segan.windows import Window, resize

LARGE_PICTURE = 2**24
LARGE_IMAGE = 2**21
"""Pixels of a picture, and of what the network sees of it, above which it is cut into tiles."""

_TILE = 1024  # what the network sees of a tile, pixels
_MOST_TILE = 2048  # of the picture
_CONTEXT = 128  # overlap, network pixels; the default network looks 45 pixels around


class Engine(Protocol):
    """Runs one segmenter.

    Attributes:
        category_names: What is found.
        named: Whether `finish` gives an object's probability rather than numbers of regions.
        one_by_one: Whether `segment` takes one picture at a time.
    """

    category_names: tuple[str, ...]
    named: bool
    one_by_one: bool

    def prepare(self, picture: Tensor) -> Tensor:
        """What `segment` takes, of a picture uint8 [3, H, W]."""
        ...

    def segment(self, images: Sequence[Tensor], boxes: Tensor | None) -> Sequence[Tensor]:
        """What the network says of pictures that `prepare` gave one shape and type."""
        ...

    def finish(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """What `segment` gave, at the picture's own size [H, W]: float in [0, 1], or int."""
        ...


def build_engine(
    opened: Opened, *, in_boxes: bool, window: WindowSpec | None, flips: bool, tile: int | None
) -> Engine:
    """The engine for a segmenter.

    Args:
        opened: The segmenter.
        in_boxes: Whether only windows around boxes are looked at.
        window: The windows, for a segmenter without its own.
        flips: Whether it is asked about mirror images too.
        tile: Side of tiles in pixels of the picture; None: tiles for large pictures alone.

    Raises:
        ConfigError: The segmenter cannot do that.
    """
    unnamed = isinstance(opened.segmenter, RegionSegmenter | PartitionSegmenter)
    if unnamed and in_boxes:
        raise ConfigError(f"{opened.name} has unnamed regions, not objects; leave out --boxes")
    if flips and isinstance(opened.segmenter, PartitionSegmenter):
        raise ConfigError(
            f"--refine flips needs regions that mean the same; {opened.name} has none"
        )
    if tile and (in_boxes or not isinstance(opened.segmenter, NetworkSegmenter)):
        looks = "--boxes looks at windows" if in_boxes else f"{opened.name} looks at whole pictures"
        raise ConfigError(f"--tile is for trained networks; {looks}")
    if in_boxes:
        return BoxEngine(opened, window, flips=flips)
    if isinstance(opened.segmenter, PartitionSegmenter):
        return PartitionEngine(opened.segmenter, opened.device)
    if unnamed:
        return RegionEngine(opened, flips=flips, tile=tile)
    if opened.given_boxes:
        raise ConfigError(f"{opened.name} starts from a box around each object; give --boxes")
    return MaskEngine(opened, flips=flips, tile=tile)


class _NetworkEngine:
    """What masks and regions have in common: a scale, and tiles."""

    def __init__(self, opened: Opened, *, flips: bool, tile: int | None) -> None:
        self.segmenter = _ready(opened, flips=flips)
        self.device = opened.device
        self.scale = opened.scale
        self.can_tile = isinstance(opened.segmenter, NetworkSegmenter)
        self.tile = tile
        self.one_by_one = False

    def tiling(self, size: tuple[int, int]) -> Tiling | None:
        """The tiles of a picture; None if it is not cut."""
        pixels = size[0] * size[1]
        large = pixels > LARGE_PICTURE or pixels * self.scale**2 > LARGE_IMAGE
        side = self.tile or (min(round(_TILE / self.scale), _MOST_TILE) if large else 0)
        if not self.can_tile or not side or max(size) <= side:
            return None
        return Tiling(side=side, overlap=min(round(_CONTEXT / self.scale), side // 4))

    def seen(self, picture: Tensor) -> Tensor:
        """What the network sees of a picture or of a tile uint8 [3, H, W]: [3, h, w] in [0, 1]."""
        return scaled_image(picture, self.scale)

    def in_tiles(self, picture: Tensor, tiling: Tiling) -> "_Tiles":
        """A picture's tiles, each to be given to the network alone."""
        return _Tiles(self, picture, tiling)


class _Tiles:
    """One picture's tiles, seen with the mean and contrast of the whole picture."""

    def __init__(self, engine: _NetworkEngine, picture: Tensor, tiling: Tiling) -> None:
        self.engine = engine
        self.picture = picture
        self.segmenter = _without_statistics(engine.segmenter)
        self.standard = self.segmenter is not engine.segmenter
        self.mean, self.deviation = self._statistics(tiling) if self.standard else (0.0, 1.0)

    def _statistics(self, tiling: Tiling) -> tuple[float, float]:
        """Mean and standard deviation over all pixels and channels of what the network sees."""
        total = squares = count = 0.0
        size = int(self.picture.shape[1]), int(self.picture.shape[2])
        for window in grid(size, tiling.side):
            seen = self.engine.seen(_cut(self.picture, window)).double()
            total += float(seen.sum())
            squares += float(seen.square().sum())
            count += seen.numel()
        mean = total / count
        # As segan.networks.blocks.normalise.
        return mean, (max(squares / count - mean**2, 0.0) + 0.02**2) ** 0.5

    def regions(self, window: Window, which: slice = slice(None)) -> Tensor:
        """The regions [K, h, w] of a tile, or some of them, at its own size."""
        seen = self.engine.seen(_cut(self.picture, window)).to(self.engine.device)
        if self.standard:
            seen = (seen - self.mean) / self.deviation
        regions = self.segmenter(seen[None])[:, which]
        return resize(regions, (window.height, window.width))[0].clamp_(0, 1)


class MaskEngine(_NetworkEngine):
    """A named object in whole pictures, by the module that is exported too."""

    category_names: tuple[str, ...] = ("object",)
    named = True

    def __init__(self, opened: Opened, *, flips: bool, tile: int | None) -> None:
        super().__init__(opened, flips=flips, tile=tile)
        self.whole = WholePicture(self.segmenter, scale=opened.scale)

    def prepare(self, picture: Tensor) -> Tensor:
        """What the network sees; a large picture as it is."""
        if self.tiling((int(picture.shape[1]), int(picture.shape[2]))):
            return picture
        return self.whole.network_images(picture.permute(1, 2, 0)[None])[0]

    @torch.inference_mode()
    def segment(self, images: Sequence[Tensor], boxes: Tensor | None) -> Sequence[Tensor]:  # noqa: ARG002
        """Probabilities [h, w] as the network sees it, of large pictures [H, W]."""
        if images[0].dtype == torch.uint8:
            return [self._tiled(picture) for picture in images]
        stacked = torch.stack(list(images)).to(self.device, memory_format=torch.channels_last)
        return self.whole.network_probabilities(stacked).float().cpu().unbind(0)

    def finish(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """The probability [H, W]."""
        if tuple(values.shape) == size:
            return values
        return self.whole.native_probabilities(values[None], size)[0]

    def _tiled(self, picture: Tensor) -> Tensor:
        size = int(picture.shape[1]), int(picture.shape[2])
        tiling = self.tiling(size)
        foreground = self.whole.foreground
        assert tiling is not None
        assert foreground is not None
        cut = self.in_tiles(picture, tiling)
        own = slice(foreground, foreground + 1)
        return blended(lambda window: cut.regions(window, own)[0], size, tiling)


class RegionEngine(_NetworkEngine):
    """Unnamed regions of whole pictures, numbered by the network."""

    named = False

    def __init__(self, opened: Opened, *, flips: bool, tile: int | None) -> None:
        super().__init__(opened, flips=flips, tile=tile)
        count = opened.num_regions or 0
        self.category_names = tuple(f"region_{number}" for number in range(count))

    def prepare(self, picture: Tensor) -> Tensor:
        """What the network sees; a large picture as it is."""
        if self.tiling((int(picture.shape[1]), int(picture.shape[2]))):
            return picture
        return self.seen(picture)

    @torch.inference_mode()
    def segment(self, images: Sequence[Tensor], boxes: Tensor | None) -> Sequence[Tensor]:  # noqa: ARG002
        """Regions [K, h, w] as the network sees it, of large pictures numbers int32 [H, W]."""
        if images[0].dtype == torch.uint8:
            return [self._tiled(picture) for picture in images]
        return regions_of(self.segmenter, torch.stack(list(images))).cpu().unbind(0)

    def finish(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """The likeliest region's number [H, W]."""
        if values.ndim == 2:
            return values
        return resize(values[None], size)[0].argmax(0).int()

    def _tiled(self, picture: Tensor) -> Tensor:
        size = int(picture.shape[1]), int(picture.shape[2])
        tiling = self.tiling(size)
        assert tiling is not None
        cut = self.in_tiles(picture, tiling)
        return stitched(lambda window: cut.regions(window).argmax(0), size, tiling)


class PartitionEngine:
    """Regions of each picture by itself; their numbers mean nothing in another picture."""

    category_names: tuple[str, ...] = ("region",)
    named = False
    one_by_one = True

    def __init__(self, segmenter: PartitionSegmenter, device: torch.device) -> None:
        self.segmenter = segmenter
        self.device = device

    def prepare(self, picture: Tensor) -> Tensor:
        """The picture in [0, 1]."""
        return picture.float() / 255

    @torch.inference_mode()
    def segment(self, images: Sequence[Tensor], boxes: Tensor | None) -> Sequence[Tensor]:  # noqa: ARG002
        """Numbers int32 [H, W]."""
        return [self.segmenter.partition(image.to(self.device)).cpu() for image in images]

    def finish(self, values: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """The same."""
        return values


class BoxEngine:
    """A named object inside boxes, from the window around each."""

    category_names: tuple[str, ...] = ("object",)
    named = True
    one_by_one = True

    def __init__(self, opened: Opened, window: WindowSpec | None, *, flips: bool) -> None:
        self.window = opened.windows(window)
        self.segmenter = _ready(opened, flips=flips)
        self.device = opened.device

    def prepare(self, picture: Tensor) -> Tensor:
        """The picture."""
        return picture

    @torch.inference_mode()
    def segment(self, images: Sequence[Tensor], boxes: Tensor | None) -> Sequence[Tensor]:
        """The probability [H, W], 0 outside all boxes."""
        assert boxes is not None
        boxes = boxes.to(self.device)
        return [
            probability_in_boxes(self.segmenter, self.window, image.to(self.device), boxes).cpu()
            for image in images
        ]

    def finish(self, values: Tensor, size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """The same."""
        return values


def _ready(opened: Opened, *, flips: bool) -> Segmenter:
    """The segmenter with a named object, unless its regions are to stay unnamed."""
    segmenter = opened.segmenter
    if isinstance(segmenter, NetworkSegmenter):
        # Channels last: a third less time on a CPU. Not `to()`, which stumbles over 5-D weights.
        for parameter in segmenter.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    elif segmenter.foreground is None:
        segmenter = Named(segmenter)
    return Flipped(segmenter) if flips else segmenter


def _without_statistics(segmenter: Segmenter) -> Segmenter:
    """The segmenter itself, or a copy that takes images standardised already, if it does that."""
    if not any(getattr(each, "inputs", None) == "standard" for each in segmenter.modules()):
        return segmenter
    copied = copy.deepcopy(segmenter)
    for each in copied.modules():
        if getattr(each, "inputs", None) == "standard":
            each.inputs = None  # type: ignore[assignment]
    return copied


def _cut(picture: Tensor, window: Window) -> Tensor:
    return picture[:, window.y0 : window.y1, window.x0 : window.x1]
