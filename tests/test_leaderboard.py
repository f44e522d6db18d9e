"""`segan leaderboard` as a stranger meets it: a tiny suite from end to end, and every mistake."""

import csv
import html.parser
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segan import methods
from segan.cli import main
from segan.data.sample import Sample
from segan.errors import ConfigError
from segan.leaderboard import choice
from segan.leaderboard.board import leaderboard
from segan.leaderboard.jobs import Failure, Underway, run_all, why_not
from segan.leaderboard.suite import SUITES, Row, find_roots, merged, read_suite, run_of
from segan.leaderboard.tables import blocks_of, to_csv, to_markdown
from segan.leaderboard.watching import last_line
from segan.segmenter import WindowSpec

TITLE = "a <b>bold</b> | title"

# given_box fails on pictures without boxes, as a row of a suite may.
SUITE = f"""
title: "{TITLE}"
seeds: [0, 1]
checkpoints: 2
dev_limit: 2
data:
  folder:
    title: "<i>pictures</i>"
    folder: pictures
    settings: {{type: folder}}
methods:
  otsu: {{segmenter: otsu}}
  given_box: {{segmenter: given_box}}
  second:
    title: second & stage
    settings:
      method:
        {{type: self_training, teacher: otsu, network: {{width: 4, depth: 1}}, view: {{size: 16}}}}
      train: {{images: 16, batch_size: 8, precision: fp32, log_every: 1}}
"""


def write_pictures(root: Path) -> None:
    """Pictures of one bright disc each, one of them with a name that is markup, and their masks."""
    for index in range(24):
        y, x = np.ogrid[:24, :24]
        disc = (y - 8 - index % 8) ** 2 + (x - 12) ** 2 <= 25
        pixels = np.where(disc[..., None], 220, 30 + index).astype(np.uint8).repeat(3, axis=2)
        for folder, data in (("images", pixels), ("masks", disc.astype(np.uint8) * 255)):
            path = root / folder / f"<img src=x>{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data).save(path)


class Board:
    """A suite that was run once by the command itself, for all tests that look at what it made."""

    def __init__(self, base: Path) -> None:
        self.suite = base / "tiny.yaml"
        self.out, self.results = base / "out", base / "results"
        self.pictures = base / "data"
        write_pictures(self.pictures)
        masks = self.pictures / "masks"
        text = SUITE.replace("type: folder}", f"type: folder, masks: '{masks}'}}")
        self.suite.write_text(text)

    def run(self, *arguments: str) -> int:
        root = f"folder={self.pictures / 'images'}"
        where = ["--root", root, "--out", str(self.out), "--results", str(self.results)]
        return main(["leaderboard", str(self.suite), *where, *arguments])

    def text(self, suffix: str) -> str:
        return (self.out / f"leaderboard.{suffix}").read_text(encoding="utf-8")

    def rows(self) -> list[dict[str, Any]]:
        paths = sorted((self.results / "tiny").glob("*.json"))
        return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    built = Board(tmp_path_factory.mktemp("board"))
    built.code = built.run("--jobs", "2")
    return built


# --- a suite from end to end ---------------------------------------------------------------------


def test_a_failing_row_is_named_and_the_others_are_kept(board: Board):
    assert board.code == 2
    names = [row["row"] for row in board.rows()]
    assert names == ["folder-otsu", "folder-second-0", "folder-second-1"]
    assert "given_box needs boxes" in (board.out / "folder-given_box" / "log.txt").read_text()
    assert "folder-given_box: given_box needs boxes" in board.text("html")


def test_kept_rows_say_what_they_are_of_and_are_small(board: Board):
    for path in (board.results / "tiny").glob("*.json"):
        assert path.stat().st_size <= 4096
        assert str(board.out.parent) not in path.read_text().replace(str(board.pictures), "")
    row = board.rows()[1]
    assert row["supervision"] == {"train": "none", "test": {"whole": "none"}}
    assert row["teacher"]["name"] == "otsu"
    assert row["restarts"] == 0
    assert row["split"] == "test"
    assert row["seed"] == 0
    assert row["config"]["train"]["seed"] == 0
    assert row["seconds"].keys() == {"train", "score"}
    assert len(row["segmenter_sha256"]) == 64
    assert {"hardware", "git_commit", "torch", "segan_version"} <= row.keys()
    scores = row["scores"]["whole"]
    assert 0 <= scores["metrics"]["iou"] <= 1
    low, high = scores["intervals"]["iou"]
    assert low <= scores["metrics"]["iou"] <= high


