"""Where a run writes its numbers: metrics.jsonl, health.jsonl, TensorBoard when asked."""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from segan.errors import ConfigError, DataError
from segan.files import written_aside

HEALTH_NAME = "health.jsonl"


def require_tensorboard() -> None:
    """Make sure that TensorBoard events can be written.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(
            "'train.tensorboard' needs TensorBoard: pip install \"segan[track]\", or leave it out"
        )


class Logbook:
    """Appends one JSON object per logged step to `metrics.jsonl`, per check to `health.jsonl`.

    Args:
        directory: The run.
        step: Where the run stands; lines of later steps, from before a crash, are dropped.
        tensorboard: Whether to write events beside; see `require_tensorboard`.
    """

    def __init__(self, directory: Path, *, step: int, tensorboard: bool) -> None:
        self.path = directory / "metrics.jsonl"
        self.health_path = directory / HEALTH_NAME
        for path in (self.path, self.health_path):
            kept = [line for line in read_metrics(path) if line["step"] <= step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            with written_aside(path) as aside:
                aside.write_text(text, encoding="utf-8")
        self.writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.writer:
            self.writer.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log values at a step; a value that is not finite is written as null.

        Raises:
            DataError: The line cannot be written, as on a full disk.
        """
        _append(self.path, {"step": step} | _finite(values))
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def write_health(
        self, step: int, statistics: Mapping[str, float | None], warnings: Sequence[str]
    ) -> None:
        """Log what a check of the masks found, and the warnings that were new with it.

        Raises:
            DataError: The line cannot be written, as on a full disk.
        """
        line = {"step": step} | _finite(statistics) | {"warnings": list(warnings)}
        _append(self.health_path, line)


def _finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}


def _append(path: Path, line: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl or health.jsonl, up to one that a crash has torn."""
    if not path.exists():
        return []
    *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
