"""What an evaluation found: one JSON object, one CSV line per scored thing, one row of a table."""

import csv
import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

import segan

Record = dict[str, str | int | float | None]

HEADINGS = {
    "iou": "IoU [95 % interval]",
    "iou_image_mean": "image\nmean",
    "f_beta_max": "max F",
    "boundary_iou": "edge\nIoU",
    "hausdorff_95": "HD95\npx",
    "iou_oracle_polarity": "oracle",
    "miou": "mIoU [95 % interval]",
    "accuracy": "accu-\nracy",
    "nmi": "NMI",
    "ari": "ARI",
    "miou_many_to_one": "mIoU\nn:1",
    "ap": "AP",
    "ap50": "AP50",
    "ar100": "AR100",
    "aji": "AJI",
    "pq": "PQ [95 % interval]",
    "covering_ods": "covering\nODS",
    "covering_ois": "OIS",
    "covering_best": "best",
    "pri_ods": "PRI\nODS",
    "pri_ois": "OIS",
    "vi_ods": "VI bits\nODS",
    "vi_ois": "OIS",
    "f_ods": "F\nODS",
    "f_ois": "OIS",
}
WITH_INTERVAL = ("iou", "miou", "pq")
CLIPPED = "clipped to the box"


@functools.cache
def git_commit() -> str | None:
    """The commit of this code, with "-dirty" if it was changed since; None outside a checkout."""
    package = Path(segan.__file__).resolve().parent
    if not (package.parent / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(package), "describe", "--always", "--abbrev=40", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return described.stdout.strip() or None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one segmenter on one data set under one protocol.

    Attributes:
        protocol: "foreground", ...
        dataset: Name of the data set.
        split: "train", "dev", "test" or "all".
        windows: "none" for whole pictures, "box" for windows around known boxes.
        window_options: How the windows were made; None for whole pictures at their own scale.
        box_source: Where the boxes came from, in words; None where none were used.
        train_box_source: Likewise in training, from the segmenter's file.
        num_images: Pictures scored.
        num_instances: Objects scored, None for whole pictures.
        metrics: Name to value; None where no picture defines it.
        intervals: 95 % bootstrap interval over pictures of each metric that has a value.
        undefined: How many scored things, or classes, leave a metric undefined, where any do.
        per_class: IoU by class name, None for classes that do not occur; None where there are no
            classes.
        matching: How unnamed regions were matched to classes with the truth; "none" if they were
            not.
        polarity: "named" by the segmenter, the label-free rule "border", or "matched" to classes.
        supervision: Of "none", "backgrounds", "boxes", "masks": in "train" and at "test".
        postprocessing: What was done to the predictions, in words; "none" if nothing.
        best_scales: The common scale of all pictures at which each metric that has one is best: a
            threshold, or the number of a level, from 1; None where there are no scales.
        segmenter_sha256: Of the segmenter's file; None for a segmenter without one.
        segan_version: Of this program.
        git_commit: Of this program's checkout, or None.
        records: One line per scored thing, for the CSV file.
    """

    protocol: str
    dataset: str
    split: str
    windows: str
    window_options: dict[str, Any] | None = None
    box_source: str | None = None
    train_box_source: str | None = None
    num_images: int
    num_instances: int | None = None
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    undefined: dict[str, int]
    per_class: dict[str, float | None] | None = None
    matching: str = "none"
    polarity: str
    supervision: dict[str, str]
    postprocessing: str = "none"
    best_scales: dict[str, float] | None = None
    segmenter_sha256: str | None = None
    segan_version: str = segan.__version__
    git_commit: str | None = field(default_factory=git_commit)
    records: list[Record] = field(default_factory=list, repr=False, compare=False)

    def as_tree(self) -> dict[str, Any]:
        """All but the records as JSON values; the content of evaluation.json."""
        names = [each.name for each in fields(self) if each.name != "records"]
        return {name: getattr(self, name) for name in names}

    def write_json(self, path: Path) -> None:
        """Write evaluation.json."""
        text = json.dumps(self.as_tree(), indent=2, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    def write_csv(self, path: Path) -> None:
        """Write one line per picture or instance; undefined values are empty."""
        # File names need not be text; what cannot be decoded is written back as it was.
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.records[0]))
            writer.writeheader()
            writer.writerows(self.records)


def table(evaluations: Mapping[str, Evaluation], *, title: str = "") -> Table:
    """Rows of a comparison on one data set, for a terminal; evaluation.json holds the rest.

    It fits 80 columns. "oracle", where present, lets the truth choose between a mask and its
    complement, and "n:1" lets it give several regions to one class.
    """
    first = next(iter(evaluations.values()))
    if first.train_box_source:
        title = f"{title}\nboxes in training: {first.train_box_source}"
    caption = f"tested with: {first.supervision['test']}"
    done = {row.postprocessing for row in evaluations.values()} - {"none"}
    if done:
        caption += "; * " + "; ".join(sorted(done)).replace("clipped to", "ends at")
    matchings = {row.matching for row in evaluations.values()} - {"none"}
    caption += "".join(f"; matched: {words}" for words in sorted(matchings))
    result = Table(
        title=title.strip() or None,
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    shown = [name for name in HEADINGS if any(name in row.metrics for row in evaluations.values())]
    if first.protocol == "foreground":
        shown = [name for name in shown if name != "accuracy"]
    result.add_column("", no_wrap=True)
    result.add_column("train\nwith", no_wrap=True)
    for name in shown:
        result.add_column(HEADINGS[name], justify="right", no_wrap=True)
    for label, row in evaluations.items():
        mark = "" if row.postprocessing == "none" else " *"
        cells = [_cell(row, name) for name in shown]
        result.add_row(label + mark, row.supervision["train"], *cells)
    return result


def _cell(row: Evaluation, name: str) -> str:
    value = row.metrics.get(name)
    if value is None:
        return "-"
    if name == "hausdorff_95":
        return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
    interval = row.intervals.get(name) if name in WITH_INTERVAL else None
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
