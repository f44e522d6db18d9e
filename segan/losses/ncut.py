"""Soft normalised cut, the clustering loss of W-Net (Xia & Kulis, 2017, arXiv 1711.08506).

Pixels that are near and alike belong to one region; the affinity W is never built as a matrix.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Features = Literal["colour", "brightness"]

# Pixels per strip and elements per operation: what a core's cache holds, and what keeps a GPU busy.
_STRIP = {"cpu": 1 << 13, "other": 1 << 18}
_CHUNK = {"cpu": 1 << 16, "other": 1 << 23}

# Room for rounding of resampled images.
_RANGE_TOLERANCE = 1e-3


def soft_ncut(
    regions: Tensor,
    images: Tensor,
    *,
    radius: int = 5,
    sigma_intensity: float = 10 / 255,
    sigma_distance: float = 4.0,
    features: Features = "colour",
) -> Tensor:
    """Soft normalised cut of K-way partitions, averaged over the batch (Equation 2).

        J = K - sum_k assoc(A_k, A_k) / assoc(A_k, V)
        assoc(A_k, A_k) = sum_u p_k(u) sum_v w(u, v) p_k(v)
        assoc(A_k, V) = sum_u p_k(u) sum_v w(u, v)

    with the affinity (Equation 6, without factors of 2)

        w(u, v) = exp(-|F(u) - F(v)|^2 / sigma_intensity^2 - |u - v|^2 / sigma_distance^2)

    where |u - v| < radius (69 pixels v at radius 5, u itself among them), and 0 elsewhere. Each
    image is cut by itself and pixels outside it do not exist: they add to no degree. J is from 0
    (perfect) to K. An empty region, whose ratio is 0 / 0, counts as associated with nothing: it
    costs 1, with gradient 0. Images are constants: no gradient flows to them. Linear in time and
    memory; computed in float32 under autocast, in float64 for float64 regions.

    Args:
        regions: Soft assignment p_k(u) [N, K, H, W] in [0, 1], summing to one over K.
        images: Images [N, C, H, W] in [0, 1].
        radius: Neighbourhood in pixels, at least 1, at most the image's shorter side.
        sigma_intensity: Bandwidth of features, in units of the image range [0, 1]; the paper's 10
            is of 255 grey levels.
        sigma_distance: Bandwidth of distance, in pixels.
        features: F, either the channels or, for "brightness", their mean.

    Raises:
        ValueError: A shape, the radius, a bandwidth or the images' range is wrong.
    """
    _check(regions, images, radius)
    if not (sigma_intensity > 0 and sigma_distance > 0):
        found = f"{sigma_intensity} and {sigma_distance}"
        raise ValueError(f"sigma_intensity and sigma_distance must be above 0, not {found}")
    if features not in ("colour", "brightness"):
        raise ValueError(f"features must be 'colour' or 'brightness', not {features!r}")
    dtype = torch.promote_types(regions.dtype, torch.float32)
    values = images.detach().to(dtype)
    if features == "brightness":
        values = values.mean(1, keepdim=True)
    with torch.autocast(regions.device.type, enabled=False):
        cuts: Tensor = _SoftNcut.apply(
            regions.to(dtype), values / sigma_intensity, radius, sigma_distance
        )
        return cuts.mean()


def _check(regions: Tensor, images: Tensor, radius: int) -> None:
    """Raise ValueError for what a caller can get wrong."""
    if regions.dim() != 4 or images.dim() != 4:
        found = f"{list(regions.shape)} and {list(images.shape)}"
        raise ValueError(f"regions and images must be [N, K, H, W] and [N, C, H, W], not {found}")
    if len(regions) != len(images) or regions.shape[2:] != images.shape[2:]:
        found = f"{list(regions.shape)} and {list(images.shape)}"
        raise ValueError(f"regions and images must agree in N, H and W: they are {found}")
    if not 1 <= radius <= min(images.shape[2:]):
        height, width = images.shape[2:]
        raise ValueError(f"radius must be from 1 to the side of {height} x {width}, not {radius}")
    low, high = torch.stack(images.aminmax()).tolist()
    # Not a number is no mistake of range: it goes on into the loss, where training looks for it.
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        raise ValueError(f"images must be in [0, 1], not from {low:.4g} to {high:.4g}")


class _SoftNcut(torch.autograd.Function):
    """J of each image [N].

    W is symmetric, so with N_k = <p_k, W p_k> and D_k = <p_k, d>, d = W 1, the derivatives are
    dN_k/dp_k = 2 W p_k and dD_k/dp_k = d: one application of W gives value and gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, regions: Tensor, features: Tensor, radius: int, sigma_distance: float
    ) -> Tensor:
        count, num_regions, height, width = regions.shape
        cuts = regions.new_empty(count)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(regions, memory_format=torch.contiguous_format)
        for i in range(count):
            padded = _padded(torch.cat([regions[i], torch.ones_like(regions[i, :1])]), radius)
            sums = _weighted_sums(padded, _padded(features[i], radius), radius, sigma_distance)
            assignments, degree = padded[:-1].flatten(1), sums[-1].flatten()
            # Zero only for an empty region; then the ratio and its gradient are 0.
            volume = (assignments @ degree).clamp(min=torch.finfo(regions.dtype).tiny)
            ratio = (assignments * sums[:-1].flatten(1)).sum(1) / volume
            cuts[i] = num_regions - ratio.sum()
            if wanted:
                sums = sums[:, :height, :width]
                torch.mul(sums[-1], ratio[:, None, None], out=gradient[i])
                gradient[i].sub_(sums[:-1], alpha=2).div_(volume[:, None, None])
        if wanted:
            ctx.save_for_backward(gradient)
        return cuts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None, None, None], None, None, None


