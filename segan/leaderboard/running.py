"""One row: trained if it has to be, scored, and kept as a small JSON file.

The last averaged segmenter is what is scored on the suite's split, once. Checkpoints are scored on
dev alone, beside scores without labels, to see whether these would have chosen well.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import segan
from segan import config, data, methods, runs, scoring
from segan.checkpoint import FILE_NAME, load_segmenter
from segan.config import Tree
from segan.data.sample import Dataset, Split
from segan.errors import ConfigError
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import compare
from segan.evaluation.results import Evaluation, git_commit, sha256
from segan.files import written_aside
from segan.leaderboard.choice import label_free_scores
from segan.leaderboard.samples import mask_strip, write_jpeg
from segan.leaderboard.suite import Row, Suite, SuiteDataConfig, run_of
from segan.opening import Opened, open_segmenter, opened
from segan.segmenter import WindowSpec
from segan.training.directory import check_directory

METRICS = (
    *("iou", "iou_image_mean", "accuracy", "f_beta_max", "mae", "boundary_iou", "hausdorff_95"),
    "iou_oracle_polarity",
)
INTERVALS = ("iou", "boundary_iou")
_NOWHERE = "PATH"
# Of `train`: what changes how a run goes, and not what comes of it.
OPERATIONAL = ("workers", "cache_megabytes", "log_every", "sample_every", "tensorboard", "compile")
KINDS = {"whole": "whole pictures", "windows": "windows around boxes"}
# What tables read of every kept row.
_NEEDED = {
    *("suite", "row", "method", "data", "seed", "split", "segmenter_sha256", "supervision"),
    *("box_source", "polarity", "scores", "restarts", "seconds", "hardware", "git_commit"),
}


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a suite's files are.

    Attributes:
        runs: Runs, logs and sample pictures, a folder per row.
        results: Kept rows.
    """

    runs: Path
    results: Path

    def row(self, row: Row) -> Path:
        """The folder of a row: run/, log.txt, seconds.txt and sample pictures."""
        return self.runs / row.name

    def kept(self, row: Row) -> Path:
        """The file of a finished row."""
        return self.results / f"{row.name}.json"


def run_row(suite: Suite, row: Row, root: Path, places: Places) -> None:
    """Train and score a row, or go on with it, and keep it.

    Raises:
        SeganError: As for training and scoring; the file of a finished row is written last.
    """
    entry = suite.config.data[row.data]
    # A run resumes if its settings are the same: so must be the spelling of its folders.
    root = root.resolve()
    dataset = dataset_of(entry, root, suite.config.split)
    runs.report_skipped(dataset)
    if row.segmenter:
        found, run, header = open_segmenter(row.segmenter), None, {}
    else:
        run = run_of(suite.config, row, root=root, runs=places.runs.resolve())
        # What is missing is missed before an hour of training.
        if suite.config.checkpoints:
            dataset_of(entry, root, "dev")
        _check_window(methods.build(run.method).window, entry, row.name)
        _train(run, places.row(row))
        found = _open(places.row(row) / "run" / FILE_NAME, row.name)
        header = load_segmenter(places.row(row) / "run").metadata
    started = time.perf_counter()
    scores = score(found, dataset, entry, split=suite.config.split)
    _write_samples(found, dataset, entry, places.row(row))
    choices = [] if run is None else _choices(suite, row, root, places.row(row) / "run")
    seconds = {"train": _seconds(places.row(row)), "score": round(time.perf_counter() - started)}
    tree = {
        "suite": suite.name,
        "row": row.name,
        "method": row.method,
        "data": row.data,
        "seed": row.seed,
        "dataset": dataset.name,
        "data_settings": entry.settings,
        "limit": entry.limit,
        "skipped": len(getattr(dataset, "skipped", ())),
        "settings": digest_of(suite, row),
        **_facts(found, scores),
        "train_box_source": header.get("box_source"),
        "teacher": header.get("teacher"),
        "restarts": header.get("restarts"),
        "choices": choices,
        "config": row.asked,
        "seconds": seconds,
        **_surroundings(),
    }
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False) + "\n"
    with written_aside(places.kept(row)) as aside:
        aside.write_text(text, encoding="utf-8")


