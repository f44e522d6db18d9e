"""Soft masks made better after the network, by the picture alone: small steps that compose.

Each step takes a picture uint8 [H, W, 3] and a soft mask float32 [H, W] in [0, 1], and gives a soft
mask. `docs/refine.md` says which of them help, and what they cost.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.arrays import Picture
from segan.errors import ConfigError
from segan.postprocessing.crf import CrfConfig, dense_crf
from segan.segmenter import Segmenter

SoftMask = NDArray[np.float32]  # [H, W] in [0, 1]
Plane = NDArray[Any]  # float32 [H, W]
Refinement = Callable[[Picture, SoftMask], SoftMask]

_COMPONENTS = 5  # Gaussians per side of GrabCut; it needs as many pixels


def crf(
    picture: Picture,
    mask: SoftMask,
    *,
    certainty: float = 0.9,
    config: CrfConfig | None = None,
) -> SoftMask:
    """The object's probability after mean field in a fully connected CRF.

    As `segan.postprocessing.crf.dense_crf`, of the two regions background and object.

    Args:
        picture: uint8 [H, W, 3].
        mask: [H, W] in [0, 1].
        certainty: No pixel counts as surer than this, in (0.5, 1]; at 1 a mask of 0 and 1, such as
            a threshold's, would never change.
        config: Weights, bandwidths and rounds; the defaults without it.
    """
    probability = torch.from_numpy(mask).clamp(1 - certainty, certainty)
    image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
    regions = torch.stack([1 - probability, probability])
    refined: SoftMask = dense_crf(regions, image, config=config or CrfConfig())[1].numpy()
    return refined


def guided(picture: Picture, mask: SoftMask, *, radius: int = 4, epsilon: float = 1e-4) -> SoftMask:
    """He, Sun and Tang, "Guided Image Filtering", ECCV 2010, with the picture's colours as guide.

    In every window k of side 2 radius + 1 the mask p is fitted by a linear function of the colour
    I: a_k = (Sigma_k + epsilon U)^-1 (mean(I p) - mu_k mean(p)) (Equation 14), b_k = mean(p) -
    a_k^T mu_k (15); the result is mean(a)^T I + mean(b), over the windows around a pixel (16),
    clipped to [0, 1]. Windows end at the picture's border.

    Args:
        picture: uint8 [H, W, 3].
        mask: [H, W] in [0, 1].
        radius: Pixels, at least 1.
        epsilon: Variance of colour, in units of [0, 1], below which a window counts as flat.
    """
    ones = np.ones(mask.shape, np.float32)
    window = (2 * radius + 1, 2 * radius + 1)

    def total(values: Plane) -> Plane:
        summed = cv2.boxFilter(values, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(summed, np.float32)

    count = total(ones)

    def mean(values: Plane) -> Plane:
        return total(values) / count

    colours = [plane.astype(np.float32) / 255 for plane in np.moveaxis(picture, 2, 0)]
    # Centred, so that differences of squares keep their digits in float32.
    colours = [plane - plane.mean() for plane in colours]
    mu = [mean(plane) for plane in colours]
    average = mean(mask)
    covariance = [
        mean(plane * mask) - own * average for plane, own in zip(colours, mu, strict=True)
    ]
    sigma = [
        [mean(colours[i] * colours[j]) - mu[i] * mu[j] + epsilon * (i == j) for j in range(3)]
        for i in range(3)
    ]
    slope = _solve(sigma, covariance)
    offset = average - sum(a * own for a, own in zip(slope, mu, strict=True))
    result = sum(mean(a) * plane for a, plane in zip(slope, colours, strict=True)) + mean(offset)
    return np.asarray(np.clip(result, 0, 1), np.float32)


def _solve(matrix: list[list[Plane]], right: list[Plane]) -> list[Plane]:
    """The solutions of symmetric systems of three equations, pixel by pixel, by cofactors."""
    (a, b, c), (_, d, e), (_, _, f) = matrix
    cofactors = [
        [d * f - e * e, c * e - b * f, b * e - c * d],
        [c * e - b * f, a * f - c * c, b * c - a * e],
        [b * e - c * d, b * c - a * e, a * d - b * b],
    ]
    determinant = a * cofactors[0][0] + b * cofactors[0][1] + c * cofactors[0][2]
    return [
        (row[0] * right[0] + row[1] * right[1] + row[2] * right[2]) / determinant
        for row in cofactors
    ]


def grabcut(
    picture: Picture,
    mask: SoftMask,
    *,
    sure: float = 0.9,
    band: int = 4,
    num_iterations: int = 3,
) -> SoftMask:
    """Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004, started from the soft mask.

    Pixels with a probability of at least `sure` stay object, of at most 1 - sure background, unless
    one that is not so sure lies within `band`; the others start on the side of 1/2 and are cut
    anew. The result is 0 or 1. A mask with fewer than
    five pixels on either side of 1/2 has nothing to learn colours from and stays as it is.

    Args:
        picture: uint8 [H, W, 3].
        mask: [H, W] in [0, 1].
        sure: In (0.5, 1]; above 1 nothing is sure.
        band: Pixels; at 0 a mask of 0 and 1 would never change.
        num_iterations: Rounds of fitting the colours and cutting.
    """
    inside = mask > 0.5
    if min(np.count_nonzero(inside), np.count_nonzero(~inside)) < _COMPONENTS:
        return mask
    state = np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    for within, kind in ((mask >= sure, cv2.GC_FGD), (mask <= 1 - sure, cv2.GC_BGD)):
        state[cv2.erode(within.astype(np.uint8), _disc(band)) > 0] = kind
    colours = np.zeros((2, 1, 13 * _COMPONENTS))
    cv2.setRNGSeed(0)
    cv2.grabCut(
        np.ascontiguousarray(picture[..., ::-1]),
        state,
        (0, 0, 0, 0),  # unused: everything is in `state`
        colours[0],
        colours[1],
        num_iterations,
        cv2.GC_INIT_WITH_MASK,
    )
    cut = (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)
    return np.asarray(cut, np.float32)


def clean(picture: Picture, mask: SoftMask, *, radius: int = 2) -> SoftMask:  # noqa: ARG001
    """Specks and pin holes removed: a gray opening, then a gray closing, by a disc.

    At any threshold this is what opening and closing do to the mask cut there.

    Args:
        picture: Not looked at.
        mask: [H, W] in [0, 1].
        radius: Of the disc, pixels; what it does not fit into is gone.
    """
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(radius))
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _disc(radius)), np.float32)


def _disc(radius: int) -> NDArray[Any]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


class Flipped(Segmenter):
    """The mean of a segmenter's regions over a picture and its mirror images, mirrored back.

    Args:
        segmenter: One whose regions mean the same in every picture.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.foreground = segmenter.foreground
        self.postprocessing = "mean over flips"

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of images [N, 3, H, W] in [0, 1]."""
        flips: list[list[int]] = [[], [3], [2], [2, 3]]
        mirrored = [self.segmenter(images.flip(axes)).flip(axes) for axes in flips]
        return torch.stack(mirrored).mean(0)

    def forward_in_boxes(self, images: Tensor, boxes: Tensor) -> Tensor:
        """As `forward`, the boxes [N, 4] mirrored with their pictures."""
        height, width = images.shape[-2:]
        x0, y0, x1, y1 = boxes.unbind(1)
        results = []
        for across, along in ((False, False), (True, False), (False, True), (True, True)):
            axes = [axis for axis, flip in ((3, across), (2, along)) if flip]
            sides = (width - x1, width - x0) if across else (x0, x1)
            ends = (height - y1, height - y0) if along else (y0, y1)
            mirrored = torch.stack([sides[0], ends[0], sides[1], ends[1]], dim=1)
            regions = self.segmenter.forward_in_boxes(images.flip(axes), mirrored)
            results.append(regions.flip(axes))
        return torch.stack(results).mean(0)


REFINEMENTS: Mapping[str, Refinement] = MappingProxyType(
    {"crf": crf, "guided": guided, "grabcut": grabcut, "clean": clean}
)
"""Names, as on the command line, to steps on masks. "flips" acts on the segmenter instead."""

FLIPS = "flips"


def compose(names: Sequence[str]) -> Refinement:
    """The steps one after the other, in the order given; "flips" is left to `Flipped`.

    Raises:
        ConfigError: There is no such refinement.
    """
    for name in names:
        if name not in REFINEMENTS and name != FLIPS:
            known = ", ".join([*REFINEMENTS, FLIPS])
            raise ConfigError(f"there is no refinement {name!r}; there are {known}")
    steps = [REFINEMENTS[name] for name in names if name != FLIPS]

    def refine(picture: Picture, mask: SoftMask) -> SoftMask:
        for step in steps:
            mask = step(picture, mask)
        return mask

    return refine
