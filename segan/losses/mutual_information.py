"""Invariant information clustering for segmentation (Ji, Henriques & Vedaldi, ICCV 2019).

Regions of an image and of its transformed copy should tell as much as possible of each other.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from segan.distributed import all_reduce_mean

# Elements per operation: what a core's cache holds, and what keeps a GPU busy.
_CHUNK = {"cpu": 1 << 17, "other": 1 << 22}

# The authors' least probability: below it, logarithms are of this.
_LEAST = 2.2e-16


def mutual_information_loss(
    first: Tensor,
    second: Tensor,
    *,
    radius: int,
    entropy_weight: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Negative mutual information, averaged over displacements (Equation 5; the authors' form).

        loss = mean over t in [-radius, radius]^2 of
            -sum_ij P_t(i, j) [log P_t(i, j) - entropy_weight (log P_t(i) + log P_t(j))]

    P_t is the joint of `displaced_joints` divided by its sum and symmetrised, P_t(i) its marginal;
    probabilities are at least 2.2e-16. The loss is from -log K (regions of equal size, known from
    each other) to 0 (independent) at entropy_weight 1; more weight asks for more equal sizes.
    The joint is one of the whole batch: it is averaged over processes, and each gets the same
    loss. Computed in float32 under autocast, in float64 for float64 regions.

    Args:
        first: Regions [N, K, H, W] of the images, summing to one over K.
        second: Regions [N, K, H, W] of their copies, brought back into the images' frame.
        radius: Greatest displacement along an axis, in pixels, less than the image's sides.
        entropy_weight: Weight of the marginals' entropy, lambda in the authors' code.
        mask: Pixels that count [N, 1, H, W] in [0, 1]; both arguments are multiplied by it.

    Raises:
        ValueError: A shape or the radius is wrong.
    """
    joints = displaced_joints(first, second, radius=radius, mask=mask)
    return _negative_information(all_reduce_mean(joints), entropy_weight)


