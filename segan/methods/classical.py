"""Training-free segmenters: the rows every learned result is printed beside.

Sources: Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 1979; Lloyd,
"Least squares quantization in PCM", 1982, started from the split along the first principal
component (Ding and He, ICML 2004); Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004.

A segmenter whose two regions have no meaning (a threshold says nothing about which side is the
object) leaves `foreground` None, and evaluation applies its label-free polarity rule.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from torch import Tensor

from segan.arrays import Picture, lab, luminance, pictures
from segan.errors import ConfigError
from segan.segmenter import Segmenter
from segan.windows import boxes_to_mask

Labels = NDArray[np.bool_]  # [H, W], True in region 1

GRABCUT_COMPONENTS = 5  # Gaussians per side, fixed inside OpenCV; it needs as many pixels


class ClassicalSegmenter(Segmenter):
    """A segmenter without parameters.

    Attributes:
        supervision: What it looks at besides the pixels: "none", or the "boxes" of the objects.
    """

    supervision: ClassVar[Literal["none", "boxes"]] = "none"


class AllForeground(ClassicalSegmenter):
    """Every pixel is the object."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object."""
        return _regions(torch.ones_like(images[:, :1]))


class CentreEllipse(ClassicalSegmenter):
    """The object is an axis-aligned ellipse in the middle of the picture.

    Args:
        width: Full horizontal axis, as a fraction of the picture's width.
        height: Full vertical axis, as a fraction of the picture's height. The defaults are the best
            pair, in steps of .05, for both single-object sets at once: mean IoU .592 on
            Clothing Co-Parsing and .708 on the white blood cells, at 256 x 256 pixels.
    """

    foreground = 1

    def __init__(self, *, width: float = 0.5, height: float = 0.7) -> None:
        super().__init__()
        self.width = width
        self.height = height

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object."""
        num_images, _, height, width = images.shape
        x = (torch.arange(width, device=images.device) + 0.5) / width * 2 - 1
        y = (torch.arange(height, device=images.device) + 0.5) / height * 2 - 1
        inside = (x / self.width).square() + (y / self.height).square()[:, None] <= 1
        return _regions(inside.to(images.dtype).expand(num_images, 1, height, width))


class GivenBox(ClassicalSegmenter):
    """The object fills its box."""

    foreground = 1
    supervision = "boxes"

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        """Not possible without boxes.

        Raises:
            ConfigError: Always; `forward_in_boxes` is the one that knows a box.
        """
        raise ConfigError(
            "given_box needs a box per picture: use windows 'box', not whole pictures"
        )

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: the object is the part of each pixel that its box [N, 4] covers."""
        height, width = images.shape[-2:]
        x0, y0, x1, y1 = boxes.to(images.dtype)[:, :, None].unbind(1)
        columns = _coverage(x0, x1, width)
        rows = _coverage(y0, y1, height)
        return _regions((rows[:, :, None] * columns[:, None, :])[:, None])


class Otsu(ClassicalSegmenter):
    """Dark and bright pixels, split where the variance between the two is largest."""

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: dark, bright; which of them is the object is not known."""
        luminances = [luminance(picture) for picture in pictures(images)]
        return _hard_regions([gray > _threshold(gray) for gray in luminances], images)


class OtsuInBox(ClassicalSegmenter):
    """Otsu's threshold from the pixels inside the box alone."""

    supervision = "boxes"

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        """Not possible without boxes.

        Raises:
            ConfigError: Always; `forward_in_boxes` is the one that knows a box.
        """
        raise ConfigError("otsu_in_box needs a box per picture: use windows 'box', or 'otsu'")

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: dark, bright, also outside the boxes [N, 4].

        The ring around the box is not cut off here: the polarity rule looks at it first.
        """
        labels = []
        for picture, inside in zip(pictures(images), _insides(images, boxes), strict=True):
            gray = luminance(picture)
            labels.append(gray > _threshold(gray[inside] if inside.any() else gray))
        return _hard_regions(labels, images)


class KMeans(ClassicalSegmenter):
    """Two clusters of colours in CIE Lab."""

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W], ordered by lightness; which is the object is not known."""
        return _hard_regions([_two_means(picture) for picture in pictures(images)], images)


