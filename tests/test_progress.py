"""Long work says how far it is, also where there is no terminal."""

import pytest

from segan import progress


def test_items_pass_through_in_order() -> None:
    assert list(progress.tracked("abc", "reading", 3)) == ["a", "b", "c"]


def test_without_a_terminal_a_line_is_printed_when_enough_time_has_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(progress.tracked(range(4), "scoring", 4))
    assert capsys.readouterr().err.splitlines() == ["scoring 2/4", "scoring 4/4"]


def test_speed_is_shown_over_all_that_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.Steps("masks", 4, unit="images") as steps:
        for _ in range(4):
            steps.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["masks 2/4  0.1 images/s", "masks 4/4  0.1 images/s"]


def test_quick_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress.tracked(range(4), "scoring", 4))
    captured = capsys.readouterr()
    assert not captured.err
    assert not captured.out
