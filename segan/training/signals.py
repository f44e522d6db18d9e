"""Stopping between two steps when a signal asks for it."""

import signal
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While active, SIGTERM and SIGINT are noted instead of ending the process.

    Attributes:
        received: Whether one of them has come.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Launchers signal the processes of a group more than once, so a second one changes nothing.
        self._previous = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
