"""What is seen of rows of a leaderboard while they run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from segan.leaderboard import watching
from segan.leaderboard.jobs import Failure, Underway
from segan.leaderboard.watching import Watch, last_line

ERASE_LINE = "\x1b[2K"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(file: io.TextIOBase, **environment: str) -> Console:
    given = {"TERM": "xterm"} | environment
    return Console(file=file, width=40, height=10, _environ=given)  # type: ignore[arg-type]


def test_the_last_line_that_is_not_blank_is_found_however_long_the_log(tmp_path: Path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_bytes(b"")
    assert last_line(log) == ""
    log.write_bytes(b"one\n" * 10_000 + b"  step 2/9 \xff\r\n\n  \n")
    assert last_line(log) == "step 2/9 \ufffd"


def test_colours_and_movements_of_the_cursor_in_a_log_are_not_shown(tmp_path: Path):
    (tmp_path / "log.txt").write_bytes(b"\x1b[33mwarning\x1b[0m: \x1b[3A\x1b[2Kup\a\n\x1b[0m\n")
    assert last_line(tmp_path / "log.txt") == "warning: up"


def test_a_folder_in_place_of_a_log_is_said_to_be_so(tmp_path: Path):
    assert last_line(tmp_path) == f"({tmp_path} cannot be read: Is a directory)"


@pytest.mark.parametrize(
    "console",
    [
        lambda file: Console(file=file, _environ={}),
        lambda file: Console(file=file, _environ={"FORCE_COLOR": "1"}, no_color=True),
    ],
    ids=["plain", "colours forced upon it"],
)
def test_elsewhere_than_on_a_terminal_a_row_says_where_it_is_once_a_minute(
    console, tmp_path: Path, clock: list[float]
):
    (tmp_path / "log.txt").write_text("step 3/90  mask area 0.1\n")
    text = io.StringIO()
    with Watch(console(text), 2) as watch:
        for seconds in (0.2, 59.0, 61.0, 62.0):
            clock[0] = 100.0 + seconds
            watch.show([Underway("a-0", seconds, tmp_path / "log.txt")])
        watch.ended("a-0", None, 70.0)
        watch.ended("b-0", Failure(row="b-0", code=2, reason="no [x]"), 0.2)
        watch.stopping(["c-0", "d-0"])
    assert text.getvalue().splitlines() == [
        "a-0  1:01  step 3/90  mask area 0.1",
        "a-0: done (70 s)",
        "b-0: FAILED: no [x] (0 s)",
        "stopping; what trains saves its state first: c-0, d-0",
    ]


def test_a_dumb_terminal_is_told_once_a_minute(tmp_path: Path, clock: list[float]):
    text = Terminal()
    with Watch(terminal(text, TERM="dumb"), 1) as watch:
        clock[0] += 61
        watch.show([Underway("a-0", 61.0, tmp_path / "log.txt")])
    assert text.getvalue() == "a-0  1:01\n"


def test_on_a_terminal_lines_are_cut_to_its_width_and_rewritten(tmp_path: Path, clock: list[float]):
    (tmp_path / "log.txt").write_text("[b] " + 200 * "x")
    text = Terminal()
    with Watch(terminal(text), 3) as watch:
        clock[0] += 2
        watch.show([Underway("b-0", 62.0, tmp_path / "log.txt")])
        first = text.getvalue()
        clock[0] += 0.5
        watch.show([Underway("b-0", 62.5, tmp_path / "log.txt")])
        assert text.getvalue() == first  # this soon there is nothing to say
        watch.ended("a-0", None, 5.0)
        between = text.getvalue()
        watch.show([Underway("b-0", 63.0, tmp_path / "log.txt")])
        second = text.getvalue()[len(between) :]
    assert "0 of 3 rows ended" in first
    assert "b-0  1:02  [b] " + 25 * "x" in first
    assert 26 * "x" not in first
    assert "a-0: done (5 s)" in between[len(first) :]
    assert ERASE_LINE in between[len(first) :]
    assert "1 of 3 rows ended" in second
    assert "b-0  1:03" in second
    assert second.count(ERASE_LINE) >= 2
    # Whatever was drawn last is erased, so that only what ended is left to read.
    assert text.getvalue().rpartition("b-0")[2].count(ERASE_LINE) >= 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_a_console_cannot_write_stops_nothing(
    encoding: str, *, is_terminal: bool, tmp_path: Path, clock: list[float]
):
    (tmp_path / "log.txt").write_text("\u00e9\u2026" + 100 * "x", encoding="utf-8")
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding=encoding)
    file.isatty = lambda: is_terminal  # type: ignore[method-assign]
    with Watch(terminal(file), 1) as watch:
        clock[0] += 61
        watch.show([Underway("a-0", 61.0, tmp_path / "log.txt")])
        watch.ended("a-0", Failure(row="a-0", code=2, reason="\u2026"), 1.0)
    file.flush()
    assert b"a-0  1:01" in written.getvalue()
    assert b"FAILED: ?" in written.getvalue()
