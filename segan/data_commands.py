"""The commands `segan data list | info | check | get`."""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from segan import config
from segan.config import settings
from segan.data import DataConfig
from segan.data.catalogue import CATALOGUE, Archive, Entry
from segan.data.checking import DatasetReport, FolderReport, check_dataset, check_folder
from segan.data.download import file_name, get, require_sound
from segan.data.images import one_line
from segan.data.inspection import Skipped
from segan.errors import ConfigError
from segan.files import written_aside

_OUT = Console(highlight=False, soft_wrap=True)
_DATA_ERROR = 3

# Lines of bad files, copies or sizes on the terminal; the JSON has all.
_SHOWN = 10


def list_sets(options: argparse.Namespace) -> int:  # noqa: ARG001
    """`segan data list`."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("name", "truth", "supervision", "get"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what; pictures; terms")
    for name, entry in CATALOGUE.items():
        row = (name, entry.truth, entry.supervision, "yes" if entry.archives else "no")
        table.add_row(*row, f"{entry.title}; {entry.count}; {entry.terms}")
    Console(highlight=False).print(table)
    _OUT.print("supervision: what training can use besides pictures; truth is for evaluation")
    _OUT.print("get: whether `segan data get NAME` fetches it; else see segan data info NAME")
    return 0


def info(options: argparse.Namespace) -> int:
    """`segan data info NAME`."""
    entry = _entry(options.name)
    root = "" if options.name == "shapes" else " --root DIR"
    lines = {
        "pictures": entry.count,
        "ground truth": entry.truth,
        "supervision": entry.supervision,
        "splits": entry.splits,
        "terms": entry.terms + ("" if entry.verified else " (from memory; read the page)"),
        "cite": entry.cite,
        "page": entry.page,
        "folder": "\n".join(entry.layout),
        "to get it": _how_to_get(options.name, entry),
        "to use it": f"data.type={options.name}" + (" data.root=DIR" if root else ""),
        "to check it": f"segan data check --data {options.name}{root}",
    }
    _OUT.print(f"{options.name}: {entry.title}", markup=False)
    for key, text in lines.items():
        for number, line in enumerate(text.splitlines()):
            _OUT.print(f"  {key if number == 0 else '':12} {line}", markup=False)
    return 0


def check(options: argparse.Namespace) -> int:
    """`segan data check`: 0 when all is readable, 3 when something is not."""
    if (options.folder is None) == (options.data is None):
        raise ConfigError("segan data check takes a folder, or --data NAME with --root DIR")
    if options.folder is not None and (options.root is not None or options.set):
        raise ConfigError("--root and --set belong to --data NAME")
    if options.json is not None and options.json.suffix.lower() != ".json":
        raise ConfigError(f"{options.json} must end in .json")
    if options.folder is not None:
        found = check_folder(options.folder)
        _show_folder(found)
        tree, bad = found.tree(), found.unreadable
    else:
        report = check_dataset(_configured(options))
        _show_dataset(report)
        tree, bad = report.tree(), (*report.skipped, *report.wrong)
    if options.json:
        with written_aside(options.json) as aside:
            text = json.dumps(tree, indent=2)
            aside.write_text(text + "\n", encoding="utf-8")
    return _DATA_ERROR if bad else 0


def get_set(options: argparse.Namespace) -> int:
    """`segan data get NAME`."""
    entry = _entry(options.name)
    given = (options.url, options.sha256, options.size)
    archives: Sequence[Archive] = entry.archives
    if any(value is not None for value in given):
        if None in given:
            raise ConfigError("a file from elsewhere needs --url, --sha256 and --size")
        archives = (Archive(url=options.url, size=options.size, sha256=options.sha256.lower()),)
    if not archives:
        raise ConfigError(
            f"{options.name} cannot be fetched: {entry.steps} Terms: {entry.terms}. "
            f"See {entry.page}"
        )
    require_sound(archives)
    out = options.out or Path("data") / options.name
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    progress = Progress(
        *(*columns, TransferSpeedColumn()),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        tasks = {a: progress.add_task(file_name(a), total=a.size) for a in archives}
        get(archives, out, report=lambda archive, n: progress.update(tasks[archive], completed=n))
    _OUT.print(f"{options.name}: data.root={out}", markup=False)
    _OUT.print(f"terms: {entry.terms}; cite: {entry.cite}; page: {entry.page}", markup=False)
    return 0


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        near = difflib.get_close_matches(name, CATALOGUE, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"no data set {name!r}; {hint}valid: {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def _how_to_get(name: str, entry: Entry) -> str:
    if not entry.archives:
        return entry.steps
    total = sum(archive.size for archive in entry.archives) / 1e6
    return f"segan data get {name} --out DIR ({total:.0f} MB)"


@settings
class _Checked:
    data: DataConfig


def _configured(options: argparse.Namespace) -> DataConfig:
    tree: dict[str, Any] = config.override({"type": options.data}, options.set)
    if options.root is not None:
        tree["root"] = options.root
    return config.build(_Checked, {"data": tree}, "--data, --root, --set").data


def _show_folder(report: FolderReport) -> None:
    total = sum(report.files.values())
    _line("files", f"{total} ({_counts(report.files)})")
    _show_bad("unreadable", report.unreadable)
    _line("stored as", _counts(report.modes))
    if report.sizes:
        sides = sorted(report.sizes, key=lambda size: size[0] * size[1])
        ends = [f"{width} x {height}" for height, width in (sides[0], sides[-1])]
        _line("sizes", f"{len(sides)} different, {ends[0]} to {ends[1]} pixels")
    _line("exact copies", f"{len(report.copies)} groups")
    for group in report.copies[:_SHOWN]:
        _line("", " = ".join(map(one_line, group)))


def _show_dataset(report: DatasetReport) -> None:
    _line("data set", report.name)
    _line("provides", ", ".join(report.provides))
    if report.box_source:
        _line("boxes", report.box_source)
    for split, count in report.splits.items():
        _line(split, f"{count} pictures" if isinstance(count, int) else count)
    _show_bad("skipped", report.skipped)
    _show_bad("wrong", report.wrong)


def _show_bad(heading: str, bad: Sequence[Skipped]) -> None:
    _line(heading, str(len(bad)))
    for name, reason in bad[:_SHOWN]:
        _line("", f"{one_line(name)}: {reason}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _line(key: str, text: str) -> None:
    _OUT.print(f"{key:13}{text}", markup=False)
