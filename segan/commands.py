"""The commands behind the command line: arguments to configurations, results to the terminal."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from rich.console import Console

from segan import api, config, data, export
from segan import predict as prediction
from segan.checkpoint import load_segmenter
from segan.config import settings
from segan.data import DataConfig
from segan.data.sample import Dataset, Split
from segan.errors import ConfigError
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import compare, trivial_rows
from segan.files import written_aside
from segan.opening import open_segmenter
from segan.segmenter import WindowSpec
from segan.training.config import RunConfig

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
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder, and no method here learns from images alone yet; with boxes, run "
            f"segan train configs/cut_paste/folder.yaml data.root={path} data.boxes=FILE"
        )
    chosen = [] if method is None else [f"method.type={method}"]
    tree = config.override(config.read_tree(path), [*overrides, *chosen])
    run = config.build(
        RunConfig, tree, f"{path} with overrides" if chosen or overrides else str(path)
    )
    if dry_run:
        print(config.to_yaml(config.as_tree(run)), end="")
        return 0
    results = api.train(run, out, overwrite=overwrite)
    if PartialState().is_main_process:
        api.show(results, _OUT)
        _OUT.print(f"segmenter: {out / 'segmenter.safetensors'}   pictures: {out / 'samples'}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """`segan evaluate`."""
    _require_file(options.json, ".json")
    _require_file(options.csv, ".csv")
    opened = open_segmenter(options.segmenter)
    given = _given_window(options)
    spec = opened.windows(given) if options.boxes else opened.window
    split: Split = options.split
    dataset = _dataset(options, split)
    api.report_skipped(dataset)
    which = Cases(
        windows="none" if options.boxes is None else "box",
        spec=spec,
        box_jitter=options.jitter,
        shift=options.shift,
        limit=options.limit,
    )
    rows = {opened.label: api.row_of(opened)}
    if options.trivial:
        rows |= {name: found for name, found in trivial_rows(which).items() if name not in rows}
    results = compare(rows, dataset, which, split=split)
    api.show(results if options.boxes else api.as_whole(results), _OUT)
    if options.json:
        api.write_results(options.json, results)
    if options.csv:
        with written_aside(options.csv) as aside:
            results[opened.label].write_csv(aside)
    return 0


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
    )
    _OUT.print(str(summary), markup=False)
    return 0


def export_segmenter(options: argparse.Namespace) -> int:
    """`segan export`."""
    _require_file(options.out, ".onnx")
    loaded = load_segmenter(Path(options.segmenter))
    model = export.WholePicture(loaded.segmenter, scale=loaded.scale)
    report = export.export_onnx(
        model,
        options.out,
        metadata=loaded.metadata,
        verify=not options.no_verify,
        tolerance=options.tolerance,
    )
    _OUT.print(str(report), markup=False)
    return 0
