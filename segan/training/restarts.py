"""Fresh starts of runs that collapsed: with other seeds, a bounded number, all on record."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segan.errors import ConfigError
from segan.files import written_aside

FILE_NAME = "restarts.json"
FOLDER = "collapsed"

# What an attempt leaves, and the next one writes anew.
_ATTEMPT = ("metrics.jsonl", "health.jsonl", "samples", "snapshots", "state", "tensorboard")

# Between the seeds of two attempts: more than the seeds that anyone tries in a row.
SEED_STEP = 1_000_003


class Restarts:
    """The attempts of a run: the collapsed ones on disk, and the seed of the present one.

    Args:
        directory: The run's.
        seed: Of the run, and so of its first attempt.
        most: How many fresh starts are allowed.
        anew: Forget what is on record there.

    Attributes:
        collapsed: `seed` and `reason` of each attempt that was given up.

    Raises:
        ConfigError: The record is damaged.
    """

    def __init__(self, directory: Path, seed: int, most: int, *, anew: bool = False) -> None:
        self.directory = directory
        self.first_seed = seed
        self.most = most
        self.collapsed: list[Mapping[str, Any]] = [] if anew else _read(directory / FILE_NAME)

    @property
    def count(self) -> int:
        """Fresh starts so far."""
        return len(self.collapsed)

    @property
    def seed(self) -> int:
        """Of the present attempt."""
        return (self.first_seed + SEED_STEP * self.count) % 2**32

    @property
    def is_allowed(self) -> bool:
        """Whether another fresh start is."""
        return self.count < self.most

    def note(self, reason: str) -> None:
        """Count the present attempt as collapsed; the next one has its turn, in this process."""
        self.collapsed.append({"seed": self.seed, "reason": reason})

    def retire(self) -> None:
        """Move what the newest collapsed attempt left out of the way, and put it on record.

        A crash in between repeats that attempt, which then collapses again.
        """
        aside = self.directory / FOLDER / f"{self.count:02d}"
        aside.mkdir(parents=True, exist_ok=True)
        for source in (self.directory / name for name in _ATTEMPT):
            if not source.exists():
                continue
            if (aside / source.name).is_dir():  # of a move that a crash interrupted
                shutil.rmtree(aside / source.name)
            source.replace(aside / source.name)
        with written_aside(self.directory / FILE_NAME) as path:
            path.write_text(json.dumps(self.collapsed, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ConfigError(f"{path} is damaged; start anew with --overwrite")
    return found
