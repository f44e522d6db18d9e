"""A suite as one HTML page, in the frame and with the charts of `segan report`."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segan.config import Tree
from segan.leaderboard.running import KINDS
from segan.leaderboard.suite import Suite
from segan.leaderboard.tables import (
    HEADINGS,
    NOTES,
    Block,
    Line,
    cells_of,
    choices_of,
    heading_of,
)
from segan.report.curves import NUM_COLORS, Series, chart, interval_bar, legend
from segan.report.document import document
from segan.report.html import Html, element, table
from segan.training.logbook import read_metrics

_UNDRAWN = {"step", "images", "skipped_updates", "seconds_per_step"}


class Sample(NamedTuple):
    """A strip of sample pictures: a title, a JPEG, and the names of what is on it."""

    title: str
    jpeg: bytes
    names: Sequence[str]


def to_html(
    suite: Suite,
    blocks: Sequence[Block],
    *,
    samples: Mapping[tuple[str, str], Sequence[Sample]],
    runs: Path,
    missing: Sequence[str],
) -> str:
    """The page.

    Args:
        suite: The suite.
        blocks: Its tables.
        samples: Strips by data set and kind.
        runs: Where the rows' runs are, for curves; those that are not there have none.
        missing: Rows that are not in the tables, each with the reason.
    """
    title = suite.config.title or suite.name
    notes = [element("p", note, class_="note") for note in NOTES]
    header = element("header", element("p", "segan", class_="mark"), element("h1", title), *notes)
    parts = [_missing(missing)] if missing else []
    for block in blocks:
        parts.append(_section(block, samples.get((block.data, block.kind), ()), runs))
    return document(title, header, element("main", *parts, _made(blocks)))


def _missing(missing: Sequence[str]) -> Html:
    count = f"{len(missing)} row{'s' if len(missing) > 1 else ''} missing"
    items = element("ul", *(element("li", each) for each in missing))
    return element("section", element("details", element("summary", count), items))


def _section(block: Block, strips: Sequence[Sample], runs: Path) -> Html:
    """A table with its bars, what was chosen without labels, sample masks and curves."""
    lines = [[*_cells(line), interval_bar(line.iou, line.interval, "c0")] for line in block.lines]
    parts = [
        element("h2", heading_of(block)),
        table([*HEADINGS, "IoU, 0 to 1"], lines, class_="scores"),
    ]
    for choice in choices_of(block):
        rows = [[name, *values] for name, values in choice.lines]
        parts.append(table(["row", *choice.rules], rows, caption=choice.title))
    if strips:
        cells = [[strip.title, _image(strip)] for strip in strips]
        parts.append(table(["row", "pictures"], cells, caption="sample masks"))
    if block.is_first:
        parts += [_curves(line, runs) for line in block.lines]
    return element("section", *parts)


def _cells(line: Line) -> list[str]:
    first, *others = cells_of(line)
    return [element("em", first) if line.is_bound else first, *others]


def _image(strip: Sample) -> Html:
    encoded = base64.b64encode(strip.jpeg).decode("ascii")
    label = ", ".join(name.encode("utf-8", "replace").decode("utf-8") for name in strip.names)
    return element("img", src=f"data:image/jpeg;base64,{encoded}", alt=label, title=label)


def _curves(line: Line, runs: Path) -> Html:
    """The terms of a method's losses, a line per seed; nothing for rows without a run."""
    logs = {
        f"seed {row['seed']}": read_metrics(runs / row["row"] / "run" / "metrics.jsonl")
        for row in line.rows
    }
    logs = {seed: log for seed, log in logs.items() if log}
    if not logs:
        return Html("")
    terms = dict.fromkeys(name for log in logs.values() for entry in log for name in entry)
    charts = [
        chart(term, [_series(seed, i, log, term) for i, (seed, log) in enumerate(logs.items())])
        for term in terms
        if term not in _UNDRAWN
    ]
    return element(
        "details",
        element("summary", f"training curves: {line.title}"),
        legend(list(logs)),
        element("div", *charts, class_="charts"),
    )


def _series(seed: str, number: int, log: Sequence[Mapping[str, Any]], term: str) -> Series:
    points = [(float(entry["images"]), entry[term]) for entry in log if term in entry]
    return Series(name=seed, color=number % NUM_COLORS, points=points)


def _made(blocks: Sequence[Block]) -> Html:
    """Which code and machines the rows are from."""
    rows: list[Tree] = [row for block in blocks for line in block.lines for row in line.rows]
    kinds = dict.fromkeys(KINDS[block.kind] for block in blocks)
    facts = [
        f"{len({row['row'] for row in rows})} rows",
        ", ".join(kinds),
        "commits " + ", ".join(sorted({_short(str(row["git_commit"])) for row in rows})),
        *sorted({str(row["hardware"]) for row in rows}),
    ]
    return element("p", "; ".join(facts), class_="note")


def _short(commit: str) -> str:
    """Of a commit 12 digits, and whether the code was changed since."""
    digits, _, mark = commit.partition("-")
    return digits[:12] + (f"-{mark}" if mark else "")
