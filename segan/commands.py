"""The commands behind the command line: arguments to configurations, results to the terminal."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.console import Console

from segan import config, data, prediction, runs, scoring
from segan import serve as serving
from segan.checkpoint import FILE_NAME
from segan.config import settings
from segan.data import DataConfig
from segan.data.sample import Dataset, Split
from segan.errors import ConfigError
from segan.evaluation.annotated import evaluate_annotated
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import compare, trivial_rows
from segan.evaluation.instances import evaluate_instances
from segan.evaluation.partitions import NUM_LEVELS
from segan.evaluation.predictions import PredictionFolder, open_predictions
from segan.evaluation.results import Evaluation
from segan.evaluation.rows import Row
from segan.evaluation.semantic import (
    class_names_of,
    control_rows,
    evaluate_semantic,
    learn_matchings,
)
from segan.files import written_aside
from segan.leaderboard import board as boards
from segan.opening import open_segmenter, refined
from segan.predicting.finding import Options
from segan.report import write_report
from segan.run_configs import run_config
from segan.segmenter import WindowSpec

# Long lines are left to the terminal to wrap, so that paths can be copied from them.
_OUT = Console(highlight=False, soft_wrap=True)


def train(
    path: Path,
    overrides: Sequence[str],
    *,
    method: str | None,
    out: Path,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """`segan train`."""
    run = run_config(path, overrides, method=method, placeholders=dry_run)
    if dry_run:
        print(config.to_yaml(config.as_tree(run)), end="")
        return 0
    results = runs.train(run, out, overwrite=overwrite)
    if PartialState().is_main_process:
        scoring.show(results, _OUT)
        _OUT.print(f"segmenter: {out / 'segmenter.safetensors'}   pictures: {out / 'samples'}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """`segan evaluate`."""
    _require_file(options.json, ".json")
    _require_file(options.csv, ".csv")
    results = scored(options)
    scoring.show(results if options.boxes else scoring.as_whole(results), _OUT)
    if options.json:
        scoring.write_results(options.json, results)
    if options.csv:
        with written_aside(options.csv) as aside:
            next(iter(results.values())).write_csv(aside)
    return 0


def scored(options: argparse.Namespace) -> dict[str, Evaluation]:
    """What `segan evaluate` finds, by name, the segmenter's first."""
    if options.protocol not in _PROTOCOLS:
        raise ConfigError(
            f"there is no protocol {options.protocol!r}; valid: {', '.join(_PROTOCOLS)}"
        )
    return _PROTOCOLS[options.protocol](options)


def _evaluate_foreground(options: argparse.Namespace) -> dict[str, Evaluation]:
    _refuse(options, "levels", "workers", "refine", "match_on")
    opened = open_segmenter(options.segmenter, trust=options.trust)
    given = _given_window(options)
    spec = opened.windows(given) if options.boxes else opened.window
    dataset = _scored_split(options)
    which = Cases(
        windows="none" if options.boxes is None else "box",
        spec=spec,
        scale=opened.scale,
        box_jitter=options.jitter,
        shift=options.shift,
        limit=options.limit,
    )
    rows = {opened.label: scoring.row_of(opened)}
    if options.trivial:
        rows |= {name: found for name, found in trivial_rows(which).items() if name not in rows}
    return compare(rows, dataset, which, split=options.split)


def _evaluate_semantic(options: argparse.Namespace) -> dict[str, Evaluation]:
    _refuse(options, *_BOX_OPTIONS, "levels", "workers", "refine")
    opened = open_segmenter(options.segmenter, trust=options.trust)
    dataset = _scored_split(options)
    rows = {opened.label: scoring.row_of(opened)}
    if options.trivial:
        # As many clusters as the segmenter has, or as there are classes.
        count = opened.num_regions or len(class_names_of(dataset))
        controls = control_rows(_dataset(options, "train"), count)
        rows |= {name: row for name, row in controls.items() if name not in rows}
    which: dict[str, Any] = {"limit": options.limit, "scale": opened.scale}
    matchings = None
    if options.match_on:
        learned_on = _dataset(options, options.match_on)
        matchings = learn_matchings(rows, learned_on, split=options.match_on, scale=opened.scale)
    return evaluate_semantic(rows, dataset, split=options.split, matchings=matchings, **which)


def _evaluate_instances(options: argparse.Namespace) -> dict[str, Evaluation]:
    _refuse(options, *_BOX_OPTIONS, "levels", "workers", "refine", "match_on", "trivial")
    opened = open_segmenter(options.segmenter, trust=options.trust)
    rows = {opened.label: scoring.row_of(opened)}
    dataset = _scored_split(options)
    return evaluate_instances(
        rows, dataset, split=options.split, limit=options.limit, scale=opened.scale
    )


