"""The view of methods that draw regions of a picture anew, from noise."""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from segan.data.sample import Sample
from segan.data.views import ImageView


class RedrawBatch(NamedTuple):
    """Parts of pictures, and what their regions are redrawn from.

    The view draws the noise and the method uses it, on its device: the number of processes changes
    nothing.

    Attributes:
        images: [N, 3, S, S] in [0, 1].
        noise: [N, K, Z] standard normal, a vector for each region.
    """

    images: Tensor
    noise: Tensor


class RedrawView(ImageView):
    """A part of a picture, and noise for each region it will be cut into (Chen et al. 2019).

    Args:
        size: As in `ImageView`.
        scale: As in `ImageView`.
        num_regions: K.
        num_noise: Z, the length of each vector.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(self, size: int, scale: float, *, num_regions: int, num_noise: int) -> None:
        super().__init__(size, scale)
        self.shape = (num_regions, num_noise)

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> RedrawBatch:  # type: ignore[override]  # noqa: ARG002
        """One part, and its regions' noise."""
        images = self.part(sample, rng)
        return RedrawBatch(images, torch.from_numpy(rng.standard_normal(self.shape, np.float32)))
