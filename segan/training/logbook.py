"""Where a run writes its numbers: metrics.jsonl always, TensorBoard when asked."""

import json
import math
from pathlib import Path
from typing import Any

from segan.errors import ConfigError


class Logbook:
    """Appends one JSON object per logged step to `metrics.jsonl`.

    Args:
        directory: The run.
        step: Where the run stands; lines of later steps, from before a crash, are dropped.
        tensorboard: Whether to write events beside.

    Raises:
        ConfigError: TensorBoard is wanted but not installed.
    """

    def __init__(self, directory: Path, *, step: int, tensorboard: bool) -> None:
        self.path = directory / "metrics.jsonl"
        self.writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ConfigError(
                    'train.tensorboard needs TensorBoard: pip install "segan[track]"'
                ) from None
            self.writer = SummaryWriter(str(directory / "tensorboard"), purge_step=step)  # type: ignore[no-untyped-call]
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log values at a step; a value that is not finite is written as null."""
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line torn by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    # What follows the last newline was being written when the run died.
    return [json.loads(line) for line in lines[:-1]]
