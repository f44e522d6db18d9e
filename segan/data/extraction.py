"""Unpacking archives from strangers: whole or not at all, and never outside their folder."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from segan.data.images import one_line
from segan.errors import DataError

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        files: Files and folders together.
        total: Bytes of all files.
        ratio: Bytes unpacked per byte of the archive; small archives may have `spare` in any case.
        spare: Bytes.
    """

    files: int = 2_000_000
    total: int = 1 << 40
    ratio: float = 100.0
    spare: int = 1 << 30

    def bytes_of(self, packed: int) -> int:
        """Most bytes that an archive of `packed` bytes may unpack to."""
        return int(min(self.total, max(self.spare, self.ratio * packed)))


def extract(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Unpacks a tar (plain or compressed) or zip archive into a folder that does not exist yet.

    Only plain files and folders are unpacked. Everything that an archive's headers say is checked
    before the entry is written, and what was written is removed if a later entry is refused.

    Args:
        archive: The file.
        folder: Made here; its parent exists.
        limits: Against archives that unpack to far more than they should.

    Raises:
        DataError: The file is damaged or no archive, or an entry is a link or a device, leads
            outside the folder, or exceeds the limits; nothing is left behind.
    """
    limits = limits or Limits()
    folder.mkdir()
    try:
        with _damage_reported(archive):
            if zipfile.is_zipfile(archive):
                _extract_zip(archive, folder, limits)
            elif tarfile.is_tarfile(archive):
                _extract_tar(archive, folder, limits)
            else:
                raise DataError(f"{one_line(str(archive))} is neither a tar nor a zip archive")
    except BaseException:
        shutil.rmtree(folder)
        raise


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    damage = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
    try:
        yield
    # NotImplementedError is what zipfile says of a compression that it lacks.
    except (*damage, EOFError, NotImplementedError, OSError, ValueError) as error:
        reason = one_line(str(error).partition("\n")[0]) or type(error).__name__
        raise DataError(f"cannot unpack {one_line(str(archive))}: {reason}") from None


def _extract_tar(archive: Path, folder: Path, limits: Limits) -> None:
    budget = _Budget(archive, limits)
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if not (member.isfile() or member.isdir()):
                raise budget.refusal(member.name, "is a link or a device")
            if member.issparse():
                raise budget.refusal(member.name, "is a sparse file")
            budget.take(member.name, member.size)
            # Not tar.extract(): its filter of entries is missing from Python 3.11.0 to 3.11.3.
            _write(folder / member.name, tar.extractfile(member))


def _extract_zip(archive: Path, folder: Path, limits: Limits) -> None:
    budget = _Budget(archive, limits)
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise budget.refusal(info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise budget.refusal(info.filename, "is encrypted")
            budget.take(info.orig_filename, info.file_size)
            # The reader stops at the size that the header states, and checks the CRC there.
            _write(folder / info.filename, None if info.is_dir() else file.open(info))


def _write(place: Path, source: IO[bytes] | None) -> None:
    """Make a file of what `source` holds, or a folder where there is none."""
    if source is None:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with source, place.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)


class _Budget:
    """Counts what an archive unpacks to, entry by entry, and refuses what it must not hold."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._archive, self._limits = archive, limits
        self._bytes = limits.bytes_of(archive.stat().st_size)
        self._files = 0
        self._total = 0

    def refusal(self, name: str, problem: str) -> DataError:
        """The error for an entry."""
        archive = one_line(str(self._archive))
        return DataError(f"refused to unpack {archive}: {one_line(name)!r} {problem}")

    def take(self, name: str, size: int) -> None:
        """Counts an entry.

        Raises:
            DataError: Its name leads elsewhere, or there are too many entries or bytes.
        """
        path = PurePosixPath(name)
        # Backslashes and colons mean folders and drives on another system; zip allows neither.
        if path.is_absolute() or ".." in path.parts or set(name) & set("\\:\0"):
            raise self.refusal(name, "leads outside the folder")
        self._files += 1
        self._total += size
        if self._files > self._limits.files:
            raise self.refusal(name, f"is beyond the limit of {self._limits.files} entries")
        if self._total > self._bytes:
            raise self.refusal(name, f"brings it beyond the limit of {self._bytes} bytes")
