"""Controls without learning for clusters of pixels: one region, random ones, clusters of colour.

Source: Lloyd, "Least squares quantization in PCM", 1982, started by k-means++ (Arthur and
Vassilvitskii, SODA 2007), on the colours of a whole data set.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segan.arrays import colours_of, lab
from segan.data.sample import Dataset
from segan.errors import ConfigError
from segan.segmenter import Segmenter

Colours = NDArray[np.float32]  # [P, 3], CIE Lab


class OneRegion(Segmenter):
    """Every pixel in one region; matched to classes, it is the most frequent class."""

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 1, H, W], all ones."""
        return torch.ones_like(images[:, :1])


class RandomRegions(Segmenter):
    """A region drawn at random for every pixel, the same in all pictures of one size.

    Args:
        num_regions: At least 1.
        seed: Of the draws.

    Raises:
        ConfigError: There is no region.
    """

    def __init__(self, num_regions: int, *, seed: int = 0) -> None:
        super().__init__()
        self.num_regions = _at_least_one(num_regions)
        self.seed = seed

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of 0 and 1."""
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.randint(self.num_regions, images.shape[-2:], generator=generator)
        return _one_hot(labels, self.num_regions).to(images).expand(len(images), -1, -1, -1)


class ColourKMeans(Segmenter):
    """The nearest of K colours, in CIE Lab, that `fit` found in a data set.

    Args:
        num_regions: K, at least 1.

    Attributes:
        centres: float32 [K, 3], CIE Lab, from dark to light.

    Raises:
        ConfigError: There is no region.
    """

    centres: Tensor

    def __init__(self, num_regions: int) -> None:
        super().__init__()
        self.num_regions = _at_least_one(num_regions)
        self.register_buffer("centres", torch.empty(0, 3))

    def fit(
        self, dataset: Dataset, *, num_pixels: int = 200_000, num_pictures: int = 500, seed: int = 0
    ) -> "ColourKMeans":
        """Find the centres in pixels drawn at random, as many from each picture; returns itself.

        Args:
            dataset: Only its pictures are looked at.
            num_pixels: How many at most, over all pictures.
            num_pictures: How many at most, drawn at random.
            seed: Of both draws, and of the first centres.

        Raises:
            ConfigError: Fewer pixels than regions.
        """
        generator = np.random.default_rng(seed)
        chosen = generator.permutation(len(dataset))[:num_pictures]
        share = max(num_pixels // max(len(chosen), 1), 1)
        found = [_some_colours(dataset[int(index)].image, share, generator) for index in chosen]
        colours = np.concatenate(found)[:num_pixels] if found else np.empty((0, 3), np.float32)
        if len(colours) < self.num_regions:
            raise ConfigError(
                f"{self.num_regions} clusters of colour need as many pixels; {dataset.name} "
                f"gave {len(colours)}"
            )
        criteria = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 100, 0.01)
        cv2.setRNGSeed(seed)
        _, _, centres = cv2.kmeans(
            colours,
            self.num_regions,
            np.empty((0, 1), np.int32),  # no labels to start from
            criteria,
            attempts=4,
            flags=cv2.KMEANS_PP_CENTERS,
        )
        self.centres = torch.from_numpy(centres[np.lexsort(centres.T[::-1])]).to(self.centres)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of 0 and 1.

        Raises:
            ConfigError: It was not fitted.
        """
        if not len(self.centres):
            raise ConfigError("the clusters of colour are not known yet: call fit with a data set")
        labels = [self._nearest(lab(colours_of(image))) for image in images.detach().cpu()]
        return _one_hot(torch.stack(labels), self.num_regions).to(images)

    def _nearest(self, colours: NDArray[np.float32]) -> Tensor:
        """The nearest centre [H, W] of each colour [H, W, 3]."""
        centres = self.centres.cpu()
        # |x - c|^2 without |x|^2, which is the same for every c.
        distances = centres.square().sum(dim=1) - 2 * torch.from_numpy(colours) @ centres.T
        return distances.argmin(dim=-1)


def _some_colours(image: Tensor, share: int, generator: np.random.Generator) -> Colours:
    """Colours [P, 3] of at most so many pixels of a picture uint8 [3, H, W]."""
    pixels = image.flatten(1)
    chosen = generator.permutation(pixels.shape[1])[:share]
    some = pixels[:, torch.from_numpy(chosen)].float() / 255
    return lab(colours_of(some[:, None])).reshape(-1, 3)


def _one_hot(labels: Tensor, num_regions: int) -> Tensor:
    """Regions [..., K, H, W] of labels [..., H, W]."""
    return F.one_hot(labels, num_regions).movedim(-1, -3)


def _at_least_one(num_regions: int) -> int:
    if num_regions < 1:
        raise ConfigError(f"num_regions is {num_regions}; it must be at least 1")
    return num_regions