def score(
    found: Opened, dataset: Dataset, entry: SuiteDataConfig, *, split: Split
) -> dict[str, Evaluation]:
    """Scores by kind: "whole" pictures, and "windows" where the suite has them."""
    row = scoring.row_of(found)
    results = {}
    for kind, which in cases_of(found, entry).items():
        clipped = row if kind == "windows" else replace(row, clip=False)
        results[kind] = compare({"": clipped}, dataset, which, split=split)[""]
    return results


def cases_of(found: Opened, entry: SuiteDataConfig) -> dict[str, Cases]:
    """What is scored of a data set with a segmenter; the same cases for all of them.

    Raises:
        ConfigError: The segmenter's windows are not those of the data set, or it fits neither kind.
    """
    cases = {}
    if not found.given_boxes:
        cases["whole"] = Cases(scale=found.scale, limit=entry.limit)
    window = entry.window
    if window is not None and not found.whole_only:
        _check_window(found.window, entry, found.name)
        spec = found.window or window.spec()
        cases["windows"] = Cases(windows="box", spec=spec, shift=window.shift, limit=entry.limit)
    if not cases:
        raise ConfigError(f"{found.name} needs boxes, and the suite has no window for this data")
    return cases


def _check_window(spec: WindowSpec | None, entry: SuiteDataConfig, name: str) -> None:
    window = entry.window
    if spec is None or window is None:
        return
    if (spec.context, spec.square) != (window.context, window.square):
        raise ConfigError(
            f"{name} is trained on windows of context {spec.context:g}, "
            f"square {str(spec.square).lower()}; the suite scores context "
            f"{window.context:g}, square {str(window.square).lower()}: make them equal"
        )


def _train(run: Any, folder: Path) -> None:
    """Train or resume; what another configuration left in the suite's own folder is replaced."""
    out, started = folder / "run", time.perf_counter()
    try:
        check_directory(out, config.as_tree(run), overwrite=False)
        overwrite = False
    except ConfigError as error:
        print(f"started anew: {error}", file=sys.stderr)  # into the row's log
        overwrite = True
    before = 0 if overwrite else _seconds(folder)
    try:
        runs.train(run, out, overwrite=overwrite, trivial=False)
    finally:
        with written_aside(folder / "seconds.txt") as aside:
            aside.write_text(f"{before + round(time.perf_counter() - started)}\n")


def _seconds(folder: Path) -> int:
    path = folder / "seconds.txt"
    return int(path.read_text()) if path.exists() else 0


def _open(path: Path, name: str) -> Opened:
    return opened(load_segmenter(path), name=name, label=name)


def dataset_of(entry: SuiteDataConfig, root: Path, split: Split) -> Dataset:
    """A split of a suite's data set."""
    return data.build(_data_of(entry, root).data, split)


@config.settings
class _Data:
    """The part of a run's configuration that scoring takes."""

    data: data.DataConfig


def _data_of(entry: SuiteDataConfig, root: Path) -> _Data:
    tree = entry.settings | ({"root": str(root)} if entry.folder else {})
    return config.build(_Data, {"data": tree}, "suite")


def _facts(found: Opened, scores: Mapping[str, Evaluation]) -> Tree:
    """What the evaluations say, rounded."""
    first = next(iter(scores.values()))
    return {
        "split": first.split,
        "segmenter": found.name,
        "segmenter_sha256": found.sha256,
        "supervision": {
            "train": first.supervision["train"],
            "test": {kind: each.supervision["test"] for kind, each in scores.items()},
        },
        "box_source": next((e.box_source for e in scores.values() if e.box_source), None),
        "polarity": first.polarity,
        "scores": {
            kind: {
                "num_images": each.num_images,
                "num_instances": each.num_instances,
                "window": each.window_options,
                "postprocessing": each.postprocessing,
                "undefined": {k: n for k, n in each.undefined.items() if k in METRICS},
                "metrics": {
                    name: _rounded(each.metrics[name]) for name in METRICS if name in each.metrics
                },
                "intervals": {name: _pair(each.intervals.get(name)) for name in INTERVALS},
            }
            for kind, each in scores.items()
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(value, 4) for value in interval]


def _surroundings() -> Tree:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPU cores, {device}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "segan_version": segan.__version__,
        "git_commit": git_commit(),
    }


