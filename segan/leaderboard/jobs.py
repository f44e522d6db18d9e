"""Rows side by side, a process each: one that fails, or is killed, takes no other with it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Protocol

from segan.leaderboard.suite import Row

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60
_INTERRUPTED = 75


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that did not finish.

    Attributes:
        row: Its name.
        code: Exit code of its process, 128 more than the signal that killed it; 75 for one that
            was stopped and can go on.
        reason: In one line.
    """

    row: str
    code: int
    reason: str


class Underway(NamedTuple):
    """A row that runs.

    Attributes:
        name: Of the row.
        seconds: Since it was started in this call.
        log: Where its output goes.
    """

    name: str
    seconds: float
    log: Path


class Watcher(Protocol):
    """Is told how rows come along."""

    def ended(self, row: str, failure: Failure | None, seconds: float) -> None:
        """A row has ended, or could not be started; how, and how long it ran."""

    def show(self, running: Sequence[Underway]) -> None:
        """What runs now; called several times a second."""

    def stopping(self, rows: Sequence[str]) -> None:
        """Rows are asked to save their state and stop, which may take a minute."""


@dataclass(kw_only=True)
class _Running:
    row: Row
    process: "subprocess.Popen[bytes]"
    started: float
    stopped: bool = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def run_all(
    rows: Sequence[Row],
    command: Callable[[Row], list[str]],
    log: Callable[[Row], Path],
    *,
    jobs: int,
    minutes: float | None,
    watcher: Watcher,
) -> list[Failure]:
    """Run a command for every row, `jobs` at a time, in order; those that failed.

    A row whose teacher is among the rows waits for it, and fails with it.

    Args:
        rows: What to run.
        command: The command line of a row.
        log: Where its output goes.
        jobs: Processes at a time, at least 1.
        minutes: After which a row is asked to stop; None: never.
        watcher: Is told how rows come along.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; what ran was asked to save its state and stop.
    """
    waiting, running, failures = list(rows), list[_Running](), list[Failure]()
    threads = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1))}
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while waiting or running:
            for failure in _fail_with_teachers(waiting, failures):
                watcher.ended(failure.row, failure, 0.0)
            for row in _ready(waiting, running)[: jobs - len(running)]:
                waiting.remove(row)
                try:
                    running.append(_start(row, command(row), log(row), threads))
                except OSError as error:
                    reason = f"cannot be started: {error.strerror or error} ({log(row)})"
                    failures.append(Failure(row=row.name, code=3, reason=reason))
                    watcher.ended(row.name, failures[-1], 0.0)
            for each in [each for each in running if _has_ended(each, minutes)]:
                running.remove(each)
                failed = _failure(each, log(each.row))
                if failed:
                    failures.append(failed)
                    _reason_file(log(each.row)).write_text(failed.reason, encoding="utf-8")
                watcher.ended(each.row.name, failed, each.seconds)
            watcher.show([Underway(r.row.name, r.seconds, log(r.row)) for r in running])
            time.sleep(_POLL_SECONDS)
    finally:
        if running:
            watcher.stopping([each.row.name for each in running])
        _stop(running)
        signal.signal(signal.SIGTERM, before)
    return failures


def _fail_with_teachers(waiting: list[Row], failures: list[Failure]) -> list[Failure]:
    """Take rows out of `waiting` whose teacher failed, add them to `failures` and return them."""
    found = list[Failure]()
    failed = {failure.row for failure in failures}
    while orphans := [row for row in waiting if row.needs in failed]:
        for row in orphans:
            waiting.remove(row)
            failed.add(row.name)
            found.append(Failure(row=row.name, code=2, reason=f"{row.needs} failed"))
    failures += found
    return found


def _ready(waiting: Sequence[Row], running: Sequence[_Running]) -> list[Row]:
    """Rows that wait for no other."""
    unfinished = {row.name for row in waiting} | {each.row.name for each in running}
    return [row for row in waiting if row.needs not in unfinished]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _start(row: Row, command: list[str], log: Path, threads: Mapping[str, str]) -> _Running:
    log.parent.mkdir(parents=True, exist_ok=True)
    _reason_file(log).unlink(missing_ok=True)
    # What the environment says goes first: nobody's choice of threads is overruled.
    environment = {**threads, **os.environ}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return _Running(row=row, process=process, started=time.monotonic())


def _has_ended(each: _Running, minutes: float | None) -> bool:
    if each.process.poll() is not None:
        return True
    if minutes is not None and each.seconds > 60 * minutes:
        if not each.stopped:
            each.process.send_signal(signal.SIGTERM)
            each.stopped = True
        elif each.seconds > 60 * minutes + _GRACE_SECONDS:
            each.process.kill()
    return False


def _stop(running: Sequence[_Running]) -> None:
    """Ask what still runs to save its state and stop, and wait for it."""
    for each in running:
        each.process.terminate()
    for each in running:
        try:
            each.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def _failure(each: _Running, log: Path) -> Failure | None:
    code = each.process.returncode
    if code == 0:
        return None
    if each.stopped and code != -signal.SIGKILL:
        reason = "stopped after its minutes; the same command goes on with it"
        return Failure(row=each.row.name, code=_INTERRUPTED, reason=reason)
    lines = _lines(log)
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
    if code < 0:
        # As shells say it; a process has no negative exit code to give on.
        reason = f"killed by signal {-code}; its last line: {last}"
        return Failure(row=each.row.name, code=128 - code, reason=reason)
    return Failure(row=each.row.name, code=code, reason=_error(lines) or last)


def why_not(log: Path) -> str:
    """Why a row that was run, or not, in an earlier call is not there."""
    if _reason_file(log).exists():
        return _reason_file(log).read_text(encoding="utf-8")
    return (_error(_lines(log)) or "not finished") if log.exists() else "not run"


def _reason_file(log: Path) -> Path:
    """Where the reason of a failure is kept for later tables, beside the log."""
    return log.with_name("failure.txt")


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()


def _error(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else ""
