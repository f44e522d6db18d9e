"""How far a mask is from one that is given, picture by picture: cross-entropy and soft Dice.

Each is a vector of one loss per picture, so that pictures can be weighted before they are averaged.
"""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy [N]: sum w (-t log p - (1 - t) log (1 - p)) / sum w, p = sigmoid.

    Args:
        logits: [N, 1, H, W].
        targets: [N, 1, H, W] in [0, 1].
        weights: [N, 1, H, W], at least 0; a picture without any weight costs nothing.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weights
    return losses.sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1)


def soft_dice(masks: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Soft Dice loss [N]: 1 - (2 sum w m t + 1) / (sum w m + sum w t + 1).

    Dice's coefficient of opacities (Milletari, Navab & Ahmadi, "V-Net", 3DV 2016, section 3, with
    sums in place of sums of squares); one pixel is added so that an empty mask of nothing is right.

    Args:
        masks: [N, 1, H, W] in [0, 1].
        targets: [N, 1, H, W] in [0, 1].
        weights: [N, 1, H, W], at least 0.
    """
    shared = (weights * masks * targets).sum((1, 2, 3))
    total = (weights * (masks + targets)).sum((1, 2, 3))
    return 1 - (2 * shared + 1) / (total + 1)
