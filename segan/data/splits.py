"""Splits for sets that have none of their own: train, dev and test 60 / 20 / 20 by name.

A set's own training part, where its authors keep the truth of a third part to themselves, is
divided 80 / 20 into train and dev, and its validation part is test. A split is a pure function of
a picture's name, so adding or removing pictures moves no other one.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from segan.data.sample import Split

# Where a picture may go: one split of its set's own, or by its name.
Part = Literal["train", "dev", "test", "train or dev", "any"]

TRAIN_SHARE = 0.6
DEV_SHARE = 0.2


def split_of(key: str) -> Literal["train", "dev", "test"]:
    """The split that a name falls into, by its SHA-256."""
    position = _position(key)
    if position < TRAIN_SHARE:
        return "train"
    return "dev" if position < TRAIN_SHARE + DEV_SHARE else "test"


def in_split(key: str, part: Part, split: Split) -> bool:
    """Whether a picture of that name, in that part of its set, belongs to a split."""
    if split == "all":
        return True
    if part == "any":
        return split == split_of(key)
    if part == "train or dev":
        return split == ("dev" if _position(key) >= 1 - DEV_SHARE else "train")
    return split == part


def may_be_in(part: Part, split: Split) -> bool:
    """Whether any picture of that part can belong to a split."""
    return split == "all" or part == "any" or split in part.split(" or ")


def members(names: Sequence[str], digests: Sequence[str], split: Split) -> list[int]:
    """The positions of a split's pictures, in order.

    Exact copies go where the first of them goes. `digests` are of decoded pixels rather than of
    file bytes, so that copies saved again without loss, or with other metadata, count too.
    """
    first: dict[str, str] = {}
    keys = [first.setdefault(digest, name) for name, digest in zip(names, digests, strict=True)]
    return [i for i, key in enumerate(keys) if split in ("all", split_of(key))]


def _position(key: str) -> float:
    """Where a name falls in [0, 1), by its SHA-256."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
