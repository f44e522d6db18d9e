"""Scores of a run, or of a segmenter, as the commands show and keep them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from segan import data
from segan.checkpoint import FILE_NAME, load_segmenter
from segan.data.sample import Dataset, Split
from segan.evaluation.annotated import evaluate_annotated
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import compare, trivial_rows
from segan.evaluation.results import Evaluation, table
from segan.evaluation.rows import Row
from segan.evaluation.semantic import control_rows, evaluate_semantic
from segan.files import written_aside
from segan.methods.partitions import PARTITION_ROWS
from segan.opening import Opened, opened
from segan.segmenter import RegionSegmenter
from segan.training.config import RunConfig

_REGION_CONTROLS = ("one_region", "kmeans_lab", "felzenszwalb")


def evaluate_run(
    config: RunConfig, out: Path, dataset: Dataset, *, trivial: bool = True
) -> dict[str, Evaluation]:
    """Score the segmenter of a run beside the trivial rows; writes evaluation.json and .csv.

    People's segmentations are scored by the protocol "regions"; classes, and masks where regions
    have no names, by "semantic"; other masks by "foreground".

    Args:
        config: The run.
        out: Its directory.
        dataset: The split that `config.evaluation` names; provides some ground truth.
        trivial: Also score the trivial guesses.
    """
    loaded = opened(load_segmenter(out / FILE_NAME), name=str(out), label="segan")
    if "annotations" in dataset.provides:
        results = _score_regions(config, loaded, dataset, trivial=trivial)
    elif "classes" in dataset.provides or isinstance(loaded.segmenter, RegionSegmenter):
        results = _score_classes(config, loaded, dataset, trivial=trivial)
    else:
        results = _score_foreground(config, loaded, dataset, trivial=trivial)
    write_results(out / "evaluation.json", results)
    first = next(iter(results.values()))
    with written_aside(out / "evaluation.csv") as aside:
        first.write_csv(aside)
    return results


def _score_regions(
    config: RunConfig, loaded: Opened, dataset: Dataset, *, trivial: bool
) -> dict[str, Evaluation]:
    rows = {"segan": row_of(loaded)}
    if trivial:
        rows |= {name: Row(segmenter=PARTITION_ROWS[name]()) for name in _REGION_CONTROLS}
    return as_whole(
        evaluate_annotated(
            rows,
            dataset,
            kind="regions",
            split=_scored_split(config),
            scale=loaded.scale,
            limit=config.evaluation.limit,
        )
    )


def _score_classes(
    config: RunConfig, loaded: Opened, dataset: Dataset, *, trivial: bool
) -> dict[str, Evaluation]:
    rows = {"segan": row_of(loaded)}
    if trivial:
        rows |= control_rows(data.build(config.data, "train"), loaded.num_regions or 2)
    return as_whole(
        evaluate_semantic(
            rows,
            dataset,
            split=_scored_split(config),
            limit=config.evaluation.limit,
            scale=loaded.scale,
        )
    )


def _scored_split(config: RunConfig) -> Split:
    assert config.evaluation.split != "none"
    return config.evaluation.split


def _score_foreground(
    config: RunConfig, loaded: Opened, dataset: Dataset, *, trivial: bool
) -> dict[str, Evaluation]:
    split, row = _scored_split(config), row_of(loaded)
    results: dict[str, Evaluation] = {}
    if loaded.window is not None and "boxes" in dataset.provides:
        which = Cases(
            windows="box",
            spec=loaded.window,
            shift=config.evaluation.shift,
            box_jitter=config.evaluation.box_jitter,
            limit=config.evaluation.limit,
        )
        rows = {"segan": row} | (trivial_rows(which) if trivial else {})
        results = compare(rows, dataset, which, split=split)
    whole = Cases(scale=loaded.scale, limit=config.evaluation.limit)
    rows = {"segan": replace(row, clip=False)} | (trivial_rows(whole) if trivial else {})
    pictures = compare(rows, dataset, whole, split=split)
    return results | as_whole(pictures)


def row_of(found: Opened) -> Row:
    """A segmenter as a row of a comparison; one that knows of boxes ends at them."""
    return Row(
        segmenter=found.segmenter,
        clip=found.window is not None or found.given_boxes,
        supervision=found.supervision,
        sha256=found.sha256,
        train_box_source=found.box_source,
    )


_WHOLE = "whole pictures: "


def as_whole(results: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
    """Evaluations named as those of whole pictures, beside which windows may stand."""
    return {_WHOLE + name: found for name, found in results.items()}


def show(results: Mapping[str, Evaluation], console: Console) -> None:
    """Print evaluations as tables: windows around boxes, then whole pictures."""
    windows = {name: e for name, e in results.items() if not name.startswith(_WHOLE)}
    whole = {n.removeprefix(_WHOLE): e for n, e in results.items() if n.startswith(_WHOLE)}
    for title, rows in (("windows around boxes", windows), ("whole pictures", whole)):
        if rows:
            first = next(iter(rows.values()))
            pictures = f"{first.num_images} picture{'s' if first.num_images != 1 else ''}"
            heading = f"{first.dataset}, {first.split} split, {pictures}: {title}"
            console.print(table(rows, title=heading))


def write_results(out: Path, results: Mapping[str, Evaluation]) -> None:
    """Write evaluation.json: the first evaluation's keys, and the others' under "others"."""
    first, *others = results
    tree = results[first].as_tree() | {"others": {n: results[n].as_tree() for n in others}}
    write_json(out, tree)


def write_json(out: Path, tree: Mapping[str, Any]) -> None:
    """Write JSON values, whole or not at all."""
    with written_aside(out) as aside:
        aside.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")
