"""Kept rows as tables: means over seeds, their spread, and each row's bootstrap interval."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from segan.config import Tree
from segan.errors import ConfigError
from segan.evaluation.label_free import SCORES
from segan.leaderboard import choice
from segan.leaderboard.running import INTERVALS, KINDS, METRICS
from segan.leaderboard.suite import Suite

# Columns of a table beside the IoU.
SHOWN = {
    "boundary_iou": "boundary IoU",
    "f_beta_max": "max F",
    "hausdorff_95": "HD95, px",
    "iou_oracle_polarity": "oracle polarity",
}
BOUND = "masks"  # of ground truth in training: a bound, and nobody's result


@dataclass(frozen=True, kw_only=True)
class Line:
    """A method on a data set.

    Attributes:
        method: Name in the suite.
        title: For tables.
        rows: Kept rows, by seed.
        asked: How many there should be.
        train: Supervision in training, and where boxes are from.
        test: Supervision at test.
        is_bound: Whether it was trained on ground truth of what the table scores.
        iou: Mean over seeds.
        spread: Lowest and highest seed; None without seeds.
        interval: Mean over seeds of the ends of the rows' 95 % intervals; None without.
        others: Means over seeds of further metrics; None where one seed has none.
        restarts: Fresh starts with other seeds, of all rows together.
        seconds: Mean over seeds, of training.
    """

    method: str
    title: str
    rows: Sequence[Tree]
    asked: int
    train: str
    test: str
    is_bound: bool
    iou: float
    spread: tuple[float, float] | None
    interval: tuple[float, float] | None
    others: Mapping[str, float | None]
    restarts: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Block:
    """A table: one data set, scored in one way; bounds first, then the best line.

    Attributes:
        data: Name in the suite.
        title: Of the data set.
        kind: "whole" or "windows".
        num_images: Pictures scored.
        num_skipped: Pictures of the data set that could not be read.
        box_source: What boxes are read from, where windows are scored; or empty.
        split: Of the data set.
        is_first: Of the tables of its data set.
        lines: Its rows.
    """

    data: str
    title: str
    kind: str
    num_images: int
    num_skipped: int
    box_source: str
    split: str
    is_first: bool
    lines: Sequence[Line]


def blocks_of(suite: Suite, kept: Sequence[Tree]) -> list[Block]:
    """The tables of a suite, in its order, made of the rows there are.

    Raises:
        ConfigError: Two rows of a table were scored on different numbers of pictures.
    """
    blocks: list[Block] = []
    for data, entry in suite.config.data.items():
        for kind in KINDS:
            rows = [row for row in kept if row["data"] == data and kind in row["scores"]]
            lines = [
                _line(suite, name, [row for row in rows if row["method"] == name], kind)
                for name in dict.fromkeys(row["method"] for row in rows)
            ]
            if lines:
                first = rows[0]
                _check_same_pictures(rows, kind)
                blocks.append(
                    Block(
                        data=data,
                        title=entry.title or data,
                        kind=kind,
                        num_images=first["scores"][kind]["num_images"],
                        num_skipped=first.get("skipped", 0),
                        box_source=(first["box_source"] or "") if kind == "windows" else "",
                        split=first["split"],
                        is_first=all(block.data != data for block in blocks),
                        lines=sorted(lines, key=lambda line: (not line.is_bound, -line.iou)),
                    )
                )
    return blocks


def _check_same_pictures(rows: Sequence[Tree], kind: str) -> None:
    first = rows[0]
    for row in rows:
        counts = [each["scores"][kind]["num_images"] for each in (first, row)]
        if counts[0] != counts[1]:
            raise ConfigError(
                f"row {row['row']} was scored on {counts[1]} pictures and {first['row']} on "
                f"{counts[0]}: the data has changed; remove the file of the older row"
            )


def _line(suite: Suite, name: str, rows: Sequence[Tree], kind: str) -> Line:
    rows = sorted(rows, key=lambda row: row["seed"] or 0)
    scores = [row["scores"][kind] for row in rows]
    ious = [each["metrics"]["iou"] or 0.0 for each in scores]
    intervals = [each["intervals"]["iou"] for each in scores if each["intervals"]["iou"]]
    others = {}
    for metric in SHOWN:
        values = [each["metrics"].get(metric) for each in scores]
        # The mean of those seeds alone that have one would be of the better ones.
        others[metric] = None if None in values else mean(values)
    method = suite.config.methods.get(name)
    return Line(
        method=name,
        title=(method.title if method else "") or name,
        rows=rows,
        asked=1 if rows[0]["seed"] is None else len(suite.config.seeds),
        train=_told(rows[0]),
        test=rows[0]["supervision"]["test"][kind],
        is_bound=rows[0]["supervision"]["train"] == BOUND and _trained_on(rows[0]) == kind,
        iou=mean(ious),
        spread=None if rows[0]["seed"] is None else (min(ious), max(ious)),
        interval=(mean(i[0] for i in intervals), mean(i[1] for i in intervals))
        if intervals
        else None,
        others=others,
        restarts=sum(row["restarts"] or 0 for row in rows),
        seconds=mean(row["seconds"]["train"] for row in rows),
    )


def _told(row: Tree) -> str:
    """What training was told beyond pictures; older rows have one source of boxes for all."""
    train: str = row["supervision"]["train"]
    source = row.get("train_box_source") or row["box_source"]
    return f"boxes from {source}" if train == "boxes" and source else train


def _trained_on(row: Tree) -> str:
    view = ((row.get("config") or {}).get("method") or {}).get("view") or {}
    return "windows" if view.get("windows") else "whole"


HEADINGS = (
    *("row", "train", "test", "IoU", "95 % interval", "over seeds"),
    *SHOWN.values(),
    *("fresh starts", "train, s"),
)


def cells_of(line: Line) -> list[str]:
    """A line as text, one cell per heading; "-" where a metric is not defined."""
    spread = ""
    if line.spread is not None:
        # One seed has no spread; its value twice would look like a very small one.
        found = _pair(line.spread) if len(line.rows) > 1 else "one seed"
        spread = f"{found} ({len(line.rows)} of {line.asked})"
    return [
        line.title + (" (bound)" if line.is_bound else ""),
        line.train,
        line.test,
        f"{line.iou:.3f}",
        "-" if line.interval is None else _pair(line.interval),
        spread,
        *(_number(name, line.others[name]) for name in SHOWN),
        "" if line.spread is None else str(line.restarts),
        f"{line.seconds:.0f}" if line.seconds else "",
    ]


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.3f} to {values[1]:.3f}"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name == "hausdorff_95" else f"{value:.3f}"


@dataclass(frozen=True, kw_only=True)
class ChoiceTable:
    """What was chosen without labels beside what labels would have chosen.

    Attributes:
        title: Of what.
        rules: Column headings.
        lines: Method and its values, one per rule.
    """

    title: str
    rules: Sequence[str]
    lines: Sequence[tuple[str, Sequence[str]]]


def choices_of(block: Block) -> list[ChoiceTable]:
    """Choice among seeds, and among checkpoints by what they were scored by on dev."""
    trained = [line for line in block.lines if line.rows[0].get("choices")]
    seeds = {line.title: choice.of_seeds(line.rows, block.kind) for line in trained}
    tables = [_choices(f"choice among seeds, IoU on {block.split}", seeds)]
    points = {line.title: choice.of_checkpoints(line.rows, block.kind) for line in trained}
    tables.append(_choices("choice among checkpoints, IoU on dev, mean over seeds", points))
    tables.append(_correlations(trained, block.kind))
    return [table for table in tables if table.lines]


def _correlations(trained: Sequence[Line], kind: str) -> ChoiceTable:
    lines = []
    for line in trained:
        found, count = choice.correlations(line.rows, kind)
        if any(value is not None for value in found.values()):
            shown = ["-" if value is None else f"{value:+.2f}" for value in found.values()]
            lines.append((line.title, [*shown, str(count)]))
    title = "rank correlation with IoU on dev, over checkpoints and seeds"
    return ChoiceTable(title=title, rules=[*SCORES, "checkpoints"], lines=lines)


def _choices(title: str, found: Mapping[str, Sequence[choice.Choice]]) -> ChoiceTable:
    rules = next(([each.rule for each in choices] for choices in found.values() if choices), [])
    lines = [
        (k, [f"{each.value:.3f}" for each in choices]) for k, choices in found.items() if choices
    ]
    return ChoiceTable(title=title, rules=rules, lines=lines)


NOTES = (
    "IoU is the mean over pictures, or over windows, of the object's IoU, for the last averaged "
    "segmenter of each row; means are over seeds. The 95 % interval resamples pictures (bootstrap; "
    "the mean over seeds of its ends), the spread is from the lowest to the highest seed, with "
    "how many there are of how many were asked for: those that are missing were not run or failed, "
    "and are listed. Fresh starts are those of collapsed runs, with seeds of their own.",
    "train and test: what each row was told beyond pictures. A row trained on masks is no result; "
    "trained on what the table scores, whole pictures or windows, it is the bound. Oracle columns "
    "use labels to choose, and are no results either. HD95 is over pictures with a mask and an "
    "object, and is left out where a seed has none.",
    "Two unnamed regions get their meaning by a rule without labels: the rarer along the border is "
    "the object.",
)


def to_markdown(suite: Suite, blocks: Sequence[Block], *, missing: Sequence[str] = ()) -> str:
    """All tables as Markdown, and the rows that are not in them, each with the reason."""
    parts = [f"# {_markdown(suite.config.title or suite.name)}", *NOTES]
    for block in blocks:
        parts.append(f"## {_markdown(heading_of(block))}")
        parts.append(_markdown_table(HEADINGS, [cells_of(line) for line in block.lines]))
        for table in choices_of(block):
            lines = [[title, *values] for title, values in table.lines]
            parts.append(_markdown(table.title[0].upper() + table.title[1:]) + ":")
            parts.append(_markdown_table(("row", *table.rules), lines))
    if missing:
        parts += ["## Missing", "\n".join(f"- {_markdown(each)}" for each in missing)]
    return "\n\n".join(parts) + "\n"


def heading_of(block: Block) -> str:
    """What a table is of."""
    boxes = f" from {block.box_source}" if block.box_source else ""
    pictures = f"{block.num_images} pictures, {block.split}"
    if block.num_skipped:
        pictures += f"; {block.num_skipped} that cannot be read, left out"
    return f"{block.title}, {KINDS[block.kind]}{boxes} ({pictures})"


def _markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join(["---", *["---:"] * (len(headings) - 1)])
    rows = ["| " + " | ".join(map(_markdown, line)) + " |" for line in (headings, *lines)]
    return "\n".join([rows[0], f"|{rule}|", *rows[1:]])


def _markdown(text: str) -> str:
    """Text that cannot end a cell, or become markup of HTML."""
    for old, new in (("|", "\\|"), ("<", "&lt;"), (">", "&gt;"), ("\n", " ")):
        text = text.replace(old, new)
    return text


def to_csv(kept: Sequence[Tree]) -> str:
    """Every kept row, a line for each way in which it was scored."""
    bounds = [f"{name}_{end}" for name in INTERVALS for end in ("low", "high")]
    fields = (
        *("suite", "row", "data", "method", "seed", "kind", "split", "num_images"),
        *("train", "test", "box_source", "train_box_source", "polarity", *METRICS, *bounds),
        *("restarts", "train_seconds", "hardware", "segmenter_sha256", "git_commit"),
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=fields, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(_csv_lines(kept))
    return text.getvalue()


def _csv_lines(kept: Sequence[Tree]) -> Iterator[Mapping[str, Any]]:
    for row in kept:
        for kind, scores in row["scores"].items():
            ends = {
                f"{name}_{end}": value
                for name in INTERVALS
                for end, value in zip(
                    ("low", "high"), scores["intervals"].get(name) or (), strict=False
                )
            }
            yield {
                **{key: row[key] for key in ("suite", "row", "data", "method", "seed", "split")},
                "kind": kind,
                "num_images": scores["num_images"],
                "train": row["supervision"]["train"],
                "test": row["supervision"]["test"][kind],
                "box_source": row["box_source"] if kind == "windows" else None,
                "train_box_source": row.get("train_box_source"),
                "polarity": row["polarity"],
                **scores["metrics"],
                **ends,
                "restarts": row["restarts"],
                "train_seconds": row["seconds"]["train"],
                "hardware": row["hardware"],
                "segmenter_sha256": row["segmenter_sha256"],
                "git_commit": row["git_commit"],
            }
