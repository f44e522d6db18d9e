"""Partitions with one knob, the scale, that is swept from coarse to fine."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.arrays import Picture, contiguous, pictures
from segan.errors import ConfigError
from segan.segmenter import PartitionSegmenter


class Scales(NamedTuple):
    """The range over which a knob is swept.

    Attributes:
        coarsest: Value that gives the fewest regions.
        finest: Value that gives the most.
        default: Value for a single partition.
        counts: Whether it counts something: then steps are even and whole, else geometric.
    """

    coarsest: float
    finest: float
    default: float
    counts: bool = False

    def spread(self, num_levels: int) -> list[float]:
        """So many values from coarsest to finest, both included; of one, the default.

        Raises:
            ConfigError: The number is not positive.
        """
        if num_levels < 1:
            raise ConfigError(f"num_levels is {num_levels}; it must be at least 1")
        if num_levels == 1:
            return [self.default]
        if self.counts:
            steps = np.linspace(self.coarsest, self.finest, num_levels).round()
        else:
            steps = np.geomspace(self.coarsest, self.finest, num_levels)
        return [float(step) for step in steps]


class SweptSegmenter(PartitionSegmenter):
    """A partition with one knob. Subclasses implement `cuts`.

    Args:
        scale: Of `partition`; None for the default of the class.

    Attributes:
        scales: The sweep of `partitions`.
    """

    scales: ClassVar[Scales]

    def __init__(self, *, scale: float | None = None) -> None:
        super().__init__()
        self.scale = self.scales.default if scale is None else scale

    def cuts(self, picture: Picture, scales: Sequence[float]) -> Sequence[NDArray[Any]]:
        """Label maps [H, W] of a picture, one for each of `scales`."""
        raise NotImplementedError

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        """Label maps int32 [H, W] from 0, coarse to fine, of one picture [3, H, W] in [0, 1].

        Args:
            image: The picture.
            num_levels: How many values of the knob; of one, the default.

        Raises:
            ConfigError: The number of levels is not positive, or the image not one picture.
        """
        return self._label_maps(image, self.scales.spread(num_levels))

    def partition(self, image: Tensor) -> Tensor:
        """The label map int32 [H, W], from 0, at `scale`, of one picture [3, H, W] in [0, 1].

        Raises:
            ConfigError: The image is not one picture.
        """
        return self._label_maps(image, [self.scale])[0]

    def _label_maps(self, image: Tensor, scales: Sequence[float]) -> list[Tensor]:
        if image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            raise ConfigError(f"an image of shape {list(image.shape)} is not [3, height, width]")
        distinct = list(dict.fromkeys(scales))
        cuts = self.cuts(pictures(image[None])[0], distinct)
        found = {
            scale: torch.from_numpy(contiguous(cut)).to(image.device)
            for scale, cut in zip(distinct, cuts, strict=True)
        }
        return [found[scale] for scale in scales]
