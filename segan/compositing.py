"""Composition: the one place where an object meets another background.

Everything is fp32 (float64 stays float64) and differentiable: in bfloat16 a composite has a few
hundred grey levels where a photograph has thousands, and a discriminator learns to count them.
"""

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor


def at_least_fp32(values: Tensor) -> Tensor:
    """Values of a coarser type as fp32; float64 as it is, so that a run can be checked in it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def composite(objects: Tensor, backgrounds: Tensor, mask: Tensor) -> Tensor:
    """Alpha composition, F = m * object + (1 - m) * background (Remez et al. 2018, section 3).

    Args:
        objects: [N, C, H, W] in [0, 1].
        backgrounds: [N, C, H, W] in [0, 1].
        mask: Opacity of the object [N, 1, H, W] in [0, 1].
    """
    mask = at_least_fp32(mask)
    return mask * at_least_fp32(objects) + (1 - mask) * at_least_fp32(backgrounds)


def cut_out(images: Tensor, mask: Tensor, *, outside: Tensor) -> Tensor:
    """What is left when the object is taken out: (1 - m) * image, the hole filled with one colour.

    The colour is the image's own mean over `outside`: next to a black or gray hole in a picture of
    another brightness, what a half-transparent mask leaves of an object would go unnoticed.

    Args:
        images: [N, C, H, W] in [0, 1].
        mask: Opacity of what is removed [N, 1, H, W] in [0, 1].
        outside: Where the object cannot be, [N, 1, H, W] of 0 and 1.
    """
    images = at_least_fp32(images)
    count = outside.sum((2, 3), keepdim=True).clamp(min=1)
    colour = (images * outside).sum((2, 3), keepdim=True) / count
    return composite(colour.expand_as(images), images, mask)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [N, C, H, W] with `sigma` in pixels; 0 leaves the images as they are.

    Used as the feathering of masks and as the low-pass before a discriminator.
    """
    images = at_least_fp32(images)
    if sigma == 0:
        return images
    size = 2 * max(1, round(3 * sigma)) + 1
    # Autocast would convolve in bf16.
    with torch.autocast(images.device.type, enabled=False):
        blurred: Tensor = gaussian_blur2d(
            images, (size, size), (sigma, sigma), border_type="replicate"
        )
    return blurred


def shift(images: Tensor, offsets: Tensor, *, fill: float = 0.0) -> Tensor:
    """Images moved by whole pixels; what moves in from outside is `fill`.

    Args:
        images: [N, C, H, W].
        offsets: int64 [N, 2], to the right and down.
        fill: Value of pixels that were outside.
    """
    height, width = images.shape[-2:]
    columns = torch.arange(width, device=images.device) - offsets[:, :1]
    rows = torch.arange(height, device=images.device) - offsets[:, 1:]
    moved = images.gather(2, rows.clamp(0, height - 1)[:, None, :, None].expand_as(images))
    moved = moved.gather(3, columns.clamp(0, width - 1)[:, None, None, :].expand_as(images))
    inside = ((rows >= 0) & (rows < height))[:, None, :, None]
    inside = inside & ((columns >= 0) & (columns < width))[:, None, None, :]
    return torch.where(inside, moved, torch.as_tensor(fill, dtype=moved.dtype, device=moved.device))


def zero_border(mask: Tensor, width: int) -> Tensor:
    """The mask with a frame of `width` pixels set to zero (Arandjelovic & Zisserman 2019).

    `width` is at most half of the mask's shorter side.
    """
    assert 2 * width <= min(mask.shape[-2:]), "the frame is wider than the mask"
    if width == 0:
        return mask
    inner = mask[..., width:-width, width:-width]
    return F.pad(inner, (width, width, width, width))


def brighten(images: Tensor, offsets: Tensor) -> Tensor:
    """Images [N, C, H, W] made brighter by `offsets` [N], clamped to [0, 1]."""
    return (images + offsets[:, None, None, None]).clamp(0, 1)


def recolour(images: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Brightness, saturation and contrast changed (DiffAugment's "color", Zhao et al. 2020).

    x + s b / 2, then away from each pixel's gray by 1 + s c, then from the image's mean by
    1 + s d / 2. Nothing is clamped, as in the paper: gradients pass everywhere.

    Args:
        images: [N, 3, H, W].
        noise: [N, 3] uniform in [-1, 1): b, c and d.
        strength: s, 1 in the paper; 0 leaves the images as they are.
    """
    images = at_least_fp32(images)
    if strength == 0:
        return images
    brightness, saturation, contrast = (strength * noise)[:, :, None, None, None].unbind(1)
    images = images + brightness / 2
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (1 + saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (1 + contrast / 2)


def push_pull(images: Tensor, hole: Tensor) -> Tensor:
    """Images with a hole filled smoothly from around it: (1 - hole) * image + hole * guess.

    Differentiable in both arguments.

    Args:
        images: [N, C, H, W].
        hole: What is to be filled, [N, 1, H, W] in [0, 1].
    """
    return composite(guess_from_around(images, hole), images, hole)


def guess_from_around(images: Tensor, hole: Tensor) -> Tensor:
    """What push-pull (Gortler et al. 1996) makes of each pixel from the known ones around it.

    Pull: colours are averaged by weight into ever smaller images, whose weights are four times the
    mean of those below, at most 1. Push: from the smallest on, what a level lacks in weight is
    taken from the next smaller one, enlarged bilinearly. The guess is what full resolution would
    take; for a pixel that is known it is a local mean with itself in it. Where all is hole, it is
    0; a picture of one pixel has no other to be guessed from.

    Args:
        images: [N, C, H, W], of more than one pixel.
        hole: What is not known, [N, 1, H, W] in [0, 1].
    """
    assert max(images.shape[-2:]) > 1, "there is nothing around a single pixel"
    weight = 1 - at_least_fp32(hole)
    known = weight * at_least_fp32(images)
    levels = [(known, weight)]
    while max(weight.shape[-2:]) > 1:
        mean = _halved(weight)
        weight = (4 * mean).clamp(max=1)
        known = _halved(known) * (weight / mean.clamp(min=1e-6))
        levels.append((known, weight))
    filled, _ = levels.pop()
    for known, weight in levels[:0:-1]:
        filled = known + (1 - weight) * _enlarged(filled, known)
    return _enlarged(filled, levels[0][0])


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def _enlarged(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", align_corners=False)