def _padded(maps: Tensor, radius: int) -> Tensor:
    """Maps [K, H, W] with radius - 1 zeros right and below.

    A displacement is then one offset into the flattened map: what leaves a row meets zeros.
    """
    return F.pad(maps, (0, radius - 1, 0, radius - 1))


def _affinities(
    values: Tensor, start: int, size: int, stride: int, radius: int, sigma_distance: float
) -> Iterator[tuple[int, Tensor]]:
    """Displacements, as offsets, with the affinity of `size` pixels to those they lead to [size].

    Affinities below what rounding keeps of a degree (at least 1) are raised to that: products of
    smaller ones would be denormal numbers, which are many times slower.
    """
    least = 2 * math.log(torch.finfo(values.dtype).eps)
    for down in range(radius):
        widest = math.isqrt(radius**2 - 1 - down**2)
        first = 1 if down == 0 else -widest
        if first > widest:
            continue
        across = torch.arange(first, widest + 1, device=values.device, dtype=values.dtype)
        exponents = -(across.square() + down**2)[:, None] / sigma_distance**2
        offset = down * stride + first
        for channel in values:
            here = channel.narrow(0, start, size)
            there = channel.narrow(0, start + offset, size + len(across) - 1).unfold(0, size, 1)
            difference = there - here
            exponents = torch.addcmul(exponents, difference, difference, value=-1)
        yield from enumerate(exponents.clamp_(min=least).exp_(), start=offset)


def _weighted_sums(maps: Tensor, features: Tensor, radius: int, sigma_distance: float) -> Tensor:
    """Applies W to padded maps [K, H + radius - 1, W + radius - 1]; sums in the padding are void.

    Half the displacements do: w(u, v) serves u and v.
    """
    place = "cpu" if maps.device.type == "cpu" else "other"
    flat, sums = maps.flatten(1), maps.flatten(1).clone()
    values, stride = features.flatten(1), features.shape[2]
    length = flat.shape[1] - (radius - 1) * (stride + 1)
    for start in range(0, length, _STRIP[place]):
        size = min(_STRIP[place], length - start)
        weights = list(_affinities(values, start, size, stride, radius, sigma_distance))
        step = max(1, _CHUNK[place] // size)
        for source, target in zip(flat.split(step), sums.split(step), strict=True):
            near, total = source.narrow(1, start, size), target.narrow(1, start, size)
            for offset, weight in weights:
                total.addcmul_(source.narrow(1, start + offset, size), weight)
                target.narrow(1, start + offset, size).addcmul_(near, weight)
    return sums.view_as(maps)
