"""Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials.

Kraehenbuehl and Koltun, NeurIPS 2011 (arXiv 1210.5644). The idea: every pair of pixels is asked to
agree, the more so the closer they are in place and colour, and because the affinities are Gaussian,
one mean-field round over all pairs is a filter.
"""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from segan.config import settings
from segan.errors import ConfigError
from segan.postprocessing.permutohedral import PermutohedralLattice

Filter = Callable[[Tensor], Tensor]  # [H * W, K] to [H * W, K]

MAX_EXACT_PIXELS = 1024
"""Up to so many pixels per image, `backend: auto` computes all pairs."""

_RANGE_TOLERANCE = 1e-3
_LEAST_PROBABILITY = 1e-5  # as the reference implementation: -log p stays below 11.6
_REACH = 4  # of the smoothness filter, in standard deviations
_CHANNELS_AT_ONCE = 64  # OpenCV filters no more than 128


@settings
class CrfConfig:
    """Potentials and rounds of the dense CRF; the defaults are DeepLab's as STEGO uses them.

    Attributes:
        iterations: Mean-field rounds.
        smoothness_weight: Of the kernel over places alone.
        smoothness_sigma: Its standard deviation, pixels.
        appearance_weight: Of the kernel over places and colours.
        appearance_sigma_distance: Its standard deviation in place, pixels.
        appearance_sigma_colour: Its standard deviation per colour channel, in units of [0, 1]; the
            default is 3 levels of 8 bits.
        backend: "exact" sums over all pairs, in memory quadratic in the pixels; "permutohedral"
            filters on a lattice; "auto" is exact up to 1024 pixels.
    """

    iterations: int = Field(default=10, ge=0, le=1000)
    smoothness_weight: float = Field(default=3.0, ge=0)
    smoothness_sigma: float = Field(default=1.0, gt=0)
    appearance_weight: float = Field(default=4.0, ge=0)
    appearance_sigma_distance: float = Field(default=67.0, gt=0)
    appearance_sigma_colour: float = Field(default=3 / 255, gt=0)
    backend: Literal["auto", "exact", "permutohedral"] = "auto"


@torch.no_grad()
def dense_crf(probabilities: Tensor, images: Tensor, *, config: CrfConfig) -> Tensor:
    """Region probabilities refined by mean field (Algorithm 1) under Potts compatibility.

    Each round is Q <- softmax(log p + sum_m w_m D_m^-1/2 K_m D_m^-1/2 Q), from Q = p, with kernels
    K(i, j) = exp(-|f_i - f_j|^2 / 2) over f = place (smoothness) and f = place and colour
    (appearance), and D_m their row sums. As in the authors' code, the normalisation is symmetric
    and the sums include j = i. Probabilities below 1e-5 count as that.

    Args:
        probabilities: [K, H, W] or [N, K, H, W], summing to one over K.
        images: [3, H, W] or [N, 3, H, W] in [0, 1], as many.
        config: Weights, bandwidths, rounds and backend.

    Returns:
        As `probabilities`, in shape, dtype and device. The exact backend computes in that dtype;
        the permutohedral one in float32 on the CPU.

    Raises:
        ConfigError: The images are not in [0, 1], or a bandwidth is too small for the lattice.
    """
    low, high = torch.stack(images.aminmax()).tolist()
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        raise ConfigError(f"images must be in [0, 1], not from {low:.4g} to {high:.4g}")
    if probabilities.ndim == 4:
        pairs = zip(probabilities, images, strict=True)
        return torch.stack([dense_crf(*pair, config=config) for pair in pairs])
    assert probabilities.shape[1:] == images.shape[1:], "one probability per pixel"
    num_regions, height, width = probabilities.shape
    exact = config.backend == "exact" or (
        config.backend == "auto" and height * width <= MAX_EXACT_PIXELS
    )
    working = probabilities if exact else probabilities.float().cpu()
    filters = (exact_filters if exact else lattice_filters)(images.to(working), config=config)
    logits = working.reshape(num_regions, -1).T.clamp(min=_LEAST_PROBABILITY).log().contiguous()
    refined = _mean_field(logits, filters, iterations=config.iterations)
    return refined.T.reshape(num_regions, height, width).to(probabilities)


