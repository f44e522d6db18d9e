"""Statistics of masks and of partitions that need no truth: how large, how sure, how alike.

`segan.evaluation.health` judges training by them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Shares of what is allowed at which a mask counts as nothing and as everything.
_EMPTY, _FULL = 0.01, 0.9
_GRID = 32
_DECIDED = 0.25  # certainty of a pixel that is of one region


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """What a batch of masks looks like; "allowed" is the inside of the box, or the whole window.

    Attributes:
        area: Mean opacity of the allowed pixels, averaged over masks.
        empty: Share of masks that cover less than 1 % of what is allowed.
        full: Share of masks that cover more than 90 %.
        undecided: Mean min(m, 1 - m) of the allowed pixels: 0 binary, .5 nowhere decided.
        border_touch: Mask mass on the outermost allowed pixels over what masks as large but
            uniform would have there: 0 never touching, 1 uniform, above 1 hugging the border.
        diversity: Mean per-pixel variance across the batch over p (1 - p), p being the mean
            opacity: 0 the same mask everywhere, 1 masks that share nothing, None for one mask.
            Masks are compared in the coordinates of their box, so a mask that merely follows the
            shape of its box is the same mask.
    """

    area: float
    empty: float
    full: float
    undecided: float
    border_touch: float
    diversity: float | None


@torch.no_grad()
def mask_statistics(masks: Tensor, inside: Tensor | None = None) -> MaskStatistics:
    """Statistics of a batch of masks.

    Args:
        masks: [N, 1, H, W] in [0, 1].
        inside: Where masks may be positive: [N, 1, H, W], one in a non-empty box and zero
            elsewhere; None for anywhere.
    """
    masks = masks.float()
    allowed = torch.ones_like(masks) if inside is None else inside.to(masks)
    masks = masks * allowed
    size = allowed.sum((1, 2, 3)).clamp(min=1)
    areas = masks.sum((1, 2, 3)) / size
    undecided = (torch.minimum(masks, 1 - masks) * allowed).sum((1, 2, 3)) / size
    aligned = in_boxes(masks, allowed)
    return MaskStatistics(
        area=float(areas.mean()),
        empty=float((areas < _EMPTY).float().mean()),
        full=float((areas > _FULL).float().mean()),
        undecided=float(undecided.mean()),
        border_touch=_border_touch(masks, allowed),
        diversity=shared_variation(aligned, aligned) if len(masks) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """What a batch of partitions looks like.

    Attributes:
        largest: Share of pixels that are decidedly of the region that has most such pixels: those
            whose certainty, as below, is .25 or more. A hair's breadth decides nothing.
        used: exp of the entropy of the shares of pixels where each region is the likeliest: how
            many are in use.
        certainty: Mean over pixels of the largest probability, rescaled from [1 / K, 1] to [0, 1].
    """

    largest: float
    used: float
    certainty: float


@torch.no_grad()
def region_statistics(regions: Tensor) -> RegionStatistics:
    """Statistics of partitions [N, K, H, W] that sum to one over K, K at least 2."""
    count = regions.shape[1]
    regions = regions.float()
    best, labels = regions.max(1)
    shares = torch.bincount(labels.flatten(), minlength=count) / labels.numel()
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    certainty = (best * count - 1) / (count - 1)
    decided = torch.bincount(labels[certainty >= _DECIDED], minlength=count)
    return RegionStatistics(
        largest=float(decided.max() / labels.numel()),
        used=float(entropy.exp()),
        certainty=float(certainty.mean()),
    )


def statistics_of(masks: Tensor, inside: Tensor | None = None) -> MaskStatistics | RegionStatistics:
    """Statistics of masks [N, 1, H, W], or of partitions [N, K, H, W]."""
    return mask_statistics(masks, inside) if masks.shape[1] == 1 else region_statistics(masks)


def in_boxes(masks: Tensor, inside: Tensor) -> Tensor:
    """Masks [N, 1, H, W] resampled, each from the box where `inside` is one, to [N, 1, 32, 32]."""
    height, width = masks.shape[-2:]
    steps = (torch.arange(_GRID, device=masks.device) + 0.5) / _GRID
    x0, y0, x1, y1 = _bounding_boxes(inside).to(masks)[:, :, None].unbind(1)
    # Not beyond the outermost pixel centres, where what lies outside the box would be mixed in.
    x = torch.lerp(x0, x1, steps).clamp(x0 + 0.5, x1 - 0.5) / width
    y = torch.lerp(y0, y1, steps).clamp(y0 + 0.5, y1 - 0.5) / height
    columns, rows = x[:, None, :].expand(-1, _GRID, -1), y[:, :, None].expand(-1, -1, _GRID)
    grid = 2 * torch.stack([columns, rows], dim=-1) - 1
    return F.grid_sample(masks, grid, padding_mode="border", align_corners=False)


def shared_variation(first: Tensor, second: Tensor) -> float:
    """How much two readings of the same masks vary alike across the batch, as a share.

    Mean over pixels of the unbiased covariance across the batch, over p (1 - p) with p the mean
    opacity (at least .01, so that next to nothing does not count as variation).
    1 for binary masks that share nothing but agree between readings; 0 for readings that do not
    vary with the picture, or vary independently.

    Args:
        first: [N, ...] in [0, 1], N at least 2, pixels in corresponding places.
        second: [N, ...], the same masks obtained in another way, or the same way.
    """
    assert len(first) > 1, "variation needs two masks or more"
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
    p = torch.cat([first, second]).mean()
    return float(covariance.mean() / (p * (1 - p)).clamp(min=_EMPTY))


def _bounding_boxes(inside: Tensor) -> Tensor:
    """Half-open boxes [N, 4] around masks [N, 1, H, W] of 0 and 1."""
    columns, rows = inside.amax((1, 2)), inside.amax((1, 3))
    right = inside.shape[-1] - columns.flip(1).argmax(1)
    bottom = inside.shape[-2] - rows.flip(1).argmax(1)
    return torch.stack([columns.argmax(1), rows.argmax(1), right, bottom], dim=1)


def _border_touch(masks: Tensor, allowed: Tensor) -> float:
    # Beyond the window nothing is allowed, hence the padding with ones.
    beside_forbidden = F.max_pool2d(F.pad(1 - allowed, (1, 1, 1, 1), value=1.0), 3, stride=1)
    frame = allowed * beside_forbidden
    share_of_frame = frame.sum((1, 2, 3)) / allowed.sum((1, 2, 3)).clamp(min=1)
    uniform = (masks.sum((1, 2, 3)) * share_of_frame).sum()
    return float((masks * frame).sum() / uniform) if uniform > 0 else 0.0
