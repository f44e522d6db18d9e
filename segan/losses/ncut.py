"""Soft normalised cut, the clustering loss of W-Net (Xia & Kulis, 2017, arXiv 1711.08506).

Pixels that are near and alike belong to one region; the affinity W is never built as a matrix.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Features = Literal["colour", "brightness"]

# Pixels per strip: what a core's cache holds, and what keeps a GPU busy.
_STRIP = {"cpu": 1 << 13, "other": 1 << 16}

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
    if not isinstance(radius, int) or not 1 <= radius <= min(images.shape[2:]):
        height, width = images.shape[2:]
        raise ValueError(
            f"radius must be a whole number from 1 to the side of {height} x {width}, not {radius}"
        )
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
        gradient = torch.empty_like(regions, memory_format=torch.contiguous_format)
        for i in range(count):
            table = _table(regions[i], radius)
            sums, kept = _associations(table, features[i], radius, sigma_distance)
            degree = sums[:, num_regions, None].clone()
            inside = table.narrow(0, _reach(radius, width), len(sums))
            volume = (inside.T @ degree).squeeze(1)
            # Zero only for an empty region (or a column of zeros): its ratio is then 0 as well.
            volume.clamp_(min=torch.finfo(regions.dtype).tiny)
            ratio = kept / volume
            cuts[i] = num_regions - ratio[:num_regions].sum()
            if ctx.needs_input_grad[0]:
                sums.mul_(-2).addcmul_(degree, ratio).div_(volume)
                found = sums.view(height, width + radius - 1, -1)[:, :width, :num_regions]
                gradient[i] = found.permute(2, 0, 1)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient)
        return cuts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None, None, None], None, None, None


def _reach(radius: int, width: int) -> int:
    """The longest displacement as an offset, in rows of `width` pixels and radius - 1 zeros."""
    return (radius - 1) * (width + radius)


def _guarded(maps: Tensor, radius: int) -> Tensor:
    """Maps [K, H, W] flattened to [K, reach + H (W + radius - 1) + reach], zero but for pixels.

    With radius - 1 zeros after every row, a displacement is one offset: what leaves a row meets
    zeros.
    """
    reach = _reach(radius, maps.shape[2])
    return F.pad(F.pad(maps, (0, radius - 1)).flatten(1), (reach, reach))


def _table(regions: Tensor, radius: int) -> Tensor:
    """Regions, a column of ones for degrees, zeros up to a multiple of 8 [pixels, columns]."""
    num_regions, height, width = regions.shape
    columns = math.ceil((num_regions + 1) / 8) * 8
    reach, stride = _reach(radius, width), width + radius - 1
    table = regions.new_zeros(height * stride + 2 * reach, columns)
    pixels = table.narrow(0, reach, height * stride).view(height, stride, columns)[:, :width]
    pixels[..., :num_regions] = regions.permute(1, 2, 0)
    pixels[..., num_regions] = 1
    return table


def _associations(
    table: Tensor, features: Tensor, radius: int, sigma_distance: float
) -> tuple[Tensor, Tensor]:
    """W applied to a table [H (W + radius - 1), columns], void between rows; N [columns].

    Strip by strip: a pixel's neighbours are a bag of rows, summed with its affinities as weights.
    """
    width = features.shape[2]
    reach, values = _reach(radius, width), _guarded(features, radius)
    groups = _displacements(radius, width + radius - 1)
    forward = torch.cat([torch.arange(o, o + len(d)) for o, d in groups])
    offsets = torch.cat([forward, -forward[1:]]) + reach
    sums = torch.empty_like(table[: len(table) - 2 * reach])
    kept = torch.zeros_like(table[0])
    strip = min(_STRIP["cpu" if table.device.type == "cpu" else "other"], len(sums))
    pixels = torch.arange(strip, dtype=torch.int32)[:, None]
    bags = (pixels + offsets.to(torch.int32)).to(table.device)
    fall = [-d.to(table)[:, None] / sigma_distance**2 for _, d in groups]
    for start in range(0, len(sums), strip):
        size = min(strip, len(sums) - start)
        near = values.narrow(1, start, size + 2 * reach)
        half = [_affinities(near, reach, o, f) for (o, _), f in zip(groups, fall, strict=True)]
        backward = [_mirrored(a, reach, o) for (o, _), a in zip(groups, half, strict=True)]
        weights = torch.cat([a[:, reach:] for a in half] + backward).T.contiguous()
        rows = table.narrow(0, start, size + 2 * reach)
        found = F.embedding_bag(bags[:size], rows, mode="sum", per_sample_weights=weights)
        kept += (rows.narrow(0, reach, size) * found).sum(0)
        sums[start : start + size] = found
    return sums, kept


def _displacements(radius: int, stride: int) -> list[tuple[int, Tensor]]:
    """Half the displacements shorter than the radius, none first: w(u, v) serves u and v.

    One group for each number of rows down: its leftmost displacement as an offset, and the squared
    lengths of it and of those to its right.
    """
    groups = []
    for down in range(radius):
        widest = math.isqrt(radius**2 - 1 - down**2)
        first = -widest if down else 0
        groups.append((down * stride + first, torch.arange(first, widest + 1) ** 2 + down**2))
    return groups


def _affinities(near: Tensor, reach: int, offset: int, fall: Tensor) -> Tensor:
    """Affinities of a strip, and of `reach` pixels before it, for a group of displacements.

    Those below what rounding keeps of a degree (at least 1) are raised to that: products of
    smaller ones would be denormal numbers, which are many times slower.

    Args:
        near: Features with `reach` pixels before and after the strip [C, reach + size + reach].
        reach: The longest displacement as an offset.
        offset: The group's first displacement as an offset.
        fall: Exponents due to distance [displacements, 1].
    """
    length = near.shape[1] - reach
    exponents, difference = near.new_empty(2, len(fall), length)
    total: Tensor = fall
    for channel in near:
        there = channel[offset : offset + length + len(fall) - 1].unfold(0, length, 1)
        torch.sub(there, channel[:length], out=difference)
        total = torch.addcmul(total, difference, difference, value=-1, out=exponents)
    least = 2 * math.log(torch.finfo(near.dtype).eps)
    return total.clamp_(min=least).exp_()


def _mirrored(affinities: Tensor, reach: int, offset: int) -> Tensor:
    """Affinities of the strip's pixels for the opposite displacements, but for none."""
    count, length = affinities.shape
    skip = int(offset == 0)
    first = skip * length + reach - offset - skip
    return affinities.as_strided((count - skip, length - reach), (length - 1, 1), first)
