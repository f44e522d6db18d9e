"""A suite as one HTML page that needs no network, no script and no other file."""

import base64
import html
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
    cells_of,
    choices_of,
    heading_of,
)
from segan.training.logbook import read_metrics

_COLORS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df")
_POINTS = 120
_WIDTH, _HEIGHT, _LEFT, _MARGIN = 220, 96, 44, 14
_UNDRAWN = {"step", "images", "skipped_updates", "seconds_per_step"}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap }
th:first-child, td:first-child { text-align: left }
tr.bound { background: var(--soft); font-style: italic }
.strips td { text-align: left; padding: .15rem .6rem } .strips img { display: block }
.curves { display: flex; flex-wrap: wrap; gap: .6rem }
svg text { font-size: 9px; fill: currentColor } svg .axis { stroke: var(--line); fill: none }
svg path { fill: none; stroke-width: 1.3 }
p.note, small, li { color: #777 } summary { cursor: pointer }
"""


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
    parts = [f"<h1>{_text(title)}</h1>", *(f'<p class="note">{_text(note)}</p>' for note in NOTES)]
    if missing:
        items = "".join(f"<li>{_text(each)}</li>" for each in missing)
        parts.append(f"<details><summary>{len(missing)} rows missing</summary><ul>{items}</ul>")
        parts.append("</details>")
    for block in blocks:
        parts += [f"<h2>{_text(heading_of(block))}</h2>", _table(block)]
        for choice in choices_of(block):
            parts.append(f"<h3>{_text(choice.title)}</h3>")
            lines = [(None, [name, *values]) for name, values in choice.lines]
            parts.append(_html_table(("row", *choice.rules), lines))
        strips = samples.get((block.data, block.kind), ())
        if strips:
            parts.append(_strips(strips))
        if block is _first_of(blocks, block.data):
            parts += _curves(block, runs)
    parts.append(_made(blocks))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _text(text: str) -> str:
    """Text that is no markup; bytes of file names that are no text become question marks."""
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def _table(block: Block) -> str:
    return _html_table(
        HEADINGS, [("bound" if line.is_bound else None, cells_of(line)) for line in block.lines]
    )


def _html_table(headings: Sequence[str], lines: Sequence[tuple[str | None, Sequence[str]]]) -> str:
    head = "".join(f"<th>{_text(each)}</th>" for each in headings)
    body = []
    for kind, cells in lines:
        mark = f' class="{kind}"' if kind else ""
        body.append(f"<tr{mark}>" + "".join(f"<td>{_text(c)}</td>" for c in cells) + "</tr>")
    rows = "\n".join(body)
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _first_of(blocks: Sequence[Block], data: str) -> Block:
    return next(block for block in blocks if block.data == data)


def _strips(strips: Sequence[Sample]) -> str:
    rows = []
    for strip in strips:
        encoded = base64.b64encode(strip.jpeg).decode("ascii")
        label = _text(", ".join(strip.names))
        rows.append(
            f'<tr><td>{_text(strip.title)}</td><td><img alt="{label}" title="{label}" '
            f'src="data:image/jpeg;base64,{encoded}"></td></tr>'
        )
    rows_text = "\n".join(rows)
    return f'<div class="wide"><table class="strips">{rows_text}</table></div>'


# --- curves --------------------------------------------------------------------------------------


def _curves(block: Block, runs: Path) -> list[str]:
    parts = []
    for line in block.lines:
        logs = {
            str(r["seed"]): read_metrics(runs / r["row"] / "run/metrics.jsonl") for r in line.rows
        }
        drawn = _curves_of({seed: log for seed, log in logs.items() if log})
        if drawn:
            parts.append(
                f"<details><summary>training curves: {_text(line.title)}</summary>"
                f'<div class="curves">{drawn}</div></details>'
            )
    return parts


def _curves_of(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    names = dict.fromkeys(name for log in logs.values() for entry in log for name in entry)
    return "".join(
        curve(name, {seed: _points(log, name) for seed, log in logs.items()})
        for name in names
        if name not in _UNDRAWN
    )


def _points(log: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    points = [(entry["images"], entry[name]) for entry in log if entry.get(name) is not None]
    return points[:: -(-len(points) // _POINTS) or 1]


def curve(name: str, seeds: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """An inline SVG of one term against images seen, a line per seed; empty without points."""
    points = [point for each in seeds.values() for point in each]
    if not points:
        return ""
    xs, ys = zip(*points, strict=True)
    low, high, end = min(ys), max(ys), max(xs) or 1
    span = high - low or 1.0
    width, height = _WIDTH - _LEFT - 4, _HEIGHT - 2 * _MARGIN
    lines = []
    for index, (seed, found) in enumerate(seeds.items()):
        steps = " L".join(
            f"{_LEFT + width * x / end:.1f} {_MARGIN + height * (high - y) / span:.1f}"
            for x, y in found
        )
        color = _COLORS[index % len(_COLORS)]
        if found:
            lines.append(
                f'<path d="M{steps}" stroke="{color}"><title>seed {_text(seed)}</title></path>'
            )
    bottom = _HEIGHT - _MARGIN
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{_text(name)}">'
        f'<path class="axis" d="M{_LEFT} {_MARGIN} V{bottom} H{_WIDTH - 4}"/>'
        f'<text x="{_LEFT}" y="9">{_text(name)}</text>'
        f'<text x="{_LEFT - 3}" y="{_MARGIN + 6}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 3}" y="{bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 3}" text-anchor="end">{end:g} images</text>'
        + "".join(lines)
        + "</svg>"
    )


def _made(blocks: Sequence[Block]) -> str:
    """Which code and machines the rows are from."""
    rows: list[Tree] = [row for block in blocks for line in block.lines for row in line.rows]
    commits = sorted({str(row["git_commit"])[:12] for row in rows})
    machines = sorted({str(row["hardware"]) for row in rows})
    kinds = ", ".join(KINDS[kind] for kind in dict.fromkeys(block.kind for block in blocks))
    return (
        f"<p><small>{len({row['row'] for row in rows})} rows; {_text(kinds)}; "
        f"commits {_text(', '.join(commits))}; {_text('; '.join(machines))}</small></p>"
    )
