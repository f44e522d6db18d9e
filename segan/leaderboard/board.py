"""`segan leaderboard`: what of a suite is there, what is to run, and the tables of what is kept."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from segan.checkpoint import FILE_NAME, load_segmenter
from segan.config import Tree
from segan.errors import ConfigError, SeganError
from segan.evaluation.cases import Cases
from segan.files import written_aside
from segan.leaderboard.jobs import Failure, run_all, why_not
from segan.leaderboard.page import Sample, to_html
from segan.leaderboard.running import Places, current_rows, dataset_of, run_row
from segan.leaderboard.samples import picture_strip, truth_strip, write_jpeg
from segan.leaderboard.suite import Row, Suite, find_roots, read_suite
from segan.leaderboard.tables import Block, blocks_of, heading_of, to_csv, to_markdown
from segan.leaderboard.watching import Watch

NAME = "leaderboard"
_CHILD = "import sys; from segan.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done about each row.

    Attributes:
        kept: Rows that are finished, in the suite's order, with what is kept of them.
        wanted: Rows to run, and teachers that they need and whose runs are not there.
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
            raise ConfigError(
                f"no data for {suite.name}: give --root NAME=PATH for {names}, or the folder that "
                "holds them as SEGAN_DATA"
            )
        try:
            failures = _run(suite, plan.wanted, roots, places, name, jobs=jobs, console=console)
        except KeyboardInterrupt:
            console.print("finished rows are kept; the same command goes on where it was")
            raise
    for failure in failures:
        console.print(f"failed: {failure.row}: {failure.reason}", markup=False)
    reasons = {row.name: why_not(places.row(row) / "log.txt") for row in suite.rows}
    reasons |= {each.name: "its data is not there" for each in plan.absent}
    other = "kept with other settings, code or teacher; remove its file, or run it again"
    reasons |= {row.name: other for row in suite.rows if places.kept(row).exists()}
    reasons |= {failure.row: failure.reason for failure in failures}
    kept = [*current_rows(suite, places).values()]
    for warning in _write(suite, kept, found, places, reasons):
        console.print(warning, markup=False)
    if not kept:
        console.print(f"no row is kept in {places.results}; --results names another folder")
    tables = places.runs / NAME
    console.print(f"kept: {len(kept)} of {len(suite.rows)} rows; {tables}.html, .md and .csv")
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
    current = current_rows(suite, places)
    by_name = {row.name: row for row in suite.rows}
    missing = {row.name for row in rows if row.name not in current}
    for name in tuple(missing):
        teacher = by_name[name].needs
        while teacher and not _has_run(by_name[teacher], current.get(teacher), places):
            missing.add(teacher)
            teacher = by_name[teacher].needs
    # A teacher that is trained again is another one to all of its students. In the suite's order a
    # student of a student may come first, hence once per row.
    for _ in suite.rows:
        missing |= {row.name for row in suite.rows if row.needs in missing and row.name in current}
    kept = {row.name: current[row.name] for row in rows if row.name not in missing}
    to_run = [row for row in suite.rows if row.name in missing]
    absent = [row for row in to_run if roots[row.data] is None]
    wanted = [row for row in to_run if roots[row.data] is not None]
    return Plan(kept=kept, wanted=wanted, absent=absent)


def _has_run(row: Row, kept: Tree | None, places: Places) -> bool:
    """Whether the very segmenter that a kept row was scored with is there to be a teacher."""
    path = places.row(row) / "run" / FILE_NAME
    if kept is None or not path.exists():
        return False
    trained_on: str = kept["segmenter_sha256"]
    try:
        return load_segmenter(path).sha256 == trained_on
    except SeganError:  # no teacher; running its row says what is wrong with the file
        return False


def _plan_table(
    suite: Suite, rows: Sequence[Row], plan: Plan, roots: Mapping[str, Path | None]
) -> Table:
    absent = {row.name for row in plan.absent}
    chosen = {row.name for row in rows}
    rows = [*rows, *(row for row in (*plan.wanted, *plan.absent) if row.name not in chosen)]
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

    with Watch(console, len(rows)) as watch:
        return run_all(
            rows,
            command,
            lambda row: places.row(row) / "log.txt",
            jobs=jobs,
            minutes=suite.config.minutes,
            watcher=watch,
        )


def _write(
    suite: Suite,
    kept: Sequence[Tree],
    roots: Mapping[str, Path | None],
    places: Places,
    reasons: Mapping[str, str],
) -> list[str]:
    """Markdown, CSV and HTML of what is kept; what could not be drawn, a line each."""
    blocks = blocks_of(suite, kept)
    there = {row["row"] for row in kept}
    missing = [f"{row.name}: {reasons[row.name]}" for row in suite.rows if row.name not in there]
    _write_text(places, ".md", to_markdown(suite, blocks, missing=missing))
    _write_text(places, ".csv", to_csv(kept))
    samples, undrawn = {}, []
    for block in blocks:
        root = roots[block.data]
        try:
            if root is not None:
                _draw(suite, block, root, places)
        except SeganError as error:  # pictures are an extra; kept rows need no data
            undrawn.append(f"no sample pictures of {heading_of(block)}: {error}")
        samples[block.data, block.kind] = _samples(suite, block, places)
    page = to_html(suite, blocks, samples=samples, runs=places.runs, missing=missing)
    _write_text(places, ".html", page)
    return undrawn


def _write_text(places: Places, suffix: str, text: str) -> None:
    with written_aside(places.runs / f"{NAME}{suffix}") as aside:
        aside.write_text(text, encoding="utf-8", errors="replace")


def _strips(suite: Suite, block: Block, places: Places) -> tuple[Path, Path]:
    """Where the pictures and the truth of a table are drawn, by all that they depend on."""
    entry = suite.config.data[block.data]
    window = None if entry.window is None else asdict(entry.window)
    facts = json.dumps([entry.settings, window, suite.config.split], sort_keys=True, default=str)
    start = f"{block.data}-{block.kind}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    folder = places.runs / "pictures"
    return folder / f"{start}-picture.jpg", folder / f"{start}-truth.jpg"


def _samples(suite: Suite, block: Block, places: Places) -> list[Sample]:
    """Pictures and truth, then each method's masks with its first seed, where they are."""
    paths = dict(zip(("picture", "truth"), _strips(suite, block, places), strict=True))
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


def _draw(suite: Suite, block: Block, root: Path, places: Places) -> None:
    """The sample pictures of a data set and their truth, once."""
    entry = suite.config.data[block.data]
    targets = _strips(suite, block, places)
    if all(path.exists() for path in targets):
        return
    dataset = dataset_of(entry, root, suite.config.split)
    which = Cases()
    if block.kind == "windows":
        assert entry.window is not None
        which = Cases(windows="box", spec=entry.window.spec(), shift=entry.window.shift)
    for path, draw in zip(targets, (picture_strip, truth_strip), strict=True):
        write_jpeg(path, draw(dataset, which))
