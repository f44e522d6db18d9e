"""Files that are whole or absent: written aside, flushed to the disk, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segan.errors import DataError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, which takes its place if the block succeeds.

    The folder is made if need be. If the block raises, or the process dies, whatever was at
    `path` before is still there, untouched.

    Raises:
        DataError: The folder or the file cannot be written (permission, full disk).
    """
    # Short for any name, the same again after a crash, and image writers look at the suffix.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    aside = path.with_name(f".{digest}.aside{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            aside.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename inside `folder` outlast a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
