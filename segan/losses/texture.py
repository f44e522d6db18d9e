"""Texture without a pretrained network: second moments of small derivatives within a region.

Gatys et al. (2015) compare Gram matrices of VGG features. Here the features are differences of
neighbouring pixels at a few distances, which tell smooth from rough, fine from coarse and striped
from cloudy, and need no weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Right, down and both diagonals, at one and two pixels.
_OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))


def texture_distance(first: Tensor, second: Tensor, within: Tensor, reference: Tensor) -> Tensor:
    """How much the texture of one picture in a region differs from another's: E |G1 - G2|.

    G is the Gram matrix sum(w f f^T) / sum(w) of the differences f of gray levels to six
    neighbours, its entries in square-rooted units (sign(g) sqrt |g|) of [0, 1].

    Args:
        first: [N, 3, H, W] in [0, 1].
        second: As `first`.
        within: Weights of the region of `first`, [N, 1, H, W] in [0, 1].
        reference: Weights of the region of `second`, [N, 1, H, W] in [0, 1].
    """
    return (_root(gram(first, within)) - _root(gram(second, reference))).abs().mean()


def gram(images: Tensor, within: Tensor) -> Tensor:
    """Second moments [N, 6, 6] of differences to neighbours, over a region [N, 1, H, W]."""
    gray = images.mean(1, keepdim=True)
    padded = F.pad(gray, (2, 2, 2, 2), mode="replicate")
    height, width = gray.shape[-2:]
    moved = [
        padded[..., 2 + down : 2 + down + height, 2 + right : 2 + right + width]
        for down, right in _OFFSETS
    ]
    features = (torch.cat(moved, dim=1) - gray).flatten(2)
    weights = within.flatten(2)
    total = weights.sum(2, keepdim=True).clamp(min=1)
    return torch.einsum("nip,njp,np->nij", features, features, weights[:, 0]) / total


def _root(values: Tensor) -> Tensor:
    return values.sign() * ((values.abs() + 1e-4).sqrt() - 1e-2)
