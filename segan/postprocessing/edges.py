"""Label-free edge maps for a hierarchy of regions.

Xia and Kulis (W-Net, arXiv 1711.08506, Algorithm 2) weight the boundaries of the refined regions by
gPb, a detector whose cue weights were learned from human boundaries. Here edges are differences of
Lab colour over several scales, or of region probabilities, with no weights to learn; the scales
were chosen among a few by covering on training pictures of BSDS500. gPb (its textons and its
spectral part) is not included.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.arrays import colours_of, lab

Floats = NDArray[np.float32]

_NUM_ORIENTATIONS = 8
_ELONGATION = 2.0  # of a derivative filter along the contour, over its width across
_FIRMNESS = 4.0  # see `gradient_edges`


@dataclass(frozen=True, kw_only=True)
class Edges:
    """How strong the edge is between each two neighbouring pixels.

    Between pixels, not on them, so that every strength belongs to one side of one region.

    Attributes:
        right: [H, W - 1] in [0, 1], between a pixel and the one on its right.
        down: [H - 1, W] in [0, 1], between a pixel and the one below.
        normal: [H, W] in [0, pi), the direction across the contour near each pixel: 0 is along
            the rows, pi / 2 down the columns. None where edges have no direction of their own.
    """

    right: Tensor
    down: Tensor
    normal: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the picture: height, width."""
        return self.right.shape[0], self.down.shape[1]

    def pixels(self) -> Tensor:
        """Per pixel [H, W], the greater of its strengths to the right and down.

        Contours are then one pixel wide, on the upper or left side of the boundary.
        """
        height, width = self.shape
        strongest = self.right.new_zeros(height, width)
        strongest[:, :-1] = self.right
        strongest[:-1] = torch.maximum(strongest[:-1], self.down)
        return strongest


def gradient_edges(image: Tensor, *, scales: tuple[float, ...] = (2.0, 4.0, 8.0)) -> Edges:
    """Multi-scale gradients of CIE Lab: 1 - exp(-4 max_theta mean_s |G'_{s,theta} * Lab|).

    G'_{s,theta} is the derivative across theta of a Gaussian of deviation s, twice as long along
    the contour, scaled to give a step its height; |.| is the Euclidean norm over L, a and b, where
    black to white is 1. Eight directions are tried, and the best one is the edge's normal. The
    scales were chosen by covering, among 9 sets of filters on 20 training pictures of BSDS500 and
    6 on 20 others; (4, 8) did as well.

    Args:
        image: [3, H, W] in [0, 1].
        scales: Standard deviations across the contour, pixels.

    Returns:
        Strengths in [0, 1], 0.98 for black against white.
    """
    lab = _lab(image)
    angles = np.arange(_NUM_ORIENTATIONS) * np.pi / _NUM_ORIENTATIONS
    responses = np.stack(
        [np.mean([_directional(lab, scale, angle) for scale in scales], axis=0) for angle in angles]
    )
    strength = torch.from_numpy(-np.expm1(-_FIRMNESS * responses.max(axis=0)))
    normal = torch.from_numpy(angles[responses.argmax(axis=0)])
    return Edges(
        right=(strength[:, 1:] + strength[:, :-1]) / 2,
        down=(strength[1:] + strength[:-1]) / 2,
        normal=normal.float(),
    )


def region_edges(regions: Tensor) -> Edges:
    """How unlikely neighbours u and v are to share a region: 1 - sum_k p_k(u) p_k(v).

    Undecided pixels inside one region also score: two equal neighbours give 1 - sum_k p_k^2.

    Args:
        regions: [K, H, W], summing to one over K.
    """
    right = 1 - (regions[..., 1:] * regions[..., :-1]).sum(0)
    down = 1 - (regions[:, 1:] * regions[:, :-1]).sum(0)
    return Edges(right=right.clamp(0, 1), down=down.clamp(0, 1))


def boundary_edges(edges: Edges, labels: Tensor) -> Edges:
    """Algorithm 2's weighting: only boundaries between labels keep their strength.

    Args:
        edges: Of a picture.
        labels: [H, W] integers, the most likely regions of the same picture.
    """
    return replace(
        edges,
        right=edges.right * (labels[:, 1:] != labels[:, :-1]),
        down=edges.down * (labels[1:] != labels[:-1]),
    )


def mean_edges(first: Edges, second: Edges) -> Edges:
    """The mean of two edge maps of one picture, with the normals of the first."""
    return replace(
        first,
        right=(first.right + second.right) / 2,
        down=(first.down + second.down) / 2,
    )


def _lab(image: Tensor) -> Floats:
    """CIE Lab [H, W, 3] over 100, of an image [3, H, W] in [0, 1]."""
    return lab(colours_of(image)) / np.float32(100)


def _directional(lab: Floats, scale: float, angle: float) -> Floats:
    """Norm over colours [H, W] of the derivative in one direction."""
    derivative = cv2.filter2D(lab, -1, _kernel(scale, angle), borderType=cv2.BORDER_REFLECT)
    norm: Floats = np.sqrt(np.square(derivative).sum(axis=2))
    return norm


def _kernel(scale: float, angle: float) -> Floats:
    """Derivative of an elongated Gaussian; its positive half sums to one."""
    reach = int(np.ceil(3 * scale * _ELONGATION))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    across = columns * np.cos(angle) + rows * np.sin(angle)
    along = rows * np.cos(angle) - columns * np.sin(angle)
    kernel = across * np.exp(-((across / scale) ** 2 + (along / (scale * _ELONGATION)) ** 2) / 2)
    return np.asarray(kernel / kernel.clip(min=0).sum(), np.float32)
