"""Training-free partitions: each picture cut by itself, at ten scales or one.

Every row answers for one idea (nothing, place, colour, edges, a graph of superpixels, a contour)
and has one knob, its scale, that is swept from coarse to fine; what each learned partition must
beat. Classes of pixels (by thresholds, k-means, contours, walks) become regions in one way: their
8-connected pieces, where a piece smaller than 100 pixels of a 481 x 321 picture (that share of any
other) is absorbed by its neighbours. On BSDS500 this step alone is worth several points.

All work on 8-bit pixels and give the same labels whenever they are called.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import sobel, threshold_multiotsu
from skimage.segmentation import (
    felzenszwalb,
    morphological_chan_vese,
    random_walker,
    watershed,
)

from segan.arrays import (
    MIN_SHARE,
    LabelMap,
    Picture,
    connected_regions,
    lab,
    luminance,
)
from segan.methods.swept import Scales, SweptSegmenter
from segan.segmenter import PartitionSegmenter
from segan.superpixels import (
    joined,
    modes,
    normalized_cuts,
    region_means,
    superpixels,
    touching,
)

NUM_SUPERPIXELS = 400
COMPACTNESS = 30.0


# --- without looking ------------------------------------------------------------------------------


class OneRegion(SweptSegmenter):
    """The whole picture is one region; no knob."""

    scales = Scales(1, 1, 1, counts=True)

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[LabelMap]:
        """Zeros [H, W]."""
        return [np.zeros(picture.shape[:2], np.int32) for _ in scales]


class Grid(SweptSegmenter):
    """A grid of n x n equal cells; the knob is n, from 1 to 16."""

    scales = Scales(1, 16, 4, counts=True)

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[LabelMap]:
        """Cells numbered row by row; no more of them than pixels, either way."""
        height, width = picture.shape[:2]
        return [
            np.arange(height)[:, None] * min(int(n), height) // height * int(n)
            + np.arange(width) * min(int(n), width) // width
            for n in scales
        ]


# --- classes of pixels ----------------------------------------------------------------------------


class ClassSegmenter(SweptSegmenter):
    """Pixels in classes, the pieces of which are the regions. Subclasses implement `classes`.

    Args:
        scale: Of `partition`; None for the default of the class.
        min_share: Pieces below this share of the picture are absorbed; None keeps classes whole,
            so that a region may lie in several places.
    """

    def __init__(self, *, scale: float | None = None, min_share: float | None = MIN_SHARE) -> None:
        super().__init__(scale=scale)
        self.min_share = min_share

    def classes(self, picture: Picture, scale: float) -> NDArray[Any]:
        """The class of each pixel, [H, W]."""
        raise NotImplementedError

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """Connected pieces of the classes, or the classes themselves."""
        found = [self.classes(picture, scale) for scale in scales]
        if self.min_share is None:
            return found
        return [connected_regions(classes, min_share=self.min_share) for classes in found]


class MultiOtsu(ClassSegmenter):
    """Gray levels, split where the variance between the classes is largest.

    Liao, Chen and Chung, "A fast algorithm for multilevel thresholding", Journal of Information
    Science and Engineering 2001. The knob is the number of classes, from 2 to 4.
    """

    scales = Scales(2, 4, 3, counts=True)

    def classes(self, picture: Picture, scale: float) -> NDArray[Any]:
        """Dark to bright."""
        return _gray_classes(luminance(picture), int(scale))


class KMeansLab(ClassSegmenter):
    """Clusters of colours in CIE Lab.

    Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 1982,
    started as by Arthur and Vassilvitskii, "k-means++", SODA 2007. The knob is the number of
    clusters, from 2 to 12.
    """

    scales = Scales(2, 12, 5, counts=True)

    def features(self, picture: Picture) -> NDArray[np.float32]:
        """What is clustered, [H, W, F]."""
        return lab(picture)

    def num_different(self, picture: Picture) -> int:
        """How many different features there are."""
        return int(np.unique(picture.astype(np.int32) @ [1 << 16, 1 << 8, 1]).size)

    def classes(self, picture: Picture, scale: float) -> NDArray[Any]:
        """At most as many clusters as there are different features."""
        features = self.features(picture).reshape(picture.shape[0] * picture.shape[1], -1)
        num_clusters = min(int(scale), self.num_different(picture))
        if num_clusters == 1:
            return np.zeros(picture.shape[:2], np.int32)
        criteria = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 50, 0.1)
        start = np.zeros((len(features), 1), np.int32)  # unused
        cv2.setRNGSeed(0)
        labels = cv2.kmeans(features, num_clusters, start, criteria, 1, cv2.KMEANS_PP_CENTERS)[1]
        return np.asarray(labels).reshape(picture.shape[:2])


class KMeansLabXy(KMeansLab):
    """Clusters of colours in CIE Lab together with the place of the pixel.

    As `KMeansLab`; the place is given in percent of the picture's longer side. The knob is the
    number of clusters, from 2 to 20.

    Args:
        scale: Of `partition`; None for the default of the class.
        min_share: As in `ClassSegmenter`.
        position: Weight of the place, lambda.
    """

    scales = Scales(2, 20, 4, counts=True)

    def __init__(
        self,
        *,
        scale: float | None = None,
        min_share: float | None = MIN_SHARE,
        position: float = 0.5,
    ) -> None:
        super().__init__(scale=scale, min_share=min_share)
        self.position = position

    def features(self, picture: Picture) -> NDArray[np.float32]:
        """Lab and the weighted place, [H, W, 5]."""
        places = np.moveaxis(np.indices(picture.shape[:2]), 0, -1)
        places = places * (self.position * 100 / max(picture.shape[:2]))
        return np.concatenate([lab(picture), places.astype(np.float32)], axis=-1)

    def num_different(self, picture: Picture) -> int:
        """As many as pixels: no two are in one place."""
        return picture.size // 3


class ChanVese(ClassSegmenter):
    """Two classes of gray with a short contour between them, evolved by morphology.

    Chan and Vese, "Active contours without edges", IEEE TIP 2001, in the form of Marquez-Neila,
    Baumela and Alvarez, "A morphological approach to curvature-based evolution of curves and
    surfaces", TPAMI 2014: 30 iterations from a checkerboard. The knob is the number of smoothing
    steps per iteration, from 4 to 1.
    """

    scales = Scales(4, 1, 2, counts=True)

    def classes(self, picture: Picture, scale: float) -> NDArray[Any]:
        """Outside and inside the contour."""
        gray = luminance(picture)
        if (gray == gray[0, 0]).all():
            return np.zeros(gray.shape, np.int32)
        height, width = gray.shape
        wide = np.pad(gray, ((0, int(height == 1)), (0, int(width == 1))), mode="edge")
        level_set: NDArray[Any] = morphological_chan_vese(  # type: ignore[no-untyped-call]
            wide / 255, num_iter=30, smoothing=int(scale)
        )
        return level_set[:height, :width]


class RandomWalker(ClassSegmenter):
    """Each pixel goes to the seeds that a walk along similar colours reaches first.

    Grady, "Random walks for image segmentation", TPAMI 2006, beta 130. Seeds are, of each class of
    `MultiOtsu`, the half of the pixels nearest its mean gray. The knob is the number of classes,
    from 2 to 4.
    """

    scales = Scales(2, 4, 3, counts=True)

    def classes(self, picture: Picture, scale: float) -> NDArray[Any]:
        """The class of the seeds reached first."""
        gray = luminance(picture)
        seeds = _gray_classes(gray, int(scale)) + 1
        for number in range(1, int(seeds.max()) + 1):
            members = seeds == number
            distance = np.abs(gray - gray[members].mean())
            seeds[members & (distance > np.median(distance[members]))] = 0
        if seeds.all():
            return seeds
        walked: NDArray[Any] = random_walker(
            picture / 255,
            seeds,
            beta=130,
            mode="bf",  # exact, and no slower: half of the pixels are known
            channel_axis=-1,
        )
        return walked


# --- edges ----------------------------------------------------------------------------------------


class Felzenszwalb(SweptSegmenter):
    """Neighbours joined while the edge between them is weak beside the spread within.

    Felzenszwalb and Huttenlocher, "Efficient graph-based image segmentation", IJCV 2004, sigma .8,
    regions of at least 100 pixels. The knob is the paper's k, here from 3000 to 100.

    Args:
        scale: Of `partition`; None for the default of the class.
        sigma: Of the Gaussian blur before, in pixels.
        min_size: Regions of fewer pixels are joined to a neighbour.
    """

    scales = Scales(3000, 100, 500)

    def __init__(
        self, *, scale: float | None = None, sigma: float = 0.8, min_size: int = 100
    ) -> None:
        super().__init__(scale=scale)
        self.sigma = sigma
        self.min_size = min_size

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """One per k."""
        return [
            felzenszwalb(picture, scale=scale, sigma=self.sigma, min_size=self.min_size)
            for scale in scales
        ]


class Watershed(SweptSegmenter):
    """Basins of the gradient, flooded from a regular grid of markers.

    Beucher and Meyer, "The morphological approach to segmentation: the watershed transformation",
    1993, on Sobel's gradient of gray. The knob is the number of markers, about 6 to 48.
    """

    scales = Scales(6, 48, 12)

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """One per number of markers."""
        gradient = sobel(luminance(picture) / 255)  # type: ignore[no-untyped-call]
        return [
            watershed(gradient, markers=round(scale))  # type: ignore[no-untyped-call]
            for scale in scales
        ]


# --- superpixels ----------------------------------------------------------------------------------


class SlicThreshold(SweptSegmenter):
    """Touching superpixels of similar mean colour are one region.

    Tremeau and Colantoni, "Regions adjacency graph applied to color image segmentation", IEEE TIP
    2000, on 400 superpixels (SLIC, compactness 30). The knob is the distance in RGB of 0 to 255
    below which two are joined, from 60 to 6.
    """

    scales = Scales(60, 6, 28)

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """One per distance."""
        pixels = _superpixels(picture)
        pairs = touching(pixels)
        distances = _distances(region_means(picture, pixels), pairs)
        return [joined(pairs[distances < scale], pixels.max() + 1)[pixels] for scale in scales]


class SlicNormalizedCut(SweptSegmenter):
    """Superpixels divided in two, again and again, by the normalised cut of their graph.

    Shi and Malik, "Normalized cuts and image segmentation", TPAMI 2000, on 400 superpixels (SLIC,
    compactness 30). The affinity of two that touch is exp(-d^2 / sigma), d their distance in RGB of
    0 to 255 and sigma 255, as in scikit-image. The knob is the greatest cost of a cut that is
    made, from 1e-6 to .02.
    """

    scales = Scales(1e-6, 2e-2, 2e-3)

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """One per cost, all of one tree of cuts."""
        pixels = _superpixels(picture)
        pairs = touching(pixels)
        distances = _distances(region_means(picture, pixels), pairs)
        affinity = np.eye(pixels.max() + 1)
        affinity[pairs[:, 0], pairs[:, 1]] = np.exp(-np.square(distances) / 255)
        affinity[pairs[:, 1], pairs[:, 0]] = affinity[pairs[:, 0], pairs[:, 1]]
        return [labels[pixels] for labels in normalized_cuts(affinity, scales)]


class MeanShift(SweptSegmenter):
    """Touching superpixels whose colour and place drift to the same mode are one region.

    Comaniciu and Meer, "Mean shift: a robust approach toward feature space analysis", TPAMI 2002,
    on the mean Lab and place of 400 superpixels (SLIC, compactness 30), each counted by its area.
    The knob is the bandwidth in Lab, from 24 to 4; the one in space is a tenth of the longer side.
    """

    scales = Scales(24, 4, 12)

    def __init__(self, *, scale: float | None = None, space: float = 0.1) -> None:
        super().__init__(scale=scale)
        self.space = space

    def cuts(self, picture: Picture, scales: Sequence[float]) -> list[NDArray[Any]]:
        """One per bandwidth."""
        pixels = _superpixels(picture)
        pairs = touching(pixels)
        areas = np.bincount(pixels.ravel()).astype(np.float64)
        colours = region_means(lab(picture), pixels)
        places = region_means(np.moveaxis(np.indices(pixels.shape), 0, -1), pixels)
        places = places / (self.space * max(pixels.shape))
        found = []
        for scale in scales:
            shifted, moved = modes([colours / scale, places], areas)
            close = (_distances(shifted, pairs) < 1) & (_distances(moved, pairs) < 1)
            found.append(joined(pairs[close], len(areas))[pixels])
        return found


PARTITION_ROWS: Mapping[str, type[PartitionSegmenter]] = MappingProxyType(
    {
        "one_region": OneRegion,
        "grid": Grid,
        "multi_otsu": MultiOtsu,
        "kmeans_lab": KMeansLab,
        "kmeans_lab_xy": KMeansLabXy,
        "chan_vese": ChanVese,
        "random_walker": RandomWalker,
        "watershed": Watershed,
        "felzenszwalb": Felzenszwalb,
        "slic_rag": SlicThreshold,
        "slic_ncut": SlicNormalizedCut,
        "mean_shift": MeanShift,
    }
)
"""Names, as on the command line and in tables, to the segmenters they stand for."""


def _gray_classes(gray: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Classes [H, W], from 0, dark to bright; at most as many as there are gray levels."""
    num_classes = min(num_classes, len(np.unique(gray)))
    if num_classes == 1:
        return np.zeros(gray.shape, np.int64)
    thresholds = threshold_multiotsu(gray, num_classes)  # type: ignore[no-untyped-call]
    return np.digitize(gray, thresholds, right=True)


def _superpixels(picture: Picture) -> LabelMap:
    return superpixels(picture, num_superpixels=NUM_SUPERPIXELS, compactness=COMPACTNESS)


def _distances(points: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Euclidean distance [E] between the points [R, F] of each pair [E, 2]."""
    distances: NDArray[np.float64] = np.linalg.norm(
        points[pairs[:, 0]] - points[pairs[:, 1]], axis=1
    )
    return distances