def _choices(suite: Suite, row: Row, root: Path, run: Path) -> list[Tree]:
    """Of each checkpoint its score on dev, for which labels are looked at, and those without.

    Nothing where training has too few pictures for scores without labels.
    """
    entry = suite.config.data[row.data]
    paths = sorted((run / "snapshots").glob("*.safetensors"))
    if not paths:
        return []
    dev = dataset_of(entry, root, "dev")
    train = dataset_of(entry, root, "train")
    limited = replace(entry, limit=suite.config.dev_limit)
    result = []
    for path in paths:
        found = _open(path, row.name)
        # Where the segmenter has windows they are what it was trained for.
        kind = "windows" if found.window is not None and entry.window else "whole"
        cases = cases_of(found, limited)[kind]
        scores = label_free_scores(found, train)
        if not scores:
            return []
        scored = compare({"": scoring.row_of(found)}, dev, cases, split="dev")[""]
        result.append(
            {
                "images": load_segmenter(path).metadata["images_seen"],
                "kind": kind,
                "dev_iou": _rounded(scored.metrics["iou"]),
                **{name: round(value, 4) for name, value in scores.items()},
            }
        )
    return result


def _write_samples(found: Opened, dataset: Dataset, entry: SuiteDataConfig, folder: Path) -> None:
    row = scoring.row_of(found)
    for kind, which in cases_of(found, entry).items():
        write_jpeg(folder / f"{kind}.jpg", mask_strip(row, dataset, which))


def load_kept(path: Path) -> Tree | None:
    """A kept row, or None where there is none that can be read.

    Raises:
        ConfigError: The file is not one that a suite has kept.
    """
    if not path.exists():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{path} cannot be read; remove it to run its row anew") from None
    if not isinstance(tree, dict) or not tree.keys() >= _NEEDED:
        raise ConfigError(f"{path} is no row of a leaderboard; remove it, or name another folder")
    return tree


def digest_of(suite: Suite, row: Row) -> str:
    """Of all that a kept row depends on, but for places: 16 hex digits.

    That is settings, defaults included, and the revision of the method's code.
    """
    entry = suite.config.data[row.data]
    tree: Tree = {
        "data": config.as_tree(_data_of(entry, Path(_NOWHERE)))["data"],
        "window": None if entry.window is None else asdict(entry.window),
        "limit": entry.limit,
        "split": suite.config.split,
    }
    if entry.folder:
        del tree["data"]["root"]
    if row.segmenter:
        tree["segmenter"] = row.segmenter
    else:
        run = config.as_tree(run_of(suite.config, row, root=None, runs=Path(_NOWHERE)))
        train = {key: value for key, value in run["train"].items() if key not in OPERATIONAL}
        tree |= {"method": run["method"], "train": train, "dev_limit": suite.config.dev_limit}
        if revision := methods.METHODS[run["method"]["type"]].revision:
            tree["revision"] = revision
    text = json.dumps(tree, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_current(kept: Tree, suite: Suite, row: Row, teacher: Tree | None) -> bool:
    """Whether a kept row is of the settings that the suite has now, and of the same teacher.

    A teacher that is a file is the same while the file is, or is not there to be compared.

    Args:
        kept: The row.
        suite: Its suite.
        row: What it should be.
        teacher: The kept row that it needs, if it needs one and that is current.
    """
    if kept.get("settings") != digest_of(suite, row):
        return False
    of = kept.get("teacher") or {}
    # Older rows lack the first round's, and had one round.
    trained_on = of.get("first_sha256", of.get("sha256"))
    if row.needs:
        return teacher is not None and trained_on == teacher["segmenter_sha256"]
    path = Path(str((row.asked.get("method") or {}).get("teacher", "")))
    path = path / FILE_NAME if path.is_dir() else path
    return not path.is_file() or trained_on == sha256(path)


def current_rows(suite: Suite, places: Places) -> dict[str, Tree]:
    """All rows that are kept with the settings the suite has now, by name, in its order.

    Raises:
        ConfigError: A file is not one that a suite has kept.
    """
    rows = {row.name: row for row in suite.rows}
    found: dict[str, Tree | None] = {}

    def look(row: Row) -> Tree | None:
        if row.name not in found:
            teacher = look(rows[row.needs]) if row.needs else None
            kept = load_kept(places.kept(row))
            is_now = kept is not None and is_current(kept, suite, row, teacher)
            found[row.name] = kept if is_now else None
        return found[row.name]

    looked = {row.name: look(row) for row in suite.rows}
    return {name: kept for name, kept in looked.items() if kept is not None}
