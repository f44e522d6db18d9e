"""`segan leaderboard`: what of a suite is there, what is to run, and the tables of what is kept."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segan.config import Tree
from segan.errors import ConfigError
from segan.evaluation.cases import Cases
from segan.files import written_aside
from segan.leaderboard.jobs import Failure, run_all
from segan.leaderboard.page import Sample, to_html
from segan.leaderboard.running import Places, dataset_of, is_current, load_kept, run_row
from segan.leaderboard.samples import picture_strip, truth_strip, write_jpeg
from segan.leaderboard.suite import Row, Suite, find_roots, read_suite
from segan.leaderboard.tables import Block, blocks_of, to_csv, to_markdown

NAME = "leaderboard"
_CHILD = "import sys; from segan.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done about each row.

    Attributes:
        kept: Rows that are finished, in the suite's order, with what is kept of them.
        wanted: Rows to run.
        absent: Rows whose data is not there.
    """

    kept: Mapping[str, Tree]
    wanted: Sequence[Row]
    absent: Sequence[Row]


def leaderboard(
    name: str,
    *,
    roots: Sequence[str],
    only: Sequence[str],
    jobs: int,
    out: Path | None,
    results: Path,
    dry_run: bool,
    collect: bool,
    row: str | None,
    console: Console,
) -> int:
    """Run the rows of a suite that are missing, and write its tables and its page.

    Args:
        name: A suite of benchmarks/suites, or a YAML file.
        roots: "NAME=PATH" of data sets.
        only: Patterns of rows' names; empty for all.
        jobs: Rows at a time.
        out: Runs, logs and tables; by default runs/leaderboard/NAME.
        results: Kept rows lie in a folder of this one, named after the suite.
        dry_run: Only say what there is and what would be run.
        collect: Only write tables and page of the rows that are kept.
        row: Run this row alone, in this process, and write no tables.
        console: For people.

    Returns:
        0, or the exit code of the first row that failed.

    Raises:
        ConfigError: The suite, a root or a pattern is wrong, or nothing can be run.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs is {jobs}; it must be at least 1")
    suite = read_suite(name)
    found = find_roots(suite.config, roots)
    places = Places(runs=out or Path("runs") / NAME / suite.name, results=results / suite.name)
    if row is not None:
        run_row(suite, *_one(suite, row, found), places)
        return 0
    chosen = _chosen(suite, only)
    plan = _plan(suite, chosen, found, places)
    if dry_run:
        console.print(_plan_table(suite, chosen, plan, found))
        return 0
    failures: list[Failure] = []
    if not collect:
        if not plan.wanted and not plan.kept:
            names = ", ".join(dict.fromkeys(each.data for each in plan.absent))
            raise ConfigError(f"no data for {suite.name}: give --root NAME=PATH for {names}")
        failures = _run(suite, plan.wanted, roots, places, name, jobs=jobs, console=console)
    reasons = {each.name: "its data is not there" for each in plan.absent}
    reasons |= {failure.row: failure.reason for failure in failures}
    kept = _kept(suite, places)
    _write(suite, kept, found, places, reasons)
    console.print(f"{len(kept)} of {len(suite.rows)} rows: {places.runs / (NAME + '.html')}")
    for failure in failures:
        console.print(f"failed: {failure.row}: {failure.reason}", markup=False)
    return failures[0].code if failures else 0


def _one(suite: Suite, name: str, roots: Mapping[str, Path | None]) -> tuple[Row, Path]:
    row = next((each for each in suite.rows if each.name == name), None)
    if row is None:
        raise ConfigError(f"suite {suite.name} has no row {name!r}; see --dry-run")
    root = roots[row.data]
    if root is None:
        raise ConfigError(f"where is {row.data}? give --root {row.data}=PATH")
    return row, root


def _chosen(suite: Suite, only: Sequence[str]) -> list[Row]:
    for pattern in only:
        if not any(fnmatchcase(row.name, pattern) for row in suite.rows):
            raise ConfigError(
                f"--only {pattern}: no row of {suite.name} is so named; see --dry-run"
            )
    return [
        row
        for row in suite.rows
        if not only or any(fnmatchcase(row.name, pattern) for pattern in only)
    ]


def _plan(
    suite: Suite, rows: Sequence[Row], roots: Mapping[str, Path | None], places: Places
) -> Plan:
    kept, wanted, absent = {}, [], []
    for row in rows:
        found = load_kept(places.kept(row))
        if found is not None and is_current(found, suite, row):
            kept[row.name] = found
        elif roots[row.data] is None:
            absent.append(row)
        else:
            wanted.append(row)
    return Plan(kept=kept, wanted=wanted, absent=absent)


def _plan_table(
    suite: Suite, rows: Sequence[Row], plan: Plan, roots: Mapping[str, Path | None]
) -> Table:
    absent = {row.name for row in plan.absent}
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{suite.name}: {len(rows)} rows")
    # A long path goes over several lines before anything else gives way.
    for heading in ("row", "state", "data"):
        table.add_column(heading, no_wrap=heading != "data", overflow="fold")
    for row in rows:
        state = "data missing" if row.name in absent else "to run"
        root = roots[row.data]
        place = f"--root {row.data}=PATH" if root is None else str(root)
        if not suite.config.data[row.data].folder:
            place = "drawn"
        table.add_row(row.name, "kept" if row.name in plan.kept else state, place)
    return table


def _run(
    suite: Suite,
    rows: Sequence[Row],
    roots: Sequence[str],
    places: Places,
    name: str,
    *,
    jobs: int,
    console: Console,
) -> list[Failure]:
    def command(row: Row) -> list[str]:
        given = [word for root in roots for word in ("--root", root)]
        where = ["--out", str(places.runs), "--results", str(places.results.parent)]
        return [sys.executable, "-c", _CHILD, NAME, name, "--row", row.name, *given, *where]

    def done(row: Row, failure: Failure | None, seconds: float) -> None:
        said = "done" if failure is None else f"FAILED: {failure.reason}"
        console.print(f"{row.name}: {said} ({seconds:.0f} s)", markup=False)

    return run_all(
        rows,
        command,
        lambda row: places.row(row) / "log.txt",
        jobs=jobs,
        minutes=suite.config.minutes,
        done=done,
    )


def _kept(suite: Suite, places: Places) -> list[Tree]:
    """All rows of a suite that are kept with the settings it has now."""
    found = [(row, load_kept(places.kept(row))) for row in suite.rows]
    return [kept for row, kept in found if kept is not None and is_current(kept, suite, row)]


def _write(
    suite: Suite,
    kept: Sequence[Tree],
    roots: Mapping[str, Path | None],
    places: Places,
    reasons: Mapping[str, str],
) -> None:
    """Markdown, CSV and HTML of what is kept."""
    blocks = blocks_of(suite, kept)
    there = {row["row"] for row in kept}
    missing = [
        f"{row.name}: {reasons.get(row.name, 'not run')}"
        for row in suite.rows
        if row.name not in there
    ]
    samples = {(b.data, b.kind): _samples(suite, b, roots[b.data], places) for b in blocks}
    page = to_html(suite, blocks, samples=samples, runs=places.runs, missing=missing)
    texts = {".md": to_markdown(suite, blocks), ".csv": to_csv(kept), ".html": page}
    for suffix, text in texts.items():
        with written_aside(places.runs / f"{NAME}{suffix}") as aside:
            aside.write_text(text, encoding="utf-8", errors="replace")


def _samples(suite: Suite, block: Block, root: Path | None, places: Places) -> list[Sample]:
    """Pictures and truth, then each method's masks with its first seed, where they are."""
    paths = {}
    pictures = places.runs / "pictures"
    if root is not None:
        _draw(suite, block, root, pictures)
    for what in ("picture", "truth"):
        paths[what] = pictures / f"{block.data}-{block.kind}-{what}.jpg"
    for line in block.lines:
        first = line.rows[0]
        title = line.title if first["seed"] is None else f"{line.title}, seed {first['seed']}"
        paths[title] = places.runs / first["row"] / f"{block.kind}.jpg"
    strips = []
    for title, path in paths.items():
        if path.exists() and path.with_suffix(".txt").exists():
            text = path.with_suffix(".txt").read_text(encoding="utf-8", errors="surrogateescape")
            strips.append(Sample(title, path.read_bytes(), text.splitlines()))
    return strips


def _draw(suite: Suite, block: Block, root: Path, folder: Path) -> None:
    """The sample pictures of a data set and their truth, once."""
    entry = suite.config.data[block.data]
    targets = [folder / f"{block.data}-{block.kind}-{what}.jpg" for what in ("picture", "truth")]
    if all(path.exists() for path in targets):
        return
    dataset = dataset_of(entry, root, suite.config.split)
    which = Cases()
    if block.kind == "windows":
        assert entry.window is not None
        which = Cases(windows="box", spec=entry.window.spec(), shift=entry.window.shift)
    for path, draw in zip(targets, (picture_strip, truth_strip), strict=True):
        write_jpeg(path, draw(dataset, which))
