"""What is seen of rows while they run: lines that are rewritten on a terminal, else one a minute.

Rows run in processes of their own, whose output goes to a log each; its last line is shown.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LINES = 60.0
# Of the end of a log, in which its last line is looked for.
_TAIL_BYTES = 4096


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


class Watch:
    """Shows how far running rows are; as a context manager, for as long as they run.

    Args:
        console: Where to.
        total: How many rows there are to run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.done = 0
        self.live = Live(console=console, transient=True) if console.is_terminal else None
        self.shown_at = time.monotonic()

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.live.stop()

    def ended(self, message: str) -> None:
        """A row has ended; what is to be said of it stays."""
        self.done += 1
        self.console.print(message, markup=False, highlight=False)

    def show(self, running: Sequence[Underway]) -> None:
        """How far rows are, unless that was just shown."""
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_LOOKS if self.live else _SECONDS_BETWEEN_LINES
        if now - self.shown_at < pause:
            return
        self.shown_at = now
        lines = [
            Text(f"{each.name}  {_clock(each.seconds)}  {last_line(each.log)}".rstrip())
            for each in running
        ]
        if self.live:
            head = Text(f"{self.done} of {self.total} rows done")
            for line in lines:
                line.no_wrap, line.overflow = True, "ellipsis"
            self.live.update(Group(head, *lines))
        else:
            for line in lines:
                self.console.print(line, highlight=False, soft_wrap=True)


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, "" if there is none yet."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