class GrabCut(ClassicalSegmenter):
    """Two colour mixtures and a minimum cut, started from "outside the box is background".

    Args:
        num_iterations: Rounds of fitting the mixtures and cutting.
        margin: Fraction of each side taken for background when there is no box.
    """

    foreground = 1
    supervision = "boxes"

    def __init__(self, *, num_iterations: int = 5, margin: float = 0.05) -> None:
        super().__init__()
        self.num_iterations = num_iterations
        self.margin = margin

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object; a rim of the picture is background."""
        height, width = images.shape[-2:]
        box = images.new_tensor([width, height, width, height])
        margins = images.new_tensor([self.margin, self.margin, 1 - self.margin, 1 - self.margin])
        return self.forward_in_boxes(images, (box * margins).expand(len(images), 4))

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object; all outside the boxes [N, 4] is background."""
        pairs = zip(pictures(images), _insides(images, boxes), strict=True)
        return _hard_regions([self._cut(picture, inside) for picture, inside in pairs], images)

    def _cut(self, picture: Picture, inside: Labels) -> Labels:
        if min(inside.sum(), (~inside).sum()) < GRABCUT_COMPONENTS:
            return inside
        state = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        mixtures = np.zeros((2, 1, 13 * GRABCUT_COMPONENTS))
        cv2.setRNGSeed(0)
        cv2.grabCut(
            np.ascontiguousarray(picture[..., ::-1]),
            state,
            (0, 0, 0, 0),  # unused: the box is in `state`
            mixtures[0],
            mixtures[1],
            self.num_iterations,
            cv2.GC_INIT_WITH_MASK,
        )
        cut: Labels = (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)
        return cut


TRIVIAL_ROWS: Mapping[str, type[ClassicalSegmenter]] = MappingProxyType(
    {
        "all_foreground": AllForeground,
        "centre_ellipse": CentreEllipse,
        "otsu": Otsu,
        "kmeans": KMeans,
        "given_box": GivenBox,
        "otsu_in_box": OtsuInBox,
        "grabcut": GrabCut,
    }
)
"""Names, as on the command line and in tables, to the segmenters they stand for."""


def _two_means(picture: Picture) -> Labels:
    """Lloyd's iterations for two clusters, from the split along the first principal component."""
    if (picture == picture[0, 0]).all():
        return np.zeros(picture.shape[:2], np.bool_)
    colours = lab(picture).reshape(-1, 3)
    centred = colours - colours.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    start = (centred @ axis > 0).astype(np.int32)[:, None]
    criteria = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 50, 0.1)
    cv2.setRNGSeed(0)
    _, labels, centres = cv2.kmeans(colours, 2, start, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    lighter = int(centres[1, 0] > centres[0, 0])
    result: Labels = labels.reshape(picture.shape[:2]) == lighter
    return result


def _coverage(start: Tensor, stop: Tensor, length: int) -> Tensor:
    """How much of each of `length` unit pixels lies in [start, stop): [N, length] from [N, 1]."""
    pixels = torch.arange(length, device=start.device)
    return (torch.minimum(stop, pixels + 1) - torch.maximum(start, pixels)).clamp(0, 1)


def _insides(images: Tensor, boxes: Tensor) -> NDArray[np.bool_]:
    """Pixels whose centre lies in their image's box: [N, H, W]."""
    inside: NDArray[np.bool_] = boxes_to_mask(boxes, images.shape[-2:])[:, 0].bool().cpu().numpy()
    return inside


def _threshold(gray: NDArray[np.uint8]) -> int:
    """Otsu's threshold of 8-bit levels of any shape: the highest level of the dark class."""
    return int(threshold_otsu(gray))  # type: ignore[no-untyped-call]


def _hard_regions(labels: list[Labels], images: Tensor) -> Tensor:
    masks = torch.from_numpy(np.stack(labels)[:, None])
    return _regions(masks.to(images))


def _regions(masks: Tensor) -> Tensor:
    """Masks [N, 1, H, W] of region 1 as a partition [N, 2, H, W]."""
    return torch.cat([1 - masks, masks], dim=1)
