"""What is seen of rows while they run: lines that are rewritten on a terminal, else one a minute.

Rows run in processes of their own, whose output goes to a log each; its last line is shown.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from segan.leaderboard.jobs import Failure, Underway

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_LINES = 60.0
# Of the end of a log, in which its last line is looked for.
_TAIL_BYTES = 4096


class Watch:
    """Shows how far rows are; as a context manager, for as long as they run.

    Args:
        console: Where to.
        total: How many rows there are to run.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.num_ended = 0
        # Colours can be forced upon a file, and a terminal can be too dumb for rewriting.
        rewritten = console.is_interactive and console.file.isatty()
        # Drawn by calls alone: an error of a drawing thread would leave the terminal in pieces.
        self.live = (
            Live(console=console, transient=True, auto_refresh=False, redirect_stderr=False)
            if rewritten
            else None
        )
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

    def ended(self, row: str, failure: Failure | None, seconds: float) -> None:
        """Says of a row that it has ended; this line stays."""
        self.num_ended += 1
        said = "done" if failure is None else f"FAILED: {failure.reason}"
        self._print(f"{row}: {said} ({seconds:.0f} s)")
        if self.live:
            self.shown_at = float("-inf")  # to be drawn anew at once

    def show(self, running: Sequence[Underway]) -> None:
        """Says how far rows are, unless that was just said."""
        now = time.monotonic()
        pause = _SECONDS_BETWEEN_LOOKS if self.live else _SECONDS_BETWEEN_LINES
        if now - self.shown_at < pause:
            return
        self.shown_at = now
        lines = [
            f"{each.name}  {_clock(each.seconds)}  {last_line(each.log)}".rstrip()
            for each in running
        ]
        if self.live:
            self._draw([f"{self.num_ended} of {self.total} rows ended", *lines])
        else:
            for line in lines:
                self._print(line)

    def stopping(self, rows: Sequence[str]) -> None:
        """Says what is being waited for."""
        self._print(f"stopping; what trains saves its state first: {', '.join(rows)}")
        if self.live:
            self._draw([])

    def _print(self, line: str) -> None:
        self.console.print(self._encodable(line), markup=False, highlight=False, soft_wrap=True)

    def _draw(self, lines: Sequence[str]) -> None:
        assert self.live is not None
        texts = [Text(self._encodable(line), no_wrap=True, overflow="crop") for line in lines]
        self.live.update(Group(*texts), refresh=True)

    def _encodable(self, line: str) -> str:
        """A line without what the console cannot write: no word of a log may stop the rows."""
        return line.encode(self.console.encoding, errors="replace").decode(self.console.encoding)


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, without colours; "" if there is none yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"({log} cannot be read: {error.strerror})" if log.exists() else ""
    plain = (Text.from_ansi(line).plain for line in reversed(text.splitlines()))
    printable = ("".join(c for c in line if c.isprintable()).strip() for line in plain)
    return next((line for line in printable if line), "")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
