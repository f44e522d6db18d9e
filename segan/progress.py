"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 15.0

Item = TypeVar("Item")


class Steps:
    """So many steps of a kind of work; as a context manager, shows how many are done.

    Args:
        what: The work, in a word or two.
        total: How many steps there are.
        unit: What a step is, to show how many there are in a second; "" shows no speed.
        console: Where to; standard error without one.
    """

    def __init__(
        self, what: str, total: int, *, unit: str = "", console: Console | None = None
    ) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        self.began_at = self.shown_at = time.monotonic()
        self.console = console or Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task(what, total=total, speed="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self) -> None:
        """One more step is done."""
        self.done += 1
        now = time.monotonic()
        speed = ""
        if self.unit:
            speed = f"{self.done / max(now - self.began_at, 1e-9):.1f} {self.unit}/s"
        self.bar.update(self.task, advance=1, speed=speed)
        if self.bar.disable and now - self.shown_at > SECONDS_BETWEEN_LINES:
            self.shown_at = now
            line = f"{self.what} {self.done}/{self.total}  {speed}".rstrip()
            self.console.print(line, markup=False)


def tracked(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """The items, with the progress of what is done with each."""
    with Steps(what, total) as steps:
        for item in items:
            yield item
            steps.advance()
