"""Checking a data set before it is used: layout, pairs, and every file decoded once."""

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segan.data.images import (
    SUFFIXES,
    UnreadableImage,
    one_line,
    read_image,
    reading,
    require_folder,
)
from segan.data.sample import Split
from segan.errors import ConfigError, DataError

# Up to ten bad files, or a fifth of a larger set, are skipped; more means something else is wrong.
MAX_SKIPPED_FILES = 10
MAX_SKIPPED_SHARE = 0.2


class Skipped(NamedTuple):
    """A picture left out of a data set."""

    name: str
    reason: str


class Picture(NamedTuple):
    """A picture that was decoded once and found good.

    Attributes:
        name: Unique in its data set.
        path: The file.
        size: Height and width, upright.
        digest: SHA-256 of the pixels, equal for exact copies whatever their format or metadata.
    """

    name: str
    path: Path
    size: tuple[int, int]
    digest: str


def inspect(files: Mapping[str, Path], root: Path) -> tuple[list[Picture], tuple[Skipped, ...]]:
    """Decodes every file once, keeping none in memory, so that training never meets a bad one.

    Args:
        files: The path of each picture by name.
        root: Where they are, for messages.

    Returns:
        The readable pictures in the order given, and the others with the reason.

    Raises:
        ConfigError: There are no files.
        DataError: More than max(10 files, 20 %) cannot be read, or none can.
    """
    if not files:
        kinds = " ".join(sorted(SUFFIXES))
        raise ConfigError(f"data.root: no images in {one_line(str(root))} (looked for {kinds})")
    good, bad = look_at(files)
    require_readable(len(files), bad, root)
    return good, bad


def look_at(files: Mapping[str, Path]) -> tuple[list[Picture], tuple[Skipped, ...]]:
    """Decodes every file once: the readable pictures and the others, each in the order given."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(_inspect_one, files.items()))
    good = [result for result in results if isinstance(result, Picture)]
    return good, tuple(result for result in results if isinstance(result, Skipped))


def require_readable(count: int, skipped: Sequence[Skipped], root: Path) -> None:
    """Checks that few enough of `count` files were skipped.

    Raises:
        DataError: More than max(10 files, 20 %) of them, or all.
    """
    where = one_line(str(root))
    listed = _few([f"{name} ({reason})" for name, reason in skipped])
    if len(skipped) == count:
        raise DataError(f"none of the {count} images in {where} can be read: {listed}")
    if len(skipped) > max(MAX_SKIPPED_FILES, MAX_SKIPPED_SHARE * count):
        raise DataError(
            f"{len(skipped)} of {count} images in {where} cannot be read, more than the "
            f"{MAX_SKIPPED_FILES} files or {MAX_SKIPPED_SHARE:.0%} that are skipped: {listed}"
        )


def require_layout(root: Path, *parts: str) -> Path:
    """`root / part` for the one given, checked to be there.

    Raises:
        ConfigError: The root does not exist or is not laid out like the public download.
    """
    folder = require_folder(root).joinpath(*parts)
    if not folder.is_dir():
        wanted = "/".join(parts)
        raise ConfigError(f"data.root: {one_line(str(root))} has no folder {wanted!r} inside")
    return folder


def require_pairs(names: Sequence[str], paired: Collection[str], what: str) -> None:
    """Checks that every picture has its ground truth.

    Raises:
        DataError: Some have none; the first few are named.
    """
    missing = [name for name in names if name not in paired]
    if missing:
        raise DataError(f"{len(missing)} of {len(names)} pictures have no {what}: {_few(missing)}")


def require_some(chosen: Sequence[object], root: Path, split: Split, kind: str = "") -> None:
    """Checks that a split is not empty; `kind` says which pictures were wanted.

    Raises:
        DataError: It is.
    """
    if not chosen:
        what = f"{kind} picture" if kind else "picture"
        raise DataError(f"no {what} of {one_line(str(root))} is in the split {split!r}")


def require_size(mask: Tensor, image: Tensor, name: str) -> None:
    """Checks that a mask [H, W] is as large as its picture [3, H, W].

    Raises:
        DataError: It is not.
    """
    if mask.shape != image.shape[1:]:
        sizes = [f"{width} x {height}" for height, width in (mask.shape, image.shape[1:])]
        raise DataError(f"the mask of {one_line(name)} is {sizes[0]}, its picture {sizes[1]}")


def _inspect_one(item: tuple[str, Path]) -> Picture | Skipped:
    name, path = item
    try:
        with reading(path):
            stamp = path.stat()
        return Picture(name, path, *_measure(path, (stamp.st_mtime_ns, stamp.st_size)))
    except UnreadableImage as error:
        return Skipped(name, error.reason)


# A run builds the set once per split; the stamp makes a changed file a new one.
@lru_cache(maxsize=200_000)
def _measure(path: Path, stamp: tuple[int, int]) -> tuple[tuple[int, int], str]:  # noqa: ARG001
    image = read_image(path)
    _, height, width = image.shape
    digest = hashlib.sha256(f"{height} {width} ".encode() + image.numpy().tobytes())
    return (height, width), digest.hexdigest()


def _few(items: Sequence[str], limit: int = 3) -> str:
    more = [f"and {len(items) - limit} more"] if len(items) > limit else []
    return ", ".join([one_line(item) for item in items[:limit]] + more)
