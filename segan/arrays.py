"""Pictures and label maps as arrays: what libraries of image processing take and give."""

from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from torch import Tensor

Picture: TypeAlias = NDArray[np.uint8]  # [H, W, 3], RGB
LabelMap: TypeAlias = NDArray[np.int32]  # [H, W], from 0

MIN_SHARE = 100 / (481 * 321)  # 100 pixels of a BSDS500 picture


def pictures(images: Tensor) -> NDArray[np.uint8]:
    """Images [N, 3, H, W] in [0, 1] as 8-bit pictures [N, H, W, 3]."""
    levels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8)
    result: NDArray[np.uint8] = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return result


def luminance(picture: Picture) -> NDArray[np.uint8]:
    """Gray levels [H, W] of a picture."""
    gray: Any = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(gray, np.uint8)


def lab(picture: Picture | NDArray[np.float32]) -> NDArray[np.float32]:
    """CIE Lab [H, W, 3] of a picture, 8-bit or float32 in [0, 1]: L to 100, a and b about 127."""
    colours = picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture
    return np.asarray(cv2.cvtColor(np.asarray(colours), cv2.COLOR_RGB2LAB), np.float32)


def colours_of(image: Tensor) -> NDArray[np.float32]:
    """An image [3, H, W] in [0, 1] as a picture float32 [H, W, 3]."""
    colours = image.detach().float().cpu().permute(1, 2, 0).contiguous().numpy()
    return np.asarray(colours, np.float32)


def contiguous(labels: NDArray[Any]) -> LabelMap:
    """The same partition with labels 0, 1, ... in the order of the given ones."""
    inverse = np.unique(labels, return_inverse=True)[1]
    return inverse.reshape(labels.shape).astype(np.int32)


def connected_regions(labels: NDArray[Any], *, min_share: float = MIN_SHARE) -> LabelMap:
    """The 8-connected pieces of a label map, small ones absorbed; labels from 0.

    A piece smaller than `min_share` of the picture goes, pixel by pixel, to the nearest piece that
    stays. The largest piece stays whatever its size.

    Args:
        labels: Integers [H, W].
        min_share: In [0, 1]; 0 keeps every piece.
    """
    pieces = label(labels, connectivity=2, background=-1)  # type: ignore[no-untyped-call]
    pieces = contiguous(pieces)
    areas = np.bincount(pieces.ravel())
    stays = areas >= min(min_share * pieces.size, areas.max())
    if stays.all():
        return pieces
    nearest = ndimage.distance_transform_edt(
        ~stays[pieces], return_distances=False, return_indices=True
    )
    return contiguous(pieces[tuple(nearest)])