def _evaluate_annotated(options: argparse.Namespace) -> dict[str, Evaluation]:
    """The protocols regions and boundaries."""
    _refuse(options, *_BOX_OPTIONS, "match_on", "trivial")
    path = Path(options.segmenter)
    source: Row | PredictionFolder
    if path.is_dir() and not (path / FILE_NAME).is_file():
        label, scale, source = path.resolve().name, 1.0, open_predictions(path)
        _refuse(options, "levels", "refine")
    else:
        opened = open_segmenter(options.segmenter, trust=options.trust)
        label, scale, source = opened.label, opened.scale, scoring.row_of(opened)
        if options.refine:
            source = refined(source, options.refine, scale=scale)
            label, scale = f"{label} + {options.refine}", 1.0
    return evaluate_annotated(
        {label: source},
        _scored_split(options),
        kind=options.protocol,
        split=options.split,
        num_levels=NUM_LEVELS if options.levels is None else options.levels,
        scale=scale,
        workers=options.workers,
        limit=options.limit,
    )


# The names are those of `segan.cli`, which knows nothing of torch.
_PROTOCOLS: Mapping[str, Callable[[argparse.Namespace], dict[str, Evaluation]]] = {
    "foreground": _evaluate_foreground,
    "semantic": _evaluate_semantic,
    "regions": _evaluate_annotated,
    "boundaries": _evaluate_annotated,
    "instances": _evaluate_instances,
}
_BOX_OPTIONS = ("boxes", "jitter", "shift", "size", "context")


def _refuse(options: argparse.Namespace, *names: str) -> None:
    """Raise ConfigError if one of these was given: it would change nothing."""
    for name in names:
        given = getattr(options, name)
        # Jitter and shift are 0 when they are not given, and change nothing then.
        if given is None or given is False or (name in ("jitter", "shift") and given == 0):
            continue
        flag = name.replace("_", "-")
        raise ConfigError(
            f"--{flag} means nothing for {options.segmenter} and the protocol {options.protocol}"
        )


def _scored_split(options: argparse.Namespace) -> Dataset:
    dataset = _dataset(options, options.split)
    runs.report_skipped(dataset)
    return dataset


def _require_file(path: Path | None, suffix: str) -> None:
    """Raise ConfigError, before any work is done, where a result could not or should not go.

    A wrong suffix is more often a slip that would replace a file of another kind.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    if path.suffix.lower() != suffix:
        raise ConfigError(f"{path} must end in {suffix}")


@settings
class _Scored:
    """The part of a run's configuration that evaluation takes."""

    data: DataConfig


def _dataset(options: argparse.Namespace, split: Split) -> Dataset:
    tree = config.override({"type": options.data}, options.set)
    if options.root is not None:
        tree["root"] = options.root
    if options.boxes not in (None, "gt"):
        tree["boxes"] = options.boxes
    if options.data in data.ON_DISK and "root" not in tree:
        raise ConfigError(f"--data {options.data} needs --root PATH, the folder where it lies")
    return data.build(config.build(_Scored, {"data": tree}, "--data, --root, --set").data, split)


def _given_window(options: argparse.Namespace) -> WindowSpec | None:
    """Windows for segmenters that have none of their own."""
    if options.size is None and options.context is None:
        return None
    if options.size is None or options.context is None or options.boxes is None:
        raise ConfigError(
            "--size and --context make windows around boxes; give both, and --boxes, or neither"
        )
    if options.size < 1 or not 1 <= options.context < math.inf:
        raise ConfigError("--size and --context must be at least 1")
    return WindowSpec(size=options.size, context=options.context)


def predict(options: argparse.Namespace) -> int:
    """`segan predict`."""
    summary = prediction.predict(
        options.segmenter,
        options.sources,
        options.out,
        boxes=options.boxes,
        window=_given_window(options),
        overwrite=options.overwrite,
        formats=options.format,
        options=Options(
            threshold=options.threshold,
            refine=tuple(options.refine),
            instances=options.instances,
            min_area=options.min_area,
            max_area=options.max_area,
            tile=options.tile,
            max_pixels=options.max_pixels,
        ),
        join_videos=options.join_videos,
        trust=options.trust,
    )
    _OUT.print(str(summary), markup=False)
    return 0


def report(options: argparse.Namespace) -> int:
    """`segan report`."""
    _require_file(options.out, ".html")
    if options.examples < 1:
        raise ConfigError(f"--examples is {options.examples}; it must be at least 1")
    write_report(
        options.runs,
        options.out,
        examples=options.examples,
        root=options.root,
        draw=not options.no_pictures,
    )
    _OUT.print(f"{options.out} ({options.out.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def leaderboard(options: argparse.Namespace) -> int:
    """`segan leaderboard`."""
    return boards.leaderboard(
        options.suite,
        roots=options.root,
        only=options.only,
        jobs=options.jobs,
        out=options.out,
        results=options.results,
        dry_run=options.dry_run,
        collect=options.collect,
        row=options.row,
        console=_OUT,
    )


def serve(options: argparse.Namespace) -> int:
    """`segan serve`."""
    serving.serve(
        options.models,
        host=options.host,
        port=options.port,
        max_megabytes=options.max_megabytes,
        max_megapixels=options.max_megapixels,
        ready=lambda address: _OUT.print(f"{address}   (Ctrl-C ends it)", markup=False),
    )
    return 0