def test_checkpoints_have_scores_with_and_without_labels(board: Board):
    choices = board.rows()[1]["choices"]
    assert [each["images"] for each in choices] == [8, 16]
    for each in choices:
        keys = {"images", "kind", "dev_iou", "flip_consistency", "edge_alignment", "contrast"}
        assert each.keys() == keys
        assert each["kind"] == "whole"
    assert "choice among seeds, IoU on test" in board.text("html")
    assert "oracle" in board.text("md")


def test_a_second_call_runs_only_what_is_missing(board: Board):
    kept = {path: path.stat().st_mtime_ns for path in (board.results / "tiny").glob("*.json")}
    text = board.text("csv")
    assert board.run("--only", "*-otsu", "--only", "*-second-*") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert board.text("csv") == text


def test_dry_run_lists_rows_and_what_is_there(board: Board, capsys):
    assert board.run("--dry-run") == 0
    shown = capsys.readouterr().out
    assert re.search(r"folder-otsu +kept", shown)
    assert re.search(r"folder-given_box +to run", shown)


def test_page_needs_nothing_else_and_escapes_what_it_is_told(board: Board):
    page = board.text("html")

    class Reader(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.sources: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.sources += [v or "" for k, v in attrs if k in ("src", "href")]

    reader = Reader()
    reader.feed(page)
    assert not {"link", "iframe", "b"} & set(reader.tags)
    assert reader.tags.count("script") == 1
    assert reader.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in reader.sources)
    assert "&lt;b&gt;bold&lt;/b&gt; | title" in page
    assert "second &amp; stage" in page
    assert "&lt;img src=x&gt;" in page
    assert "<i>" not in page
    assert "url(" not in page
    assert "://" not in page


def test_page_has_curves_and_samples_of_every_row(board: Board):
    page = board.text("html")
    assert page.count("data-chart=") >= 2
    assert "fit/dice" in page
    assert page.count("<img ") == 4  # picture, truth, otsu, second
    assert "seed 1" in page


def test_markdown_cells_cannot_be_broken_out_of(board: Board):
    text = board.text("md")
    assert "# a &lt;b&gt;bold&lt;/b&gt; \\| title" in text
    lines = [line for line in text.splitlines() if line.startswith("| ") and "second" in line]
    assert "(2 of 2)" in lines[0]


def test_csv_has_a_line_per_row_and_its_interval(board: Board):
    lines = list(csv.DictReader(board.text("csv").splitlines()))
    assert [line["row"] for line in lines] == ["folder-otsu", "folder-second-0", "folder-second-1"]
    for line in lines:
        assert float(line["iou_low"]) <= float(line["iou"]) <= float(line["iou_high"])
        assert line["train"] == "none"


def test_a_row_kept_with_other_settings_is_run_anew(board: Board, tmp_path: Path, capsys):
    changed = tmp_path / "tiny.yaml"
    changed.write_text(board.suite.read_text().replace("images: 16", "images: 24"))
    where = ["--out", str(board.out), "--results", str(board.results), "--dry-run"]
    root = f"folder={board.pictures / 'images'}"
    assert main(["leaderboard", str(changed), "--root", root, *where]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"folder-second-0 +to run", shown)
    assert re.search(r"folder-otsu +kept", shown)


