"""The rows of a comparison: segmenters, what a table says about them, and how they are run."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from segan.data.sample import Dataset, Sample
from segan.errors import ConfigError
from segan.progress import tracked
from segan.segmenter import Segmenter, WindowSpec
from segan.windows import box_in_window, boxes_to_mask, crop, put_back, resize, window_around

_BATCH_WINDOWS = 32


@dataclass(frozen=True, kw_only=True)
class Row:
    """A segmenter and what a table says about it.

    Attributes:
        segmenter: Is put into evaluation mode.
        clip: Whether its masks end at the box when windows are scored.
        supervision: In training: "none", "backgrounds", "boxes" or "masks".
        sha256: Of its file, if it came from one.
        train_box_source: Where the boxes of its training came from, if from anywhere.
        own_scale: Network pixels per picture pixel, where the segmenter resamples pictures itself.
    """

    segmenter: Segmenter
    clip: bool = False
    supervision: str = "none"
    sha256: str | None = None
    train_box_source: str | None = None
    own_scale: float | None = None


@torch.inference_mode()
def regions_of(segmenter: Segmenter, images: Tensor, boxes: Tensor | None = None) -> Tensor:
    """A segmenter's partition [N, K, H, W], in fp32 and on its own device.

    Args:
        segmenter: Is put into evaluation mode.
        images: [N, 3, H, W] in [0, 1], on any device.
        boxes: [N, 4] in pixels of `images`, for windows around boxes.
    """
    segmenter.eval()
    parameter = next(segmenter.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    images = images.to(device)
    if boxes is not None:
        return segmenter.forward_in_boxes(images, boxes.to(device)).float()
    regions: Tensor = segmenter(images)
    return regions.float()


def scaled_image(image: Tensor, scale: float) -> Tensor:
    """A whole picture uint8 [3, H, W] as a segmenter sees it: float [3, h, w] in [0, 1]."""
    return at_scale(image[None].float() / 255, scale)[0]


def at_scale(images: Tensor, scale: float) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] resampled by `scale`, to at least one pixel."""
    height, width = images.shape[-2:]
    size = max(round(height * scale), 1), max(round(width * scale), 1)
    return resize(images, size).clamp(0, 1)


def native_regions(segmenter: Segmenter, image: Tensor, scale: float) -> Tensor:
    """The regions [K, H, W] of a picture uint8 [3, H, W], seen at `scale`, at its own size."""
    regions = regions_of(segmenter, scaled_image(image, scale)[None])
    return resize(regions, (int(image.shape[-2]), int(image.shape[-1])))[0]


class AtScale(Segmenter):
    """A segmenter that sees whole pictures at another scale, and answers at their own size.

    Args:
        segmenter: What it is made of.
        scale: Network pixels per picture pixel.
    """

    def __init__(self, segmenter: Segmenter, scale: float) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.scale = scale
        self.foreground = segmenter.foreground
        self.postprocessing = segmenter.postprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of images [N, 3, H, W] in [0, 1]."""
        height, width = images.shape[-2:]
        return resize(self.segmenter(at_scale(images, self.scale)), (height, width))


def pictures_of(dataset: Dataset, *, limit: int | None, scale: float) -> Iterator[Sample]:
    """The samples of a data set, or the first `limit` of them.

    Raises:
        ConfigError: The limit is below 1, or the scale not above 0.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be at least 1")
    if not scale > 0:
        raise ConfigError(f"scale is {scale}; it must be above 0")
    count = min(len(dataset), limit or len(dataset))
    for index in tracked(range(count), "scoring", count):
        yield dataset[index]


def probability_in_boxes(
    segmenter: Segmenter, window: WindowSpec, picture: Tensor, boxes: Tensor
) -> Tensor:
    """The probability of a boxed object, from the window around each box, and 0 outside boxes.

    Where boxes overlap the larger probability counts.

    Args:
        segmenter: One with a named foreground.
        window: How it was shown objects in training.
        picture: uint8 [3, H, W].
        boxes: [B, 4] in pixels, inside the picture.

    Returns:
        [H, W] in [0, 1].
    """
    assert segmenter.foreground is not None
    size = int(picture.shape[1]), int(picture.shape[2])
    result = torch.zeros(1, *size, device=picture.device)
    for some in torch.split(boxes, _BATCH_WINDOWS):
        frames = [
            window_around(box, size, context=window.context, square=window.square) for box in some
        ]
        images = torch.stack([crop(picture, frame, window.size) for frame in frames])
        pairs = zip(some, frames, strict=True)
        inner = torch.stack([box_in_window(box, frame, window.size) for box, frame in pairs])
        regions = segmenter.forward_in_boxes(images, inner)
        for box, frame, mask in zip(some, frames, regions[:, segmenter.foreground], strict=True):
            inside = boxes_to_mask(box[None], size)[0]
            result = result.maximum(put_back(mask[None], frame, size).clamp(0, 1) * inside)
    return result[0]
