"""Priors on masks: opacities [N, 1, H, W] in [0, 1] to a scalar, by which they are implausible.

Each is computed per image and averaged over the batch, so that shards of a batch average to the
whole, whatever their number.
"""

import torch
from torch import Tensor


def mean_area(mask: Tensor, within: Tensor | None = None) -> Tensor:
    """Mean opacity: the share of the image, or of `within`, that the mask covers.

    Args:
        mask: [N, 1, H, W] in [0, 1].
        within: [N, 1, H, W], one where the mask may be (its box) and zero elsewhere.
    """
    return _areas(mask, within).mean()


def area_floor(mask: Tensor, within: Tensor | None = None, *, floor: float) -> Tensor:
    """By how much masks are too small: E relu(floor - area), against the mask of nothing.

    Args:
        mask: [N, 1, H, W] in [0, 1].
        within: As in `mean_area`; the floor is then a share of the box.
        floor: Least area that costs nothing, in [0, 1].
    """
    return (floor - _areas(mask, within)).relu().mean()


def area_ceiling(mask: Tensor, within: Tensor | None = None, *, ceiling: float) -> Tensor:
    """By how much masks are too large: E relu(area - ceiling), against the mask of everything.

    Args:
        mask: [N, 1, H, W] in [0, 1].
        within: As in `mean_area`; the ceiling is then a share of the box.
        ceiling: Greatest area that costs nothing, in [0, 1].
    """
    return (_areas(mask, within) - ceiling).relu().mean()


def binarity(mask: Tensor) -> Tensor:
    """How undecided masks are: E min(m, 1 - m), from 0 (binary) to .5 (Bielski & Favaro 2022).

    Args:
        mask: [N, 1, H, W] in [0, 1].
    """
    return torch.minimum(mask, 1 - mask).mean()


def total_variation(mask: Tensor) -> Tensor:
    """Anisotropic total variation per pixel: (sum |dm/dx| + sum |dm/dy|) / (H W).

    Of a binary mask this is the length of its contour along the pixel grid over its image's area.

    Args:
        mask: [N, 1, H, W] in [0, 1].
    """
    height, width = mask.shape[-2:]
    across = mask.diff(dim=-1).abs().sum((1, 2, 3))
    down = mask.diff(dim=-2).abs().sum((1, 2, 3))
    return (across + down).mean() / (height * width)


def border(mask: Tensor, *, width: int) -> Tensor:
    """Mean opacity on the frame of `width` pixels along the image's border.

    Args:
        mask: [N, 1, H, W] in [0, 1].
        width: Pixels, at least 1.
    """
    assert width >= 1, "a frame is at least one pixel wide"
    frame = torch.ones_like(mask[:1])
    frame[..., width:-width, width:-width] = 0
    return mean_area(mask, frame.expand_as(mask))


def predictability(
    images: Tensor, guess: Tensor, mask: Tensor, *, price: float, rise: float = 1.0
) -> Tensor:
    """How well what a mask covers is guessed from around it, against masks of mere ground.

    E m (s (p - d)+ - (d - p)+): d is the absolute error of the guess, averaged over channels, over
    the image's standard deviation (at least 0.02), p the price, and ()+ the positive part. Below 0
    for masks of what could not be guessed; the mask of nothing costs nothing. The factor s goes, as
    `rise` does from 0 to 1, from the ratio of both parts' means over the image, at which making all
    of a mask denser gains nothing, to 1, at which the term is E m (p - d). No gradient passes
    through d: that would reward masks for hiding what the guess needs. After inpainting error
    maximisation (Savarese et al. 2021), which maximises the error itself, normalised by area, for
    object and background in turn.

    Args:
        images: [N, C, H, W] in [0, 1].
        guess: Each pixel as guessed from around the mask, [N, C, H, W].
        mask: [N, 1, H, W] in [0, 1].
        price: The error from which a pixel had better be covered.
        rise: In [0, 1].
    """
    contrast = images.std((1, 2, 3), correction=0, keepdim=True).clamp(min=0.02)
    error = ((images - guess).abs().mean(1, keepdim=True) / contrast).detach()
    gain, cost = (error - price).relu(), (price - error).relu()
    ratio = gain.mean((1, 2, 3), keepdim=True) / cost.mean((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return (mask * ((ratio + rise * (1 - ratio)) * cost - gain)).mean()


def _areas(mask: Tensor, within: Tensor | None) -> Tensor:
    """Area of each mask [N]; in an empty `within`, zero."""
    if within is None:
        return mask.mean((1, 2, 3))
    return (mask * within).sum((1, 2, 3)) / within.sum((1, 2, 3)).clamp(min=1)