def collapsed_mutual_information_loss(
    first: Tensor,
    second: Tensor,
    *,
    radius: int,
    entropy_weight: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Negative mutual information of the joint summed over displacements: one P, not one per t.

    Arguments, range and errors are those of `mutual_information_loss`; many times faster, and
    equal to it at radius 0. Mixing displacements blurs: contours and fine regions cost more here.
    """
    joint = pooled_joint(first, second, radius=radius, mask=mask)
    return _negative_information(all_reduce_mean(joint), entropy_weight)


def displaced_joints(
    first: Tensor, second: Tensor, *, radius: int, mask: Tensor | None = None
) -> Tensor:
    """How often regions i and j meet at each displacement, not normalised.

        P_t(i, j) = sum_n sum_u first_i(u + t) second_j(u),    t in [-radius, radius]^2

    with zeros outside the image. Exact but for rounding, relative to the greatest entry: the
    correlation is a product of Fourier transforms of overlapping tiles, summed over tiles and
    images before the one inverse transform.

    Args:
        first: [N, K, H, W].
        second: [N, K, H, W].
        radius: Greatest displacement along an axis, in pixels, less than the image's sides.
        mask: Pixels that count [N, 1, H, W] in [0, 1].

    Returns:
        [2 radius + 1, 2 radius + 1, K, K] in at least float32, indexed by t, first down.

    Raises:
        ValueError: A shape or the radius is wrong.
    """
    first, second = _prepared(first, second, radius, mask)
    with torch.autocast(first.device.type, enabled=False):
        if radius == 0:
            return pooled_joint(first, second, radius=0)[None, None]
        joints: Tensor = _DisplacedJoints.apply(first, second, radius)
        return joints


def pooled_joint(
    first: Tensor, second: Tensor, *, radius: int, mask: Tensor | None = None
) -> Tensor:
    """The sum of `displaced_joints` over displacements [K, K], not normalised.

        P(i, j) = sum_n sum_u (sum_t first_i(u + t)) second_j(u)

    One map is box-filtered, then there is one product. Arguments and errors are those of
    `displaced_joints`.
    """
    first, second = _prepared(first, second, radius, mask)
    with torch.autocast(first.device.type, enabled=False):
        joint: Tensor = _PooledJoint.apply(first, second, radius)
        return joint


def _prepared(
    first: Tensor, second: Tensor, radius: int, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both maps, masked, in at least float32; raises ValueError for what a caller can get wrong."""
    if first.dim() != 4 or first.shape != second.shape:
        found = f"{list(first.shape)} and {list(second.shape)}"
        raise ValueError(f"first and second must both be [N, K, H, W], not {found}")
    count, _, height, width = first.shape
    if not 0 <= radius < min(height, width):
        raise ValueError(f"radius must be from 0 to below the side of {height} x {width}: {radius}")
    dtype = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    first, second = first.to(dtype), second.to(dtype)
    if mask is None:
        return first, second
    if mask.shape != (count, 1, height, width):
        raise ValueError(f"mask must be {[count, 1, height, width]}, not {list(mask.shape)}")
    mask = mask.to(dtype)
    return first * mask, second * mask


def _negative_information(joint: Tensor, entropy_weight: float) -> Tensor:
    """The loss of joints [..., K, K] that are neither normalised nor symmetric, averaged."""
    joint = joint / joint.sum((-2, -1), keepdim=True).clamp(min=_LEAST)
    joint = (joint + joint.mT) / 2
    marginal = joint.sum(-1).clamp(min=_LEAST).log() * entropy_weight
    joint = joint.clamp(min=_LEAST)
    information = joint * (joint.log() - marginal[..., :, None] - marginal[..., None, :])
    return -information.sum((-2, -1)).mean()


class _PooledJoint(torch.autograd.Function):
    """sum_n sum_u boxed_i(u) second_j(u) [K, K], boxed being `first` summed over windows.

    The box sum is symmetric, so backward is one product and one box sum as well.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, radius: int) -> Tensor:
        boxed = _box_sum(first, radius).flatten(2)
        ctx.save_for_backward(boxed, second)
        ctx.radius = radius
        return torch.bmm(boxed, second.flatten(2).mT).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        boxed, second = ctx.saved_tensors
        found: list[Tensor | None] = [None, None]
        with torch.autocast(outer.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                pulled = (outer @ second.flatten(2)).view(second.shape)
                found[0] = _box_sum(pulled, ctx.radius)
            if ctx.needs_input_grad[1]:
                found[1] = (outer.T @ boxed).view(second.shape)
        return found[0], found[1], None


def _box_sum(maps: Tensor, radius: int) -> Tensor:
    """Sums over windows of 2 radius + 1 pixels, with zeros outside, of maps [N, K, H, W].

    Runs of 1, 2, 4, ... pixels are summed by doubling, and the window from those in its binary
    form: no cancellation, and every addition is one of long contiguous runs.
    """
    count, num_regions, height, width = maps.shape
    down, across = height + 2 * radius, width + 2 * radius
    step = max(1, _CHUNK["cpu" if maps.device.type == "cpu" else "other"] // (down * across))
    planes = maps.reshape(count * num_regions, height, width)
    out = torch.empty_like(planes, memory_format=torch.contiguous_format)
    spare = maps.new_empty(2, min(step, len(planes)) * down * across)
    for source, target in zip(torch.split(planes, step), torch.split(out, step), strict=True):
        flat = F.pad(source, (radius, radius, radius, radius)).flatten()
        flat = _run_sums(_run_sums(flat, radius, across, spare), radius, 1, spare)
        target.copy_(flat.as_strided(target.shape, (down * across, across, 1)))
    return out.view(maps.shape)


def _run_sums(flat: Tensor, radius: int, step: int, spare: Tensor) -> Tensor:
    """Sums of flat[i + step j] over j from 0 to 2 radius, for every i where all are there.

    In place of `flat`; runs are in the two rows of `spare` by turns.
    """
    length = 2 * radius + 1
    run, size, done = flat, 1, 1
    for power in range(1, length.bit_length()):
        into = spare[power % 2][: len(run) - step * size]
        run, size = torch.add(run[: len(into)], run[step * size :], out=into), 2 * size
        if length & size:
            rest = run[step * done :]
            flat, done = flat[: len(rest)].add_(rest), done + size
    return flat


class _DisplacedJoints(torch.autograd.Function):
    """Correlations of channels [2 radius + 1, 2 radius + 1, K, K], by tiles.

    A tile of `second` is correlated with the window of `first` around it: at the transform's side,
    tile plus 2 radius, nothing wraps around. Backward is a convolution and a correlation of the
    same spectra with that of the outer gradient.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, radius: int) -> Tensor:
        side = _transform_side(first.shape, radius)
        tile = side - 2 * radius
        ctx.radius, ctx.side, ctx.size = radius, side, first.shape[2:]
        below, right = -first.shape[2] % tile, -first.shape[3] % tile
        first = F.pad(first, (radius, radius + right, radius, radius + below))
        second = F.pad(second, (0, right, 0, below))
        around = _windows(first, side, tile)
        ctx.grid = around.shape[1:4]
        windows, tiles = _spectra(around, side), _spectra(_windows(second, tile, tile), side)
        ctx.save_for_backward(windows, tiles)
        joints = _signals(torch.bmm(windows, tiles.mH), side, 2 * radius + 1)
        return joints.permute(2, 3, 0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        windows, tiles = ctx.saved_tensors
        (height, width), radius, tile = ctx.size, ctx.radius, ctx.side - 2 * ctx.radius
        spectrum = _spectra(outer.permute(2, 3, 0, 1), ctx.side)
        first = second = None
        if ctx.needs_input_grad[0]:
            found = _signals(torch.bmm(spectrum, tiles), ctx.side, ctx.side)
            maps = _overlap_add(found, ctx.grid, tile)
            first = maps[..., radius : radius + height, radius : radius + width]
        if ctx.needs_input_grad[1]:
            found = _signals(torch.bmm(spectrum.mH, windows), ctx.side, tile)
            second = _overlap_add(found, ctx.grid, tile)[..., :height, :width]
        return first, second, None


def _transform_side(shape: torch.Size, radius: int) -> int:
    """The side of tiles' transforms that needs least work: small ones overlap more."""
    count, num_regions, height, width = shape

    def work(side: int) -> float:
        tile = side - 2 * radius
        tiles = count * math.ceil(height / tile) * math.ceil(width / tile)
        # Transforms of both maps, their product, and the transform of what it leaves.
        maps = (2 * num_regions * tiles + num_regions**2) * (4 + math.log2(side))
        return side**2 * (maps + num_regions**2 * tiles / 4)

    least = (2 * radius + 1).bit_length()
    most = (max(height, width) + 2 * radius - 1).bit_length()
    return min((1 << power for power in range(least, most + 1)), key=work)


def _spectra(windows: Tensor, side: int) -> Tensor:
    """Spectra of windows [K, M, ..., h, w], zero beyond them [frequencies, K, M ...]."""
    spectra: Tensor = torch.fft.rfft2(windows.contiguous(), s=(side, side))
    rows = spectra.view(-1, side * (side // 2 + 1))
    return rows.T.contiguous().view(rows.shape[1], len(windows), -1)


def _signals(spectra: Tensor, side: int, size: int) -> Tensor:
    """The inverse of `_spectra`, cropped to its first pixels [K, M ..., size, size].

    Down while frequencies lead, across when they no longer do: both are the fast order.
    """
    frequencies, rows, columns = spectra.shape
    half = frequencies // side
    down = torch.fft.ifft(spectra.view(side, half, -1), dim=0)[:size]
    turned = down.reshape(size * half, -1).T.contiguous().view(rows, columns, size, half)
    signals: Tensor = torch.fft.irfft(turned, n=side)[..., :size]
    return signals


def _windows(maps: Tensor, size: int, step: int) -> Tensor:
    """Windows that begin every `step` pixels [K, N, rows, columns, size, size], a view."""
    return maps.transpose(0, 1).unfold(2, size, step).unfold(3, size, step)


def _overlap_add(windows: Tensor, grid: torch.Size, step: int) -> Tensor:
    """The adjoint of `_windows`: [K, N rows columns, size, size] to [N, K, H, W]."""
    size, (count, rows, columns) = windows.shape[-1], grid
    windows = windows.reshape(-1, count, rows, columns, size, size)
    height, width = (rows - 1) * step + size, (columns - 1) * step + size
    maps = windows.new_zeros(count, len(windows), height, width)
    for row in range(rows):
        for column in range(columns):
            place = maps[..., row * step :, column * step :][..., :size, :size]
            place += windows[:, :, row, column].transpose(0, 1)
    return maps
