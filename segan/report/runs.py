"""What a run directory holds, read as data from strangers: a part that is missing or damaged is
told of in the page, never a crash."""

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segan import config
from segan.checkpoint import FILE_NAME, load_segmenter
from segan.errors import ConfigError, SeganError
from segan.evaluation.health import ADVICE, standing
from segan.training.directory import CONFIG_NAME
from segan.training.environment import ENVIRONMENT_NAME
from segan.training.logbook import HEALTH_NAME, read_metrics

Tree = dict[str, Any]

_STEP = re.compile(r"step-(\d{1,12})\.png")
_MOST_BYTES = 50_000_000


@dataclass(kw_only=True)
class Run:
    """A run directory as a report shows it.

    Attributes:
        path: The directory.
        name: Unique in the report.
        config: The resolved configuration.
        metrics: Lines of metrics.jsonl.
        health: Lines of health.jsonl.
        samples: Sample panels by step, ascending.
        evaluations: Name to evaluation, as in evaluation.json, the run's own first.
        records: Lines of evaluation.csv.
        header: Of the segmenter's file.
        environment: Of environment.json.
        standing: Failures that had not cleared at the last checkpoint, with advice.
        notes: What is missing or damaged, in words.
    """

    path: Path
    name: str
    config: Tree
    metrics: list[Tree] = field(default_factory=list)
    health: list[Tree] = field(default_factory=list)
    samples: list[tuple[int, Path]] = field(default_factory=list)
    evaluations: dict[str, Tree] = field(default_factory=dict)
    records: list[dict[str, str]] = field(default_factory=list)
    header: Tree = field(default_factory=dict)
    environment: Tree = field(default_factory=dict)
    standing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of the configuration, by "key.sub"."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return default if value is None else value

    @property
    def batch_size(self) -> int:
        """Images per step; 1 where the configuration does not say."""
        size = self.setting("train.batch_size")
        return size if type(size) is int and size > 0 else 1


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Run directories, each with a name of its own.

    Raises:
        ConfigError: One is not a run.
    """
    found = [path.expanduser().resolve() for path in paths]
    if len(set(found)) < len(found):
        raise ConfigError("a run is named twice; name each once")
    depth = 1
    while len({path.parts[-depth:] for path in found}) < len(found):
        depth += 1
    return [_read(path, "/".join(path.parts[-depth:])) for path in found]


def _read(path: Path, name: str) -> Run:
    if not (path / CONFIG_NAME).is_file():
        raise ConfigError(f"{path} is not a run: it has no {CONFIG_NAME}; name a run directory")
    run = Run(path=path, name=name, config=config.read_tree(path / CONFIG_NAME))
    run.metrics = _lines(run, "metrics.jsonl", "no step was logged")
    run.health = _lines(run, HEALTH_NAME, "statistics of masks were not kept by this run")
    run.samples = _samples(path / "samples")
    if not run.samples:
        run.notes.append("samples: there are none")
    run.evaluations = _evaluations(run)
    run.records = _records(run) if run.evaluations else []
    run.environment = _json(run, ENVIRONMENT_NAME, "not kept by this run") or {}
    try:
        run.header = load_segmenter(path).metadata if (path / FILE_NAME).exists() else {}
    except SeganError as error:
        run.notes.append(str(error))
    if not (path / FILE_NAME).exists():
        run.notes.append(f"{FILE_NAME}: missing; training has not finished")
    run.standing = _standing(run)
    return run


# --- parts ---------------------------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _lines(run: Run, name: str, reason: str) -> list[Tree]:
    try:
        found: list[Any] = read_metrics(run.path / name)
    except OSError as error:
        run.notes.append(f"{name}: {error.strerror or error}")
        return []
    lines = [each for each in found if isinstance(each, dict) and type(each.get("step")) is int]
    if not lines:
        run.notes.append(f"{name}: {reason}")
    return lines


def _samples(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def _json(run: Run, name: str, reason: str) -> Tree | None:
    """A JSON object in a file of the run; None, with a note, without one."""
    path = run.path / name
    if not path.is_file():
        run.notes.append(f"{name}: {reason}")
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        run.notes.append(f"{name}: damaged")
        return None
    return tree


def _evaluations(run: Run) -> dict[str, Tree]:
    own = _json(run, "evaluation.json", "not evaluated")
    if own is None:
        return {}
    others = own.pop("others", {})
    named = {run.name: own} | (others if isinstance(others, dict) else {})
    sound = {name: each for name, each in named.items() if _is_evaluation(each)}
    if run.name not in sound:
        run.notes.append("evaluation.json: damaged")
        return {}
    return sound


def _is_evaluation(tree: Any) -> bool:
    return isinstance(tree, dict) and all(
        isinstance(tree.get(key), kind)
        for key, kind in (("metrics", dict), ("intervals", dict), ("protocol", str))
    )


def _records(run: Run) -> list[dict[str, str]]:
    path = run.path / "evaluation.csv"
    try:
        # As it was written: names of files need not be text.
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = list(csv.DictReader(file, restkey="", restval=""))
    except (OSError, csv.Error) as error:
        run.notes.append(f"evaluation.csv: {getattr(error, 'strerror', None) or error}")
        return []
    return [line for line in lines if line.get("image")]


def _standing(run: Run) -> list[str]:
    """What the newest checkpoint's monitor had counted long enough to warn of."""
    latest = run.path / "state" / "LATEST"
    if not latest.is_file():
        return []
    step = latest.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"step-\d{1,12}", step):
        run.notes.append("state/LATEST: damaged")
        return []
    state = _json(run, f"state/{step}/state.json", "missing") or {}
    counts, patience = state.get("health"), run.setting("train.health.patience", 3)
    if not isinstance(counts, dict) or number(patience) is None:
        return []
    known = {name: number(count) or 0 for name, count in counts.items()}
    return [f"at the end: {ADVICE[name]}" for name in standing(known, patience)]