def exact_filters(image: Tensor, *, config: CrfConfig) -> list[Filter]:
    """Weighted, normalised kernels as dense matrices, for an image [3, H, W] in [0, 1]."""

    def dense(features: Tensor, weight: float) -> Filter:
        squared = features.new_zeros(len(features), len(features))
        for column in features.unbind(1):
            squared += (column[:, None] - column).square()
        kernel = torch.exp(-squared / 2)
        scale = kernel.sum(1).rsqrt()
        matrix = weight * scale[:, None] * kernel * scale
        return lambda values: matrix @ values

    filters = []
    if config.smoothness_weight > 0:
        places = _places(image) / config.smoothness_sigma
        filters.append(dense(places, config.smoothness_weight))
    if config.appearance_weight > 0:
        filters.append(dense(_appearance(image, config), config.appearance_weight))
    return filters


def lattice_filters(image: Tensor, *, config: CrfConfig) -> list[Filter]:
    """As `exact_filters`, in time linear in the pixels; float32 on the CPU.

    Smoothness is a separable convolution cut off at 4 standard deviations, appearance a lattice.
    """
    _, height, width = image.shape
    filters = []
    if config.smoothness_weight > 0:
        blur = _convolution(height, width, config.smoothness_sigma)
        filters.append(_normalised(blur, height * width, config.smoothness_weight))
    if config.appearance_weight > 0:
        lattice = PermutohedralLattice(_appearance(image.double(), config).numpy())

        def spread(values: Tensor) -> Tensor:
            return torch.from_numpy(lattice.filter(values.numpy()))

        filters.append(_normalised(spread, height * width, config.appearance_weight))
    return filters


def _mean_field(logits: Tensor, filters: list[Filter], *, iterations: int) -> Tensor:
    """Probabilities [H * W, K] after some rounds, from logits of the same shape."""
    regions = logits.softmax(1)
    for _ in range(iterations):
        messages = logits.clone()
        for weighted in filters:
            messages += weighted(regions)
        regions = messages.softmax(1)
    return regions


def _normalised(kernel: Filter, num_pixels: int, weight: float) -> Filter:
    """The filter weight D^-1/2 K D^-1/2, with D the row sums of K."""
    inner = kernel(torch.ones(num_pixels, 1)).rsqrt()
    outer = weight * inner
    return lambda values: kernel(values * inner).mul_(outer)


def _convolution(height: int, width: int, sigma: float) -> Filter:
    """exp(-|x_i - x_j|^2 / (2 sigma^2)) by rows and columns; outside the image is nothing."""
    reach = int(np.ceil(_REACH * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)

    def blur(values: Tensor) -> Tensor:
        planes = values.numpy().reshape(height, width, -1)
        blurred = np.empty_like(planes)
        for first in range(0, planes.shape[2], _CHANNELS_AT_ONCE):
            some = np.ascontiguousarray(planes[..., first : first + _CHANNELS_AT_ONCE])
            after = cv2.sepFilter2D(some, -1, taps, taps, borderType=cv2.BORDER_CONSTANT)
            blurred[..., first : first + _CHANNELS_AT_ONCE] = after.reshape(some.shape)
        return torch.from_numpy(blurred.reshape(values.shape))

    return blur


def _places(image: Tensor) -> Tensor:
    """Column and row of every pixel [H * W, 2]."""
    height, width = image.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=image.device),
        torch.arange(width, device=image.device),
        indexing="ij",
    )
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2).to(image)


def _appearance(image: Tensor, config: CrfConfig) -> Tensor:
    """Place and colour of every pixel [H * W, 5], in standard deviations."""
    places = _places(image) / config.appearance_sigma_distance
    colours = image.reshape(3, -1).T / config.appearance_sigma_colour
    return torch.cat([places, colours], dim=1)
