"""Index, soft and instance images and overlays, as PNG files."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.errors import ConfigError
from segan.formats.found import Found, Labels
from segan.overlay import MASK_COLOR, index_image, label_overlay, overlay, palette

MASK_PALETTE = bytes([0, 0, 0, *MASK_COLOR])

MOST_OVERLAY_PIXELS = 2**24
"""Overlays are for looking at: those of larger pictures are scaled down to this many pixels."""

_LEVELS = 65535


def encode_mask(found: Found) -> bytes:
    """The labels as colour indices, 8 bits: 0 background, 1 object, or the regions' numbers.

    Above 255 regions it is a gray image of 16 bits.

    Raises:
        ConfigError: There are more than 65536 regions.
    """
    return encode_labels(found.labels, colors=None if found.named else palette(256).tobytes())


def encode_instances(found: Found) -> bytes:
    """The objects' numbers as colour indices: 0 where there is none, then 1, 2, ...; as masks.

    Raises:
        ConfigError: There are more than 65535 objects.
    """
    colors = np.concatenate([np.zeros((1, 3), np.uint8), palette(255)])
    return encode_labels(found.objects, colors=colors.tobytes())


def encode_labels(labels: Labels, *, colors: bytes | None) -> bytes:
    """Numbers [H, W] as an index PNG, with a palette of triples or that of masks."""
    stream = io.BytesIO()
    # Level 1 takes a quarter of the time of level 6, for files of twice the size at worst.
    index_image(labels, colors or MASK_PALETTE).save(stream, "png", compress_level=1)
    return stream.getvalue()


def encode_soft(found: Found) -> bytes:
    """The object's probability p as gray levels round(65535 p), 16 bits.

    Raises:
        ConfigError: There are regions instead of an object.
    """
    return encode_probability(probability_of(found, "soft"))


def encode_probability(probability: NDArray[np.float32]) -> bytes:
    """Probabilities [H, W] in [0, 1] as gray levels of 16 bits."""
    levels = np.empty(probability.shape, np.uint16)
    for row, values in enumerate(probability):  # in floats row by row: large ones take less memory
        levels[row] = np.rint(values * np.float32(_LEVELS))
    return _compressed(levels)


def decode_soft(content: bytes) -> NDArray[np.float32]:
    """The probabilities [H, W] of a soft mask, within 1 / 131070 of those written.

    Raises:
        ConfigError: It is no gray PNG of 16 bits.
    """
    levels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 2:
        raise ConfigError("a soft mask is a gray PNG of 16 bits; this is not one")
    return np.asarray(levels / np.float32(_LEVELS), np.float32)


def encode_overlay(found: Found) -> bytes:
    """The picture with its mask or regions drawn onto it; large ones scaled down."""
    assert found.picture is not None
    picture, labels = found.picture, found.labels
    shrink = (MOST_OVERLAY_PIXELS / labels.size) ** 0.5
    if shrink < 1:
        height, width = (max(round(side * shrink), 1) for side in labels.shape)
        # Plane by plane, as pictures lie in memory: all at once would be a copy of the whole.
        planes = [
            cv2.resize(picture[..., channel], (width, height), interpolation=cv2.INTER_AREA)
            for channel in range(3)
        ]
        picture = np.stack(planes, axis=2).astype(np.uint8)
        rows, columns = (
            (np.arange(small) + 0.5) * large // small
            for small, large in zip((height, width), labels.shape, strict=True)
        )
        labels = labels[rows.astype(np.intp)[:, None], columns.astype(np.intp)]
    drawn = overlay(picture, labels) if found.named else label_overlay(picture, labels)
    return _compressed(np.ascontiguousarray(drawn[..., ::-1]))


def probability_of(found: Found, format_name: str) -> NDArray[np.float32]:
    """The object's probability.

    Raises:
        ConfigError: There are regions instead of an object.
    """
    if found.probability is None:
        raise ConfigError(
            f"the format {format_name!r} holds an object's probability; unnamed regions have none"
        )
    return found.probability


def _compressed(pixels: NDArray[np.integer]) -> bytes:
    written, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert written
    return content.tobytes()
