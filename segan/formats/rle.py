"""Run lengths of masks: COCO's, column by column, and the bits of Label Studio's brush."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segan.errors import ConfigError
from segan.formats.found import Mask

Runs = NDArray[np.int64]

_BITS = 5  # per character of a COCO string, besides the one that says that more follow
_FIRST = 48  # "0"
_MOST_CHARACTERS = 8  # 40 bits, for differences of runs in a picture below 2^38 pixels

_WORD = 8  # bits of a value of a brush
_SIZES = (3, 4, 8, 16)  # bits of its run lengths
_CHANNELS = 4  # a brush is stored as RGBA


def runs_of(values: NDArray[np.bool_]) -> Runs:
    """Lengths of the runs of a flat mask, starting with False, which may have none."""
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    ends = np.concatenate([[0], changes, [values.size]])
    runs = np.diff(ends)
    return np.concatenate([[0], runs]) if values.size and values[0] else runs


# --- COCO ----------------------------------------------------------------------------------------


def encode_coco_rle(mask: Mask, *, left: int, top: int, size: tuple[int, int]) -> dict[str, Any]:
    """A COCO segmentation {"size": [H, W], "counts": text} of a mask in its picture.

    Runs go down columns. From the third on each is stored as its difference to the run two before,
    in characters of 5 bits, lowest first, the 6th saying that more follow; `counts` is text, so
    that it goes into JSON.

    Args:
        mask: bool [h, w].
        left: Of the mask in the picture, pixels.
        top: Likewise.
        size: Height and width of the picture.
    """
    height, width = size
    # Only the mask's own columns are looked at: there may be hundreds of objects in a picture.
    columns = np.zeros((mask.shape[1], height), np.bool_)
    columns[:, top : top + mask.shape[0]] = mask.T
    runs = runs_of(columns.ravel())
    runs[0] += left * height
    after = (width - left - mask.shape[1]) * height
    if after:
        if len(runs) % 2:
            runs[-1] += after
        else:
            runs = np.append(runs, after)
    stored = runs.copy()
    stored[3:] -= runs[1:-2]
    return {"size": [height, width], "counts": _to_text(stored)}


def decode_coco_rle(segmentation: dict[str, Any]) -> Mask:
    """The mask bool [H, W] of a COCO segmentation, compressed or with a list of runs.

    Raises:
        ConfigError: Its runs do not add up to its size.
    """
    height, width = segmentation["size"]
    counts = segmentation["counts"]
    runs = _from_text(counts) if isinstance(counts, str) else np.asarray(counts, np.int64)
    if runs.sum() != height * width or (runs < 0).any():
        raise ConfigError(f"run lengths add up to {runs.sum()}, the mask has {height * width}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def _to_text(values: Runs) -> str:
    rest = values.copy()
    characters = np.zeros((len(values), _MOST_CHARACTERS), np.uint8)
    used = np.zeros((len(values), _MOST_CHARACTERS), np.bool_)
    open_ = np.ones(len(values), np.bool_)
    for place in range(_MOST_CHARACTERS):
        low = rest & 31
        rest >>= _BITS
        # The highest bit stored is the sign of all above it.
        more = rest != np.where(low & 16, -1, 0)
        characters[:, place] = (low | (more << _BITS)) + _FIRST
        used[:, place] = open_
        open_ &= more
    return characters[used].tobytes().decode("ascii")


def _from_text(text: str) -> Runs:
    characters = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    is_last = characters & 32 == 0
    starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
    lengths = np.diff(np.append(starts, len(characters)))
    place = np.arange(len(characters)) - np.repeat(starts, lengths)
    values = np.add.reduceat((characters & 31) << (_BITS * place), starts)
    negative = characters[is_last] & 16 != 0
    values -= np.where(negative, np.left_shift(1, _BITS * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


# --- Label Studio --------------------------------------------------------------------------------


def encode_brush(mask: Mask) -> list[int]:
    """A mask [H, W] as the bytes of a Label Studio brush.

    A stream of bits: 32 for the number of values (4 H W: a brush is an RGBA image, rows first, 255
    in all channels where it painted), 5 for the bits of a value less one, 4 times 4 for the bits of
    each kind of run length less one; then per run a 1, 2 bits for its kind, its length less one and
    its value. Longer runs than 65536 are split.
    """
    runs = _CHANNELS * runs_of(mask.ravel())
    values = np.where(np.arange(len(runs)) % 2 == 1, 255, 0)
    longest = 1 << _SIZES[-1]
    pieces = -(-runs // longest)
    lengths = np.full(pieces.sum(), longest)
    last = np.cumsum(pieces)[runs > 0] - 1
    lengths[last] = (runs - (pieces - 1) * longest)[runs > 0]
    values = np.repeat(values, pieces)
    kinds = np.searchsorted(np.left_shift(1, np.array(_SIZES)), lengths)
    sizes = np.array(_SIZES)[kinds]
    codes = (((4 | kinds) << sizes) | (lengths - 1)) << _WORD | values
    widths = 3 + sizes + _WORD
    most = 3 + _SIZES[-1] + _WORD
    shifts = widths[:, None] - 1 - np.arange(most)
    bits = ((codes[:, None] >> np.maximum(shifts, 0)) & 1)[shifts >= 0]
    header = f"{mask.size * _CHANNELS:032b}{_WORD - 1:05b}"
    header += "".join(f"{size - 1:04b}" for size in _SIZES)
    head = np.frombuffer(header.encode("ascii"), np.uint8) - _FIRST
    packed = np.packbits(np.concatenate([head, bits.astype(np.uint8)]))
    return packed.tolist()


def decode_brush(content: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask bool [H, W] of a Label Studio brush; above 127 counts as painted.

    Raises:
        ConfigError: It is damaged, or not as large as `size`.
    """
    height, width = size
    text = "".join(f"{byte:08b}" for byte in content)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        if place > len(text):
            raise ConfigError("the brush ends before its last run")
        return int(text[place - count : place], 2)

    total, word = take(32), take(5) + 1
    if total != height * width * _CHANNELS:
        raise ConfigError(f"the brush has {total} values, expected {height * width * _CHANNELS}")
    sizes = [take(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeated = take(1)
        count = take(sizes[take(2)]) + 1
        found = [take(word)] * count if repeated else [take(word) for _ in range(count)]
        values[done : done + count] = found[: total - done]
        done += count
    return values.reshape(height, width, _CHANNELS)[..., -1] > 127
