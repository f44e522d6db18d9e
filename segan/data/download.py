"""Downloading archives: resumable, never more than was announced, and checked before use."""

import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any

from segan import __version__
from segan.data.catalogue import Archive
from segan.data.extraction import Limits, extract
from segan.data.images import one_line
from segan.errors import ConfigError, DataError

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte

# Told how many bytes of the current archive are there.
Report = Callable[[Archive, int], None]


def get(
    archives: Sequence[Archive],
    out: Path,
    *,
    limits: Limits | None = None,
    report: Report | None = None,
) -> None:
    """Fetches archives and unpacks them together into a new folder.

    Until all is done, everything is in a folder beside it, named `<out>.partial`: when the
    command is run again, a transfer goes on where it stopped. `out` appears complete or not at all.

    Raises:
        ConfigError: `out` is there and not empty, or an archive's address or digest is malformed.
        DataError: The transfer failed, the file is not the one announced, the disk is too full, or
            an archive is refused.
    """
    require_sound(archives)
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{one_line(str(out))} is already there; remove it or name another --out")
    partial = out.with_name(f"{out.name}.partial")
    files = partial / "files"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir()
        for number, archive in enumerate(archives):
            unpacked = partial / f"unpacked-{number}"
            shutil.rmtree(unpacked, ignore_errors=True)
            extract(fetch(archive, partial, report=report), unpacked, limits)
            _merge(unpacked, files)
        if out.exists():
            out.rmdir()
        files.rename(out)
        shutil.rmtree(partial)
    except OSError as error:
        raise DataError(f"cannot write {one_line(str(out))}: {error.strerror or error}") from None


def fetch(archive: Archive, folder: Path, *, report: Report | None = None) -> Path:
    """The archive's file in a folder, fetched unless it is there already.

    A part that is there from before is continued if the server can; what the server sends beyond
    the announced size is not even read.

    Raises:
        DataError: The server cannot be reached, refuses or stops early (what arrived is kept), or
            the file is of another size or digest (which is removed).
    """
    path = folder / file_name(archive)
    if path.exists() and path.stat().st_size == archive.size and _sha256(path) == archive.sha256:
        return path
    part = path.with_name(f"{path.name}.part")
    if part.exists() and part.stat().st_size > archive.size:
        part.unlink()
    received = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(folder).free
    if free < archive.size - received:
        raise DataError(f"{folder} has {free} bytes free, {path.name} needs {archive.size}")
    if received < archive.size:
        _transfer(archive, part, received, report)
    found = _sha256(part)
    if found != archive.sha256:
        part.unlink()
        raise DataError(
            f"{archive.url} is not the announced file: its SHA-256 is {found}, expected "
            f"{archive.sha256}; it was removed"
        )
    part.replace(path)
    return path


def file_name(archive: Archive) -> str:
    """The archive's file name, from the path of its address."""
    return PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(archive.url).path)).name


def require_sound(archives: Sequence[Archive]) -> None:
    """Raise ConfigError where an address, size or digest cannot be meant."""
    for archive in archives:
        _require_sound(archive)


def _require_sound(archive: Archive) -> None:
    try:
        parts = urllib.parse.urlsplit(archive.url)
    except ValueError as error:
        raise ConfigError(f"cannot read the address {archive.url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"the address {archive.url!r} must begin with https:// or http://")
    name = file_name(archive)
    if not re.fullmatch(r"[\w][\w.+ -]*", name):
        raise ConfigError(f"the address {archive.url!r} must end in a file name")
    if not re.fullmatch(r"[0-9a-f]{64}", archive.sha256):
        raise ConfigError(f"{archive.sha256!r} is no SHA-256: it must be 64 digits 0-9a-f")
    if archive.size < 1:
        raise ConfigError(f"the size of {name} must be at least 1 byte, not {archive.size}")


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to HTTP and HTTPS only, and from HTTPS to nothing weaker."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request to go on with."""
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and scheme != req.type:
            raise DataError(f"{req.full_url} redirects to {newurl}, which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _transfer(archive: Archive, part: Path, received: int, report: Report | None) -> None:
    """Appends to the part what is missing of it, or starts over where the server must."""
    headers = {"User-Agent": f"segan/{__version__}", "Accept-Encoding": "identity"}
    if received:
        headers["Range"] = f"bytes={received}-"
    request = urllib.request.Request(archive.url, headers=headers)
    opener = urllib.request.build_opener(SafeRedirects)
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            if not (received and _continues(response, part, received, archive)):
                received = 0
                _require_announced(response, archive)
            received = _receive(response, part, received, archive, report)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise DataError(
                f"{archive.url} has no more than the {received} bytes that were there, expected "
                f"{archive.size}; they were removed"
            ) from None
        raise DataError(f"{archive.url}: the server answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{archive.url}: {one_line(str(reason)) or type(error).__name__}; run the same command "
            "to go on"
        ) from None
    if received < archive.size:
        raise DataError(
            f"{archive.url} stopped at {received} of {archive.size} bytes; run the same command to "
            "go on"
        )


def _continues(response: Any, part: Path, received: int, archive: Archive) -> bool:
    """Whether an answer goes on where the part ends; otherwise it starts at the beginning.

    Raises:
        DataError: It does neither; the part, which can then never be completed, is removed.
    """
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found and int(found[1]) == received and found[2] in ("*", str(archive.size)):
        return True
    part.unlink()
    raise DataError(
        f"{archive.url} sends another part of the file than was asked for; the {received} bytes "
        "that were there were removed"
    )


def _require_announced(response: Any, archive: Archive) -> None:
    length = response.headers.get("Content-Length")
    if length is not None and length != str(archive.size):
        raise DataError(f"{archive.url} has {length} bytes, expected {archive.size}")


def _receive(
    response: Any, part: Path, received: int, archive: Archive, report: Report | None
) -> int:
    """Writes the answer's body; returns how many bytes of the archive are there.

    Raises:
        DataError: There is more than the announced size; the part is removed.
    """
    with part.open("ab" if received else "wb") as file:
        while chunk := response.read(min(_CHUNK, archive.size - received + 1)):
            received += len(chunk)
            if received > archive.size:
                break
            file.write(chunk)
            if report:
                report(archive, received)
    if received > archive.size:
        part.unlink()
        raise DataError(
            f"{archive.url} has more than the expected {archive.size} bytes; they were removed"
        )
    return received


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _merge(source: Path, target: Path) -> None:
    """Moves what is in one folder into another, folder by folder.

    Raises:
        DataError: Both have a file of the same name.
    """
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        elif place.exists():
            raise DataError(f"two of the archives hold {one_line(path.name)}")
        else:
            path.rename(place)
    source.rmdir()
