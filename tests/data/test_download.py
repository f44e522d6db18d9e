"""Fetching and unpacking, against a server of the test's own on 127.0.0.1."""

import hashlib
import io
import stat
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from segan.data.catalogue import CATALOGUE, Archive
from segan.data.download import SafeRedirects, fetch, get
from segan.data.extraction import Limits, extract
from segan.errors import ConfigError, DataError

NOISE = np.random.default_rng(0).bytes(300_000)


def tar(mode: str = "w:gz", **files: bytes) -> bytes:
    """An archive of files; two underscores in a name stand for a slash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


SET = tar(set__images__a=NOISE, set__masks__a=b"mask")


@dataclass
class Server:
    """What the server does, and what it was asked."""

    url: str = ""
    body: bytes = b""
    ranges: bool = True
    stop_after: int | None = None
    length: int | None = None
    status: int = 200
    redirect: str = ""
    content_range: str = ""
    asked: list[str | None] = field(default_factory=list)

    def archive(self, body: bytes | None = None) -> Archive:
        """The file as it should be."""
        body = self.body if body is None else body
        return Archive(
            url=f"{self.url}/set.tgz", size=len(body), sha256=hashlib.sha256(body).hexdigest()
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server(body=SET)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            start = int(wanted[6:-1]) if wanted and state.ranges else 0
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            if start >= len(state.body):
                self.send_error(416)
                return
            if state.status != 200:
                self.send_error(state.status)
                return
            body = state.body[start:]
            self.send_response(206 if start else 200)
            length = len(body) if state.length is None else state.length
            if length >= 0:
                self.send_header("Content-Length", str(length))
            if start:
                whole = f"bytes {start}-{len(state.body) - 1}/{len(state.body)}"
                self.send_header("Content-Range", state.content_range or whole)
            self.end_headers()
            self.wfile.write(body[: state.stop_after])

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    running.shutdown()
    running.server_close()
    thread.join()


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- transfers -----------------------------------------------------------------------------------


def test_a_set_is_fetched_and_unpacked(server: Server, tmp_path: Path) -> None:
    told: list[int] = []
    out = tmp_path / "deep" / "out"
    get([server.archive()], out, report=lambda _, received: told.append(received))
    assert (out / "set/images/a").read_bytes() == NOISE
    assert (out / "set/masks/a").read_bytes() == b"mask"
    assert told == sorted(told)
    assert told[-1] == len(SET)
    assert below(tmp_path / "deep") == [
        *("out", "out/set", "out/set/images", "out/set/images/a", "out/set/masks"),
        "out/set/masks/a",
    ]
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_stopped_transfer_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges, server.stop_after = ranges, 100_000
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"run the same command to go on$"):
        get([server.archive()], out)
    assert not out.exists()
    part = tmp_path / "out.partial" / "set.tgz.part"
    assert part.read_bytes() == SET[:100_000]
    server.stop_after = None
    get([server.archive()], out)
    assert (out / "set/images/a").read_bytes() == NOISE
    assert server.asked == [None, "bytes=100000-"]
    assert not (tmp_path / "out.partial").exists()


def test_a_transfer_of_unknown_length_that_stops_is_noticed(server: Server, tmp_path: Path) -> None:
    server.length, server.stop_after = -1, 100_000
    with pytest.raises(DataError, match=rf"stopped at 100000 of {len(SET)} bytes; run the same"):
        fetch(server.archive(), tmp_path)
    server.stop_after = None
    assert fetch(server.archive(), tmp_path).read_bytes() == SET


def test_a_tampered_file_is_removed_and_nothing_unpacked(server: Server, tmp_path: Path) -> None:
    announced = server.archive()
    server.body = SET[:1000] + bytes([SET[1000] ^ 1]) + SET[1001:]
    with pytest.raises(DataError, match=rf"SHA-256 is \w+, expected {announced.sha256}"):
        get([announced], tmp_path / "out")
    assert below(tmp_path) == ["out.partial", "out.partial/files"]
    server.body = SET
    get([announced], tmp_path / "out")


def test_a_part_of_another_file_does_not_spoil_the_next_try(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "set.tgz.part"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="SHA-256"):
        fetch(server.archive(), tmp_path)
    assert fetch(server.archive(), tmp_path).read_bytes() == SET
    part.write_bytes(b"x" * (len(SET) + 1))
    (tmp_path / "set.tgz").unlink()
    assert fetch(server.archive(), tmp_path).read_bytes() == SET
    assert server.asked == ["bytes=1000-", None, None]


def test_no_more_than_the_announced_size_is_read(server: Server, tmp_path: Path) -> None:
    announced = server.archive()
    server.body = SET + b"x" * 1_000_000
    with pytest.raises(DataError, match=rf"has \d+ bytes, expected {len(SET)}"):
        fetch(announced, tmp_path)
    server.length = -1
    with pytest.raises(DataError, match=f"has more than the expected {len(SET)} bytes"):
        fetch(announced, tmp_path)
    assert below(tmp_path) == [], "what is not the file is not kept"


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch(server.archive(), tmp_path)
    fetch(server.archive(), tmp_path)
    assert len(server.asked) == 1


def test_a_part_as_long_as_the_file_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(SET)
    assert fetch(server.archive(), tmp_path).read_bytes() == SET
    assert server.asked == []


def test_a_server_with_less_than_the_part_is_started_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(SET[:2000])
    announced = server.archive()
    server.body = SET[:1000]
    with pytest.raises(DataError, match="they were removed"):
        fetch(announced, tmp_path)
    assert below(tmp_path) == []


def test_another_range_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.part").write_bytes(SET[:2000])
    server.content_range = f"bytes 0-5/{len(SET)}"
    with pytest.raises(DataError, match="another part of the file"):
        fetch(server.archive(), tmp_path)
    assert below(tmp_path) == [], "what can never be completed is not kept"


def test_a_server_that_says_no_is_quoted(server: Server, tmp_path: Path) -> None:
    server.status = 403
    with pytest.raises(DataError, match=r"set\.tgz: the server answers 403"):
        fetch(server.archive(), tmp_path)
    nobody = replace(server.archive(), url="http://127.0.0.1:1/set.tgz")
    with pytest.raises(DataError, match=r"^http://127\.0\.0\.1:1/set\.tgz: .*refused"):
        fetch(nobody, tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/set.tgz"])
def test_redirections_leave_the_web_nowhere(server: Server, tmp_path: Path, target: str) -> None:
    server.redirect = target
    with pytest.raises(DataError, match=r"which is refused$|is not allowed$"):
        fetch(server.archive(), tmp_path)
    assert below(tmp_path) == []


def test_redirections_never_give_up_encryption() -> None:
    asked = urllib.request.Request("https://example.org/a.zip")
    follow = SafeRedirects().redirect_request
    for target, accepted in (("https://example.net/a.zip", True), ("http://example.org/", False)):
        arguments = (asked, io.BytesIO(), 302, "Found", Message(), target)
        if accepted:
            request = follow(*arguments)
            assert request is not None
            assert request.full_url == target
        else:
            with pytest.raises(DataError, match="which is refused"):
                follow(*arguments)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "file:///etc/passwd"}, "must begin with https:// or http://"),
        ({"url": "https:///a.zip"}, "must begin with https:// or http://"),
        ({"url": "https://[::1/a.zip"}, "cannot read the address"),
        ({"url": "https://example.org/"}, "must end in a file name"),
        ({"url": "https://example.org/..%2f.."}, "must end in a file name"),
        ({"url": "https://example.org/.bashrc"}, "must end in a file name"),
        ({"sha256": "abc"}, "64 digits"),
        ({"size": 0}, "at least 1 byte"),
    ],
)
def test_archives_that_cannot_be_meant(tmp_path: Path, change: dict, problem: str) -> None:
    sound = Archive(url="https://example.org/a.zip", size=1, sha256="0" * 64)
    with pytest.raises(ConfigError, match=problem):
        get([replace(sound, **change)], tmp_path / "out")
    assert below(tmp_path) == []


def test_what_is_there_is_not_replaced(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    get([server.archive()], out)  # an empty folder is as good as none
    with pytest.raises(ConfigError, match="out is already there"):
        get([server.archive()], out)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="file is already there"):
        get([server.archive()], file)


def test_a_disk_that_is_too_full_is_said_before(server: Server, tmp_path: Path) -> None:
    huge = replace(server.archive(), size=1 << 60)
    with pytest.raises(DataError, match=r"bytes free, set\.tgz needs"):
        fetch(huge, tmp_path)
    assert server.asked == []


# --- unpacking -----------------------------------------------------------------------------------


def with_member(kind: bytes, name: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        good = tarfile.TarInfo("good")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return buffer.getvalue()


def zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


BOMB = zipped(("zeros", bytes(3_000_000)))
BAD = {
    "tar: up": (with_member(tarfile.REGTYPE, "../evil"), "leads outside"),
    "tar: down and up": (with_member(tarfile.REGTYPE, "a/../../evil"), "leads outside"),
    "tar: absolute": (with_member(tarfile.REGTYPE, "/tmp/evil"), "leads outside"),
    "tar: symbolic link": (with_member(tarfile.SYMTYPE, "link", "/tmp"), "is a link"),
    "tar: link inside": (with_member(tarfile.SYMTYPE, "link", "good"), "is a link"),
    "tar: hard link": (with_member(tarfile.LNKTYPE, "link", "good"), "is a link"),
    "tar: device": (with_member(tarfile.CHRTYPE, "tty"), "is a link or a device"),
    "tar: pipe": (with_member(tarfile.FIFOTYPE, "pipe"), "is a link or a device"),
    "tar: bomb": (tar("w:xz", zeros=bytes(3_000_000)), "beyond the limit of 2000000 bytes"),
    "tar: many": (tar("w:gz", **{f"f{i}": b"" for i in range(60)}), "limit of 50 entries"),
    "tar: cut": (SET[: len(SET) // 2], "cannot unpack"),
    "tar: flipped": (SET[:5000] + bytes(5000) + SET[10000:], "cannot unpack|neither"),
    "zip: up": (zipped(("good", b"good"), ("../evil", b"")), "leads outside"),
    "zip: absolute": (zipped(("/tmp/evil", b"")), "leads outside"),
    "zip: drive": (zipped(("C:\\evil", b"")), "leads outside"),
    "zip: link": (zipped(("good", b"good"), (zip_link(), b"/tmp")), "is a link"),
    "zip: bomb": (BOMB, "beyond the limit of 2000000 bytes"),
    "zip: lying bomb": (
        BOMB.replace((3_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")),
        "cannot unpack.*CRC",
    ),
    "zip: many": (zipped(*((f"f{i}", b"") for i in range(60))), "limit of 50 entries"),
    "zip: a file as a folder": (zipped(("a", b""), ("a/b", b"")), "cannot unpack"),
    "text": (b"<html>not found</html>", "neither a tar nor a zip"),
}
SMALL = Limits(files=50, spare=2_000_000, ratio=10)


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_leave_nothing(tmp_path: Path, name: str) -> None:
    content, problem = BAD[name]
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        extract(archive, tmp_path / "out", SMALL)
    assert "\n" not in str(caught.value)
    assert below(tmp_path) == ["archive"]
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_good_archives_are_unpacked_whole(tmp_path: Path, mode: str) -> None:
    files = {"a": b"", "b__c__d": b"x" * 100_000}
    entries = (("a", b""), ("b/", b""), ("b/c/d", files["b__c__d"]))
    packed = zipped(*entries) if mode == "zip" else tar(mode, **files)
    (tmp_path / "archive").write_bytes(packed)
    extract(tmp_path / "archive", tmp_path / "out")
    assert below(tmp_path / "out") == ["a", "b", "b/c", "b/c/d"]
    assert (tmp_path / "out/b/c/d").read_bytes() == b"x" * 100_000


def test_modes_of_an_archive_are_not_taken_over(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("tool")
        info.mode = 0o6777
        archive.addfile(info)
    (tmp_path / "archive").write_bytes(buffer.getvalue())
    extract(tmp_path / "archive", tmp_path / "out")
    assert (tmp_path / "out" / "tool").stat().st_mode & 0o7111 == 0


def test_limits_grow_with_the_archive() -> None:
    limits = Limits(spare=1000, ratio=10, total=50_000)
    assert [limits.bytes_of(packed) for packed in (1, 200, 10_000)] == [1000, 2000, 50_000]


def test_several_archives_become_one_folder(server: Server, tmp_path: Path) -> None:
    first = server.archive()
    second = tar(set__images__b=b"b", other=b"o")
    partial = tmp_path / "both.partial"
    partial.mkdir()
    (partial / "more.tgz").write_bytes(second)
    more = replace(server.archive(second), url=f"{server.url}/more.tgz")
    get([first, more], tmp_path / "both")
    files = [name for name in below(tmp_path / "both") if (tmp_path / "both" / name).is_file()]
    assert files == ["other", "set/images/a", "set/images/b", "set/masks/a"]


def test_a_refused_archive_leaves_no_folder(server: Server, tmp_path: Path) -> None:
    server.body = with_member(tarfile.SYMTYPE, "link", "/etc")
    with pytest.raises(DataError, match="is a link"):
        get([server.archive()], tmp_path / "out")
    assert below(tmp_path) == ["out.partial", "out.partial/files", "out.partial/set.tgz"]


# --- the catalogue -------------------------------------------------------------------------------


def test_every_archive_of_the_catalogue_could_be_fetched(tmp_path: Path) -> None:
    found = [archive for entry in CATALOGUE.values() for archive in entry.archives]
    assert found
    # A folder in the way is refused only after everything else was found sound.
    (tmp_path / "there").touch()
    for archive in found:
        with pytest.raises(ConfigError, match="is already there"):
            get([archive], tmp_path / "there")
        assert archive.size < 1 << 40
