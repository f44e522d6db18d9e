"""Whole pictures to masks or label maps as one graph: what prediction runs and files are made of.

Everything that a caller could get wrong is inside: scaling, resampling, padding, threshold.
"""

from fractions import Fraction
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segan.segmenter import Segmenter


def scaled_side(side: int, scale: float) -> int:
    """round(scale * side), at least 1; ties go to even numbers, as Python's round() does.

    In integers, because an exported graph rounds products of floats in its own way and one pixel
    more or less would shift the whole mask.
    """
    ratio = Fraction(scale).limit_denominator(2**24)
    twice, quarter = 2 * side * ratio.numerator, ratio.denominator
    # floor(x / 2 + 1 / 4) + ceil(x / 2 - 1 / 4)
    nearest = (twice + quarter) // (4 * quarter) + (twice + 3 * quarter - 1) // (4 * quarter)
    # A symbol while a graph is traced, otherwise an integer.
    return cast(int, torch.sym_max(nearest, 1))


class WholePicture(nn.Module):
    """Pictures as files hold them to maps at their own size; prediction and export share it.

    Args:
        segmenter: With a named foreground, it gives masks; otherwise the numbers of regions.
        scale: Network pixels per picture pixel, as `WindowSpec.scale`.
    """

    def __init__(self, segmenter: Segmenter, *, scale: float = 1.0) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.foreground = segmenter.foreground
        self.scale = scale

    @property
    def outputs(self) -> tuple[str, str]:
        """What exported files call the two outputs."""
        return ("labels" if self.foreground is None else "masks"), "probabilities"

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and probabilities of pictures of any size.

        Args:
            pictures: uint8 [N, H, W, 3], RGB.

        Returns:
            With a foreground: masks uint8 [N, H, W], 1 on objects; and their probability, float32
            [N, H, W]. Without: labels [N, H, W] from 0, uint8, or int32 of more than 256 regions;
            and the probabilities of all regions, float32 [N, K, H, W].
        """
        height, width = pictures.shape[1:3]
        regions: Tensor = self.segmenter(self.network_images(pictures))
        if self.foreground is not None:
            probabilities = self.native_probabilities(regions[:, self.foreground], (height, width))
            return (probabilities > 0.5).to(torch.uint8), probabilities
        if self.scale != 1:
            regions = _resample(regions, (height, width))
        dtype = torch.uint8 if regions.shape[1] <= 256 else torch.int32
        return regions.argmax(1).to(dtype), regions

    def network_images(self, pictures: Tensor) -> Tensor:
        """What the segmenter sees, [N, 3, h, w] in [0, 1], of pictures uint8 [N, H, W, 3]."""
        height, width = pictures.shape[1:3]
        images = pictures.permute(0, 3, 1, 2).float() / 255
        if self.scale != 1:
            size = scaled_side(height, self.scale), scaled_side(width, self.scale)
            images = _resample(images, size)
        return images

    def network_probabilities(self, images: Tensor) -> Tensor:
        """The named object's probability [N, h, w] in what the segmenter sees."""
        assert self.foreground is not None
        probabilities: Tensor = self.segmenter(images)[:, self.foreground]
        return probabilities

    def native_probabilities(self, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities [N, h, w] at the pictures' own size, [N, H, W]."""
        if self.scale != 1:
            probabilities = _resample(probabilities[:, None], size)[:, 0]
        return probabilities


def _resample(images: Tensor, size: tuple[int, int]) -> Tensor:
    # windows.resize without its shortcut for equal sizes: a traced graph cannot branch on sizes.
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 1)
