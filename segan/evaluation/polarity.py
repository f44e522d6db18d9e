"""Which of two unnamed regions is the object: a rule without labels, and the oracle it replaces."""

import torch
from torch import Tensor

from segan.errors import ConfigError
from segan.evaluation.metrics import Mask, iou
from segan.segmenter import Segmenter


def foreground_mask(regions: Tensor, *, foreground: int | None) -> Tensor:
    """The object's opacity [N, 1, H, W] in regions [N, K, H, W].

    Of two unnamed regions the object is, in each image, the one that fewer pixels along the
    image's border belong to; of two equally frequent ones, the second.

    Args:
        regions: Soft partition, summing to one over K.
        foreground: The region that means "object", as the segmenter names it, or None.

    Raises:
        ConfigError: The regions are unnamed and not two.
    """
    if foreground is not None:
        return regions[:, foreground : foreground + 1]
    if regions.shape[1] != 2:
        raise ConfigError(
            f"the segmenter has {regions.shape[1]} unnamed regions; foreground scores need two, "
            "or a segmenter that names its object"
        )
    second_is_object = _border_share(regions[:, 1] > 0.5) <= 0.5
    return torch.where(second_is_object[:, None, None, None], regions[:, 1:], regions[:, :1])


class Named(Segmenter):
    """A segmenter of two unnamed regions, with its object named by the rule of `foreground_mask`.

    Args:
        segmenter: One whose `foreground` is None.
    """

    foreground = 1

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object."""
        return _named(self.segmenter(images))

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object."""
        return _named(self.segmenter.forward_in_boxes(images, boxes))


def _named(regions: Tensor) -> Tensor:
    mask = foreground_mask(regions, foreground=None)
    return torch.cat([1 - mask, mask], dim=1)


def oracle_iou(prediction: Mask, complement: Mask, truth: Mask) -> float:
    """The better IoU of a mask and its complement: chosen with the truth, so never a result."""
    return max(iou(prediction, truth), iou(complement, truth))


def _border_share(labels: Tensor) -> Tensor:
    """Fraction [N] of the pixels along the border of bool [N, H, W] that are True."""
    border = torch.ones(labels.shape[-2:], dtype=torch.bool, device=labels.device)
    border[1:-1, 1:-1] = False
    return labels[:, border].float().mean(dim=1)
