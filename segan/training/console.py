"""What a run shows while it trains: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from segan.progress import SECONDS_BETWEEN_LINES

_UNSEEN = ("discriminator", "penalty")
_SHOWN = {"area": "mask area", "binarity": "undecided"}


class Console:
    """Progress with live mask statistics; as a context manager, shows the bar.

    Args:
        num_steps: Length of the run.
        quiet: Show nothing, as on processes other than the first.
    """

    def __init__(self, num_steps: int, *, quiet: bool) -> None:
        self.rich = RichConsole(stderr=True, quiet=quiet)
        self.num_steps = num_steps
        self.text = ""
        self.shown_at = time.monotonic()
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            # On a narrow terminal this is what is cut, not the step and the time left.
            TextColumn(
                "{task.fields[text]}",
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=self.rich,
            expand=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task("", total=num_steps, text="")

    def __enter__(self) -> "Console":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def start_at(self, step: int) -> None:
        """Where a resumed run stands, before any time is measured."""
        self.bar.reset(self.task, completed=step)

    def show(self, values: dict[str, float]) -> None:
        """Mask statistics and losses of the last logged step."""
        keys = [key for key in values if key.partition("/")[0] not in _UNSEEN]
        names = [key.partition("/")[2] for key in keys]
        # Two phases may have a term of one name.
        parts = [
            f"{_SHOWN.get(name, name) if names.count(name) == 1 else key} {values[key]:.2f}"
            for key, name in zip(keys, names, strict=True)
        ]
        self.text = "  ".join(parts)

    def advance(self, step: int) -> None:
        """Move the bar; without a terminal, print a line now and then."""
        self.bar.update(self.task, completed=step, text=self.text)
        now = time.monotonic()
        if self.bar.disable and now - self.shown_at > SECONDS_BETWEEN_LINES:
            self.shown_at = now
            self.rich.print(
                f"step {step}/{self.num_steps}  {self.text}", highlight=False, soft_wrap=True
            )

    def warn(self, message: str) -> None:
        """A warning, above the bar; on one line, however long."""
        self.rich.print(
            f"warning: {message}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