def test_collect_writes_tables_without_the_data(board: Board, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("SEGAN_DATA", raising=False)
    where = ["--out", str(tmp_path / "out"), "--results", str(board.results)]
    assert main(["leaderboard", str(board.suite), "--collect", *where]) == 0
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "second &amp; stage" in page
    assert "<img " not in page


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("segmenter: otsu}", "segmenter: otsuu}", "did you mean 'otsu'?"),
        ("type: folder}", "type: foldr}", "did you mean 'folder'?"),
        ("type: self_training", "type: self_trainig", "did you mean 'self_training'?"),
        ("images: 16", "imagez: 16", "unknown key 'train.imagez'"),
        ("seeds: [0, 1]", "seedz: [0]", "unknown key 'seedz'"),
        ("seeds: [0, 1]", "seeds: [0, 1, 0]", "give at least one, and each once"),
        ("seeds: [0, 1]", "seeds: []", "give at least one, and each once"),
        ("checkpoints: 2", "checkpoints: 17", "checkpoints"),
        (
            "train: {images: 16, batch_size: 8, precision: fp32, log_every: 1}",
            "train: 5",
            "is 5; it",
        ),
        ("teacher: otsu", 'teacher: "row:second"', "folder-second-0 needs folder-second-0"),
        ("  otsu:", "  ../otsu:", "names of files are made of it"),
        ("teacher: otsu", 'teacher: "row:nobody"', "teacher 'nobody' is not trained on folder"),
        ("segmenter: given_box", "segmenter: given_box, data: [foldr]", "did you mean 'folder'?"),
    ],
)
def test_mistakes_in_a_suite_are_one_line(tmp_path: Path, capsys, old, new, message):
    assert SUITE.count(old) == 1
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.replace(old, new))
    assert main(["leaderboard", str(path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no suite 'nowhere'"),
        (["SUITE", "--root", "folder"], "write --root NAME=PATH"),
        (["SUITE", "--root", "other=."], "'other', which there is not"),
        (["SUITE", "--root", "folder=nowhere"], "there is no folder nowhere"),
        (["SUITE", "--only", "x*"], "no row of suite is so named"),
        (["SUITE", "--jobs", "0"], "--jobs is 0; it must be at least 1"),
        (["SUITE", "--row", "x"], "has no row 'x'"),
        (["SUITE"], "give --root NAME=PATH for folder"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEGAN_DATA", raising=False)
    (tmp_path / "suite.yaml").write_text(SUITE)
    given = [str(tmp_path / "suite.yaml") if each == "SUITE" else each for each in arguments]
    assert main(["leaderboard", *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["suite.yaml"]


# --- suites that ship ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_suites_that_ship_are_possible(path: Path):
    suite = read_suite(path.stem)
    if suite.config.split == "test":  # what compares methods, not settings of one
        assert any(row.segmenter == "otsu" for row in suite.rows)
        assert any(row.needs for row in suite.rows)
    for row in suite.rows:
        if row.segmenter or row.seed != suite.config.seeds[0]:
            continue
        run = run_of(suite.config, row, root=Path(), runs=Path())
        with torch.device("meta"):
            method = methods.build(run.method)
        owners = {phase.optimizer or phase.name for phase in method.phases}
        assert set(run.train.optimizers) <= owners
        window = suite.config.data[row.data].window
        if method.window is not None:
            assert (method.window.context, method.window.square) == (window.context, window.square)


def test_rows_of_the_cpu_suite_have_their_bound_and_their_control():
    suite = read_suite("cpu")
    for data in suite.config.data:
        there = {row.method for row in suite.rows if row.data == data}
        assert {"otsu", "kmeans", "supervised", "second_stage_otsu", "wnet", "iic"} <= there
    assert suite.config.seeds == [0, 1, 2]
    assert suite.config.minutes <= 12


# --- parts ---------------------------------------------------------------------------------------


def test_roots_come_from_arguments_before_the_environment(tmp_path: Path, monkeypatch):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    suite = read_suite(str(path)).config
    monkeypatch.setenv("SEGAN_DATA", str(tmp_path))
    assert find_roots(suite, []) == {"folder": None}
    (tmp_path / "pictures").mkdir()
    assert find_roots(suite, []) == {"folder": tmp_path / "pictures"}
    (tmp_path / "else").mkdir()
    assert find_roots(suite, [f"folder={tmp_path / 'else'}"]) == {"folder": tmp_path / "else"}


def test_merging_goes_to_every_depth_and_changes_neither():
    first, second = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "e": {"f": 5}}
    assert merged(first, second) == {"a": {"b": 4, "c": 2}, "d": 3, "e": {"f": 5}}
    assert first == {"a": {"b": 1, "c": 2}, "d": 3}


def test_the_suites_that_ship_are_named_by_help_and_documentation(capsys):
    names = sorted(path.stem for path in SUITES.glob("*.yaml"))
    with pytest.raises(SystemExit):
        main(["leaderboard", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(names)}, or a YAML file" in said
    documented = (SUITES.parent.parent / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in documented for name in names)


class Recorder:
    """A watcher that remembers what ended and, of what runs, that for which `counts` is true."""

    def __init__(self, counts: Callable[[Underway], bool] = lambda _row: True) -> None:
        self.names: list[str] = []
        self.asked_to_stop: list[str] = []
        self.seen: list[Underway] = []
        self.most_at_once = 0
        self.counts = counts

    def ended(self, row: str, _failure: Failure | None, _seconds: float) -> None:
        self.names.append(row)

    def show(self, running: Sequence[Underway]) -> None:
        self.most_at_once = max(self.most_at_once, len(running))
        self.seen += [row for row in running if self.counts(row)]

    def stopping(self, rows: Sequence[str]) -> None:
        self.asked_to_stop += rows


def run_shell(
    tmp_path: Path,
    rows: list[Row],
    scripts: dict[str, str],
    watcher: Recorder | None = None,
    **options: Any,
) -> list[Failure]:
    watcher = watcher or Recorder()
    failures = run_all(
        rows,
        lambda row: ["sh", "-c", scripts[row.name]],
        lambda row: tmp_path / row.name / "log.txt",
        **({"jobs": 1, "minutes": None} | options),
        watcher=watcher,
    )
    assert sorted(watcher.names) == sorted(row.name for row in rows)
    assert not watcher.asked_to_stop
    return failures


def test_what_runs_is_shown_while_it_runs(tmp_path: Path):
    """The row ends only once its line has been seen."""

    def seen(row: Underway) -> bool:
        if last_line(row.log) != "step 1" or row.seconds <= 0:
            return False
        (tmp_path / "go").touch()
        return True

    watcher = Recorder(seen)
    script = f"echo step 1; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done"
    rows = [Row(name="slow", method="m", data="d")]
    assert run_shell(tmp_path, rows, {"slow": script}, watcher) == []
    assert {each.name for each in watcher.seen} == {"slow"}


def test_as_many_rows_run_at_once_as_there_are_jobs_and_no_more(tmp_path: Path):
    """No row ends before two of them run."""

    def counts(_row: Underway) -> bool:
        if watcher.most_at_once >= 2:
            (tmp_path / "go").touch()
        return True

    watcher = Recorder(counts)
    script = f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done"
    rows = [Row(name=name, method="m", data="d") for name in "abcd"]
    assert run_shell(tmp_path, rows, dict.fromkeys("abcd", script), watcher, jobs=2) == []
    assert watcher.most_at_once == 2


def test_rows_wait_for_their_teacher_and_fail_with_it(tmp_path: Path):
    done = tmp_path / "done"
    rows = [
        Row(name="student", method="m", data="d", needs="teacher"),
        Row(name="teacher", method="m", data="d"),
        Row(name="orphan", method="m", data="d", needs="broken"),
        Row(name="broken", method="m", data="d"),
    ]
    scripts = {
        "teacher": f"sleep 0.3; touch {done}",
        "student": f"test -e {done}",
        "orphan": "exit 0",
        "broken": "echo 'error: no luck'; exit 3",
    }
    failures = run_shell(tmp_path, rows, scripts, jobs=3)
    assert {(f.row, f.code, f.reason) for f in failures} == {
        ("broken", 3, "no luck"),
        ("orphan", 2, "broken failed"),
    }


def test_a_row_beyond_its_minutes_is_stopped_and_can_go_on(tmp_path: Path):
    rows = [Row(name="slow", method="m", data="d"), Row(name="quick", method="m", data="d")]
    scripts = {"slow": "exec sleep 60", "quick": "exit 0"}
    failures = run_shell(tmp_path, rows, scripts, minutes=0.01)
    assert [(failure.row, failure.code) for failure in failures] == [("slow", 75)]


def test_a_signal_to_the_suite_stops_its_rows(tmp_path: Path):
    rows = [Row(name="slow", method="m", data="d")]
    mark = tmp_path / "stopped"
    trap = f"trap 'touch {mark}; exit 75' TERM"
    script = f"{trap}; sleep 0.5; kill -TERM $PPID; while :; do sleep 0.1; done"
    watcher = Recorder()
    with pytest.raises(KeyboardInterrupt):
        run_shell(tmp_path, rows, {"slow": script}, watcher)
    assert mark.exists()
    assert watcher.asked_to_stop == ["slow"]


def test_a_killed_row_is_told_from_one_that_failed(tmp_path: Path):
    rows = [Row(name="killed", method="m", data="d")]
    failures = run_shell(tmp_path, rows, {"killed": "echo last words; kill -9 $$"})
    assert "signal 9" in failures[0].reason
    assert "last words" in failures[0].reason
    assert failures[0].code == 137
    # Tables that are made later say the same, until the row is run again.
    assert why_not(tmp_path / "killed" / "log.txt") == failures[0].reason
    assert run_shell(tmp_path, rows, {"killed": "exit 0"}) == []
    assert why_not(tmp_path / "killed" / "log.txt") == "not finished"
    assert why_not(tmp_path / "elsewhere" / "log.txt") == "not run"


def test_a_row_that_cannot_be_started_fails_alone(tmp_path: Path):
    rows = [Row(name=name, method="m", data="d") for name in ("first", "blocked", "last")]
    (tmp_path / "blocked" / "log.txt").mkdir(parents=True)
    mark = tmp_path / "mark"
    scripts = {"first": "sleep 0.3", "blocked": "exit 0", "last": f"touch {mark}"}
    failures = run_shell(tmp_path, rows, scripts, jobs=2)
    assert [(each.row, each.code) for each in failures] == [("blocked", 3)]
    assert failures[0].reason.startswith("cannot be started: Is a directory")
    assert mark.exists()


def kept(method: str, seed: int, iou: float, *, choices: list[dict[str, float]]) -> dict[str, Any]:
    metrics = {"iou": iou, "boundary_iou": None}
    score = {"num_images": 5, "metrics": metrics, "intervals": {"iou": [iou - 0.1, iou + 0.1]}}
    return {
        "suite": "s",
        "row": f"folder-{method}-{seed}",
        "data": "folder",
        "method": method,
        "seed": seed,
        "split": "test",
        "polarity": "named",
        "supervision": {"train": "none", "test": {"whole": "none"}},
        "scores": {"whole": score},
        "box_source": None,
        "restarts": None,
        "choices": choices,
        "seconds": {"train": 10, "score": 1},
        "hardware": "h",
        "segmenter_sha256": None,
        "git_commit": None,
    }


def point(dev_iou: float, value: float) -> dict[str, float]:
    names = ("flip_consistency", "edge_alignment", "contrast")
    return {"images": 1, "dev_iou": dev_iou, **dict.fromkeys(names, value)}


def test_choice_without_labels_stands_beside_the_oracle():
    rows = [
        kept("second", 0, 0.5, choices=[point(0.6, 0.9), point(0.4, 0.1)]),
        kept("second", 1, 0.7, choices=[point(0.5, 0.2), point(0.8, 0.3)]),
    ]
    assert choice.of_checkpoints(rows, "windows") == []
    points = {each.rule: each.value for each in choice.of_checkpoints(rows, "whole")}
    assert points == pytest.approx(
        {
            "last": 0.6,
            "flip_consistency": 0.7,
            "edge_alignment": 0.7,
            "contrast": 0.7,
            "oracle": 0.7,
        }
    )
    seeds = {each.rule: each.value for each in choice.of_seeds(rows, "whole")}
    assert seeds["mean"] == pytest.approx(0.6)
    assert seeds["contrast"] == 0.7
    assert seeds["oracle"] == 0.7
    assert choice.of_seeds(rows[:1], "whole") == []


def test_a_rank_correlation_says_of_how_many_checkpoints_it_is(tmp_path: Path):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    suite = read_suite(str(path))
    rows = [
        kept("second", 0, 0.5, choices=[point(0.6, 0.9), point(0.4, 0.1)]),
        kept("second", 1, 0.7, choices=[point(0.5, 0.2), point(0.8, 0.3)]),
    ]
    text = to_markdown(suite, blocks_of(suite, rows))
    assert "Rank correlation with IoU on dev, over checkpoints and seeds:" in text
    assert "| row | flip_consistency | edge_alignment | contrast | checkpoints |" in text
    assert "| second & stage | +0.80 | +0.80 | +0.80 | 4 |" in text


def test_lines_are_means_over_seeds_with_their_spread(tmp_path: Path):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    suite = read_suite(str(path))
    rows = [kept("second", 0, 0.5, choices=[]), kept("second", 1, 0.7, choices=[])]
    (block,) = blocks_of(suite, rows)
    (line,) = block.lines
    assert line.iou == pytest.approx(0.6)
    assert line.spread == (0.5, 0.7)
    assert (len(line.rows), line.asked, line.restarts) == (2, 2, 0)
    assert line.interval == pytest.approx((0.5, 0.7))
    assert line.others["boundary_iou"] is None
    assert "| second & stage |" in to_markdown(suite, [block])
    assert to_csv(rows).count("\n") == 3


def test_wrong_number_of_jobs_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(ConfigError, match="--jobs is -1"):
        leaderboard(
            "nowhere",
            roots=[],
            only=[],
            jobs=-1,
            out=None,
            results=tmp_path,
            dry_run=False,
            collect=False,
            row=None,
            console=None,
        )


def test_windows_for_scores_without_labels_are_of_the_pictures_that_have_boxes():
    class Sparse:
        def __len__(self) -> int:
            return 80

        def __getitem__(self, index: int) -> Sample:
            box = torch.tensor([[8.0, 8, 24, 24]]) if index > 76 else torch.zeros(0, 4)
            return Sample(str(index), torch.full((3, 32, 32), index, dtype=torch.uint8), box)

    found = SimpleNamespace(window=WindowSpec(size=8, context=1.5))
    windows, boxes = choice._boxed(found, Sparse())
    assert windows.shape == (3, 3, 8, 8)
    assert (windows[:, 0, 0, 0] * 255).round().tolist() == [77, 78, 79]
    assert boxes.shape == (3, 4)
