"""Splits for sets that have none of their own: train, dev and test 60 / 20 / 20 by name.

A split is a pure function of a picture's name, so adding or removing pictures moves no other one.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from segan.data.sample import Split

TRAIN_SHARE = 0.6
DEV_SHARE = 0.2


def split_of(key: str) -> Literal["train", "dev", "test"]:
    """The split that a name falls into, by its SHA-256."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < TRAIN_SHARE:
        return "train"
    return "dev" if position < TRAIN_SHARE + DEV_SHARE else "test"


def members(names: Sequence[str], digests: Sequence[str], split: Split) -> list[int]:
    """The positions of a split's pictures, in order.

    Exact copies go where the first of them goes. `digests` are of decoded pixels rather than of
    file bytes, so that copies saved again without loss, or with other metadata, count too.
    """
    first: dict[str, str] = {}
    keys = [first.setdefault(digest, name) for name, digest in zip(names, digests, strict=True)]
    return [i for i, key in enumerate(keys) if split in ("all", split_of(key))]
