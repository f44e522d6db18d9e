"""The segmenter: images in, region probabilities out; the one product of every method."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Segmenter(nn.Module):
    """Images to region probabilities; all that evaluation, prediction and export ever see.

    Subclasses implement `forward`. Training-free segmenters are subclasses without parameters.

    Attributes:
        foreground: The region that means "object", or None when regions are unnamed clusters.
        postprocessing: What it does to the regions of another segmenter, in words; or "none".
    """

    foreground: int | None = None
    postprocessing: str = "none"

    def forward(self, images: Tensor) -> Tensor:
        """Soft partition [N, K, H, W], summing to one over K, of images [N, 3, H, W] in [0, 1]."""
        raise NotImplementedError

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:  # noqa: ARG002
        """As `forward`, for windows around a known box each; only GrabCut and its like look at it.

        Args:
            images: [N, 3, H, W] in [0, 1].
            boxes: [N, 4] as x0, y0, x1, y1 in pixels of `images`, half-open.
        """
        regions: Tensor = self(images)
        return regions


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """How a segmenter was shown objects in training; recorded in its file and reused at test.

    Attributes:
        size: Side of the square network input, pixels.
        context: Window side over box side; 1.6 shows a ring of 30 % of the box on each side.
        square: One side for both axes (the longer of the box), or each axis scaled by itself.
        scale: Network pixels per picture pixel for a whole picture: the median over training
            windows of `size` over window side.
    """

    size: int
    context: float
    square: bool = True
    scale: float = 1.0


class NetworkSegmenter(Segmenter):
    """A segmenter around a network of logits, for pictures of any size.

    Args:
        network: [N, 3, H, W] in [0, 1] to logits [N, C, H, W], for H and W multiples of `stride`.
        stride: What the network's down-sampling divides sizes by.
    """

    def __init__(self, network: nn.Module, *, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, C, H, W] of images of any size, edges replicated to fit."""
        height, width = images.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        padded = F.pad(images, (0, right, 0, below), mode="replicate")
        logits: Tensor = self.network(padded)
        return logits[..., :height, :width]


class MaskSegmenter(NetworkSegmenter):
    """One logit per pixel as two regions: background 0, object 1."""

    foreground = 1

    def mask(self, images: Tensor) -> Tensor:
        """Foreground opacity [N, 1, H, W] in [0, 1]."""
        return self.logits(images).sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object."""
        mask = self.mask(images)
        return torch.cat([1 - mask, mask], dim=1)


class RegionSegmenter(NetworkSegmenter):
    """K logits per pixel as K unnamed regions, or clusters."""

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W]: the softmax of the logits."""
        return self.logits(images).softmax(1)


class PartitionSegmenter(Segmenter):
    """Cuts each picture by itself into connected or unnamed regions, at a scale of choice.

    Region numbers mean nothing from one picture to the next, and there may be hundreds.
    """

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        """Label maps int32 [H, W] from 0, coarse to fine, of one picture [3, H, W] in [0, 1].

        Args:
            image: The picture.
            num_levels: How many scales; a method without a scale repeats what it has.
        """
        raise NotImplementedError

    def partition(self, image: Tensor) -> Tensor:
        """The label map int32 [H, W], from 0, at the method's default scale."""
        raise NotImplementedError

    def contours(self, image: Tensor) -> Tensor | None:  # noqa: ARG002
        """Strength of boundaries [H, W] in [0, 1] of one picture [3, H, W]; None without one."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of 0 and 1, K the most that any of the pictures has."""
        labels = torch.stack([self.partition(image) for image in images]).long()
        return F.one_hot(labels).permute(0, 3, 1, 2).to(images)
