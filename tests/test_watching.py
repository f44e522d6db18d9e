"""What is seen of rows of a leaderboard while they run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from segan.leaderboard import watching
from segan.leaderboard.watching import Underway, Watch, last_line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    return now


def test_the_last_line_that_is_not_blank_is_found_however_long_the_log(tmp_path: Path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_bytes(b"")
    assert last_line(log) == ""
    log.write_bytes(b"one\n" * 10_000 + b"  step 2/9 \xff\r\n\n  \n")
    assert last_line(log) == "step 2/9 \ufffd"


def test_elsewhere_than_on_a_terminal_a_row_says_where_it_is_once_a_minute(
    tmp_path: Path, clock: list[float]
):
    (tmp_path / "log.txt").write_text("step 3/90  mask area 0.1\n")
    text = io.StringIO()
    with Watch(Console(file=text), 2) as watch:
        for seconds in (0.2, 59.0, 61.0, 62.0):
            clock[0] = 100.0 + seconds
            watch.show([Underway("a-0", seconds, tmp_path / "log.txt")])
        watch.ended("a-0: done (70 s) [x]")
    assert text.getvalue() == "a-0  1:01  step 3/90  mask area 0.1\na-0: done (70 s) [x]\n"


def test_on_a_terminal_lines_are_cut_to_its_width_and_rewritten(tmp_path: Path, clock: list[float]):
    (tmp_path / "log.txt").write_text("[b] " + 200 * "x")
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=40, height=10)
    with Watch(console, 3) as watch:
        watch.ended("a-0: done (5 s)")
        clock[0] += 2
        watch.show([Underway("b-0", 62.0, tmp_path / "log.txt")])
    shown = text.getvalue()
    assert "1 of 3 rows done" in shown
    assert "b-0  1:02  [b] " + 24 * "x" + "\u2026" in shown
    assert "a-0: done (5 s)" in shown
