"""Candidate scores for choosing among runs without labels; whether they are any good is measured.

Each looks at something the others ignore: `flip_consistency` at masks alone and whether they
follow their picture, `edge_alignment` at single pixels along the contour, `contrast` at the
colours of the regions on both sides of it. All are higher for better masks and near 0 for masks of
everything or nothing. `rank_correlation` says how well one orders runs as their IoU does.

Windows are [N, 3, S, S] in [0, 1]; boxes, if the masks are to be zero outside them, [N, 4] in
window pixels, half-open. The segmenter is in evaluation mode and names its foreground.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from segan.evaluation.statistics import in_boxes, shared_variation
from segan.segmenter import Segmenter
from segan.windows import boxes_to_mask

Score = Callable[[Segmenter, Tensor, Tensor | None], float]


@torch.no_grad()
def flip_consistency(segmenter: Segmenter, windows: Tensor, boxes: Tensor | None = None) -> float:
    """How much of the masks' variation from picture to picture survives mirroring the picture.

        mean over pixels of cov(m, m') / (p (1 - p))

    with m' the mirrored-back mask of the mirrored window, the covariance taken across the batch in
    the coordinates of the boxes, and p the mean opacity. A plain IoU of m and m' is 1 for masks
    that ignore the picture; this is 0 for those, and for masks that are noise.

    Args:
        segmenter: Of two regions or more, its `foreground` named.
        windows: [N, 3, S, S], N at least 2.
        boxes: [N, 4] or None.
    """
    inside = _inside(windows, boxes)
    mirrored = None if boxes is None else _mirror_boxes(boxes, windows.shape[-1])
    masks = _masks(segmenter, windows, boxes)
    again = _masks(segmenter, windows.flip(-1), mirrored).flip(-1)
    return shared_variation(in_boxes(masks, inside), in_boxes(again, inside))


@torch.no_grad()
def edge_alignment(segmenter: Segmenter, windows: Tensor, boxes: Tensor | None = None) -> float:
    """How much steeper the picture is along the contour of its mask than just beside it.

    The rank of a pixel's colour gradient within its window, 0 to 1, averaged over the contour,
    less its average over the rest of a band of S / 12 on both sides (in the box). Ranks, because
    a window of strong texture should count no more than a faint one; less what is beside it,
    because any line through a textured object lies on edges. Without a contour the score is 0.

    Args:
        segmenter: Of two regions or more, its `foreground` named.
        windows: [N, 3, S, S].
        boxes: [N, 4] or None.
    """
    gradient = _gradient(windows).flatten(1)
    ranks = gradient.argsort(1).argsort(1) / (gradient.shape[1] - 1)
    masks = _masks(segmenter, windows, boxes) > 0.5
    inside = _inside(windows, boxes).flatten(1)
    contour = _near_contour(masks, radius=1).flatten(1) * inside
    beside = _near_contour(masks, radius=_band(windows)).flatten(1) * inside - contour
    difference = _mean(ranks, contour) - _mean(ranks, beside)
    both = (contour.sum(1) > 0) & (beside.sum(1) > 0)
    return float(torch.where(both, difference, 0).mean())


@torch.no_grad()
def contrast(segmenter: Segmenter, windows: Tensor, boxes: Tensor | None = None) -> float:
    """How well colour and texture tell, near its contour, on which side of it a pixel lies.

    The share of variance R^2 that a linear regression of the binary mask on the three colours and
    the gradient explains, in a band of S / 12 on both sides of the contour; equivalently Fisher's
    criterion b / (b + w). Near the contour only, because far from it a mask of half the object
    still separates colours. A mask without a contour scores 0.

    Args:
        segmenter: Of two regions or more, its `foreground` named.
        windows: [N, 3, S, S].
        boxes: [N, 4] or None.
    """
    masks = _masks(segmenter, windows, boxes) > 0.5
    band = _near_contour(masks, radius=_band(windows)).flatten(1)
    features = torch.cat([windows, _gradient(windows)], dim=1).flatten(2).double()
    return float(_explained(features, masks.flatten(1).double(), band.double()).mean())


SCORES: dict[str, Score] = {
    "flip_consistency": flip_consistency,
    "edge_alignment": edge_alignment,
    "contrast": contrast,
}


def rank_correlation(scores: Sequence[float], ious: Sequence[float]) -> float | None:
    """Spearman's rank correlation over runs; None with fewer than two distinct values of either.

    Raises:
        ValueError: Not one score per IoU.
    """
    if len(scores) != len(ious):
        raise ValueError(f"{len(scores)} scores for {len(ious)} IoUs; give one of each per run")
    if min(len(set(scores)), len(set(ious))) < 2:
        return None
    return float(spearmanr(scores, ious).statistic)


def _masks(segmenter: Segmenter, windows: Tensor, boxes: Tensor | None) -> Tensor:
    """Foreground opacity [N, 1, S, S], zero outside the boxes."""
    assert segmenter.foreground is not None, "the score needs to know which region is the object"
    regions: Tensor
    regions = segmenter(windows) if boxes is None else segmenter.forward_in_boxes(windows, boxes)
    return regions[:, [segmenter.foreground]] * _inside(windows, boxes)


def _inside(windows: Tensor, boxes: Tensor | None) -> Tensor:
    """Where masks may be positive, [N, 1, S, S] of 0 and 1."""
    if boxes is None:
        return torch.ones_like(windows[:, :1])
    return boxes_to_mask(boxes, windows.shape[-2:])


def _band(windows: Tensor) -> int:
    return max(windows.shape[-1] // 12, 2)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted means [N] of values [N, P]; 0 without weight."""
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)


def _mirror_boxes(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


def _gradient(windows: Tensor) -> Tensor:
    """Length [N, 1, S, S] of the colour gradient, by central differences."""
    padded = F.pad(windows, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return (across.square() + down.square()).sum(1, keepdim=True).sqrt() / 2


def _near_contour(masks: Tensor, *, radius: int) -> Tensor:
    """Float [N, 1, S, S], one at pixels within `radius` of both sides; the window is no contour."""
    opacity = masks.float()
    side = 2 * radius + 1
    grown = F.max_pool2d(opacity, side, stride=1, padding=radius)
    shrunk = -F.max_pool2d(-opacity, side, stride=1, padding=radius)
    return grown - shrunk


def _explained(features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """R^2 [N] of weighted linear regressions of labels [N, P] on features [N, C, P]."""
    total = weights.sum(1, keepdim=True).clamp(min=1)
    shares = weights / total
    features = features - (features * shares[:, None]).sum(2, keepdim=True)
    labels = labels - (labels * shares).sum(1, keepdim=True)
    covariance = (features * shares[:, None]) @ features.mT
    towards = ((features * shares[:, None]) @ labels[:, :, None]).squeeze(2)
    # One 8-bit level: flat colours have no direction to invert.
    ridge = torch.eye(features.shape[1]).to(covariance) / 255**2
    slope: Tensor = torch.linalg.solve(covariance + ridge, towards)
    return (slope * towards).sum(1) / (labels.square() * shares).sum(1).clamp(min=1e-12)
