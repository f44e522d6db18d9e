"""Which kept rows of a leaderboard count, which rows are run, and what tables say of the rest."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segan import runs
from segan.cli import main
from segan.errors import ConfigError
from segan.leaderboard import running
from segan.leaderboard.board import leaderboard
from segan.leaderboard.running import Places, current_rows, digest_of, run_row
from segan.leaderboard.suite import Row, Suite, read_suite
from segan.leaderboard.tables import blocks_of, choices_of, to_csv, to_markdown
from segan.methods.self_training import SelfTraining

SUITE = """
seeds: [0, 1]
checkpoints: 0
data:
  shapes:
    settings: {type: shapes, size: 32, train_images: 8, test_images: 2}
    window: {size: 16, context: 1.5}
methods:
  otsu: {segmenter: otsu}
  first:
    settings:
      method:
        {type: self_training, teacher: otsu, network: {width: 4, depth: 1}, view: {size: 16}}
      train: {images: 8, batch_size: 8, precision: fp32}
  second:
    settings:
      method:
        {type: self_training, teacher: "row:first", network: {width: 4, depth: 1}, view: {size: 16}}
      train: {images: 8, batch_size: 8, precision: fp32}
"""


def suite_of(folder: Path, old: str = "", new: str = "") -> Suite:
    assert old in SUITE
    path = folder / "suite.yaml"
    path.write_text(SUITE.replace(old, new, 1) if old else SUITE)
    return read_suite(str(path))


def row_of(suite: Suite, name: str) -> Row:
    return next(row for row in suite.rows if row.name == f"shapes-{name}")


def kept(suite: Suite, row: Row, *, sha256: str, teacher: str | None = None) -> dict[str, Any]:
    scores = {"num_images": 2, "metrics": {"iou": 0.5}, "intervals": {"iou": [0.4, 0.6]}}
    return {
        "suite": "s",
        "row": row.name,
        "data": row.data,
        "method": row.method,
        "seed": row.seed,
        "split": "test",
        "polarity": "named",
        "settings": digest_of(suite, row),
        "supervision": {"train": "none", "test": {"whole": "none", "windows": "boxes"}},
        "box_source": "instance masks",
        "scores": {"whole": scores, "windows": scores},
        "choices": [],
        "restarts": 0,
        "seconds": {"train": 1, "score": 1},
        "hardware": "h",
        "segmenter_sha256": sha256,
        "git_commit": None,
        "teacher": {"name": "run", "sha256": teacher},
    }


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Kept rows of all methods and seeds; no run is there any more."""
    suite = suite_of(tmp_path)
    found = Places(runs=tmp_path / "runs", results=tmp_path / "results" / "suite")
    found.results.mkdir(parents=True)
    for row in suite.rows:
        teacher = f"first-{row.seed}" if row.needs else None
        tree = kept(suite, row, sha256=f"{row.method}-{row.seed}", teacher=teacher)
        found.kept(row).write_text(json.dumps(tree))
    return found


ALL = {"otsu", "first-0", "first-1", "second-0", "second-1"}
CHANGES = {
    "context: 1.5": ("context: 1.6", set()),
    "size: 16, context": ("size: 24, context", set()),
    "settings: {type: shapes, size: 32": ("settings: {type: shapes, size: 48", set()),
    "checkpoints: 0": ("checkpoints: 0\ndev_limit: 3", {"otsu"}),
    # A student is of another teacher then.
    "depth: 1}, view: {size: 16}}\n": ("depth: 2}, view: {size: 16}}\n", {"otsu"}),
    # Said or not, a default is the same.
    "teacher: otsu,": ("teacher: otsu, keep: 1.0,", ALL),
    "precision: fp32}\n": ("precision: fp32, log_every: 3}\n", ALL),
}


@pytest.mark.parametrize("old", CHANGES)
def test_a_kept_row_counts_as_long_as_all_that_made_it_is_the_same(old, tmp_path, places):
    new, still = CHANGES[old]
    assert len(current_rows(suite_of(tmp_path), places)) == 5
    found = current_rows(suite_of(tmp_path, old, new), places)
    assert {name.removeprefix("shapes-") for name in found} == still


def test_a_student_of_another_teacher_does_not_count(tmp_path, places):
    suite = suite_of(tmp_path)
    path = places.kept(row_of(suite, "first-1"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"segmenter_sha256": "other"}))
    assert "shapes-second-1" not in current_rows(suite, places)
    path.unlink()
    assert [*current_rows(suite, places)] == [
        *("shapes-otsu", "shapes-first-0"),
        "shapes-second-0",
    ]


def test_a_student_brings_its_teacher_whose_run_is_gone(tmp_path, places, capsys):
    suite = suite_of(tmp_path)
    places.kept(row_of(suite, "second-1")).unlink()
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    arguments = ["leaderboard", str(tmp_path / "suite.yaml"), *where]
    assert main([*arguments, "--dry-run", "--only", "*second*"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "to run" in lines["shapes-second-1"]
    assert "to run" in lines["shapes-first-1"]
    assert "kept" in lines["shapes-second-0"]
    assert "shapes-first-0" not in lines


def test_windows_that_do_not_fit_are_refused_before_training(tmp_path, monkeypatch):
    suite = suite_of(tmp_path, "view: {size: 16}", "view: {size: 16, windows: true, context: 2.0}")
    monkeypatch.setattr(runs, "train", lambda *_, **__: pytest.fail("it was trained"))
    supervised = dict(row_of(suite, "first-0").asked)
    supervised["method"] = {"type": "supervised", "view": {"windows": True, "context": 2.0}}
    row = replace(row_of(suite, "first-0"), asked=supervised)
    with pytest.raises(ConfigError, match=r"context 2, .*the suite scores context 1.5"):
        run_row(suite, row, Path(), Places(runs=tmp_path / "runs", results=tmp_path / "kept"))


def test_a_run_goes_on_however_its_folder_is_spelled(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(running.runs, "train", lambda run, *_, **how: seen.append((run, how)))
    monkeypatch.setattr(running, "_open", lambda *_: (_ for _ in ()).throw(ConfigError("enough")))
    monkeypatch.chdir(tmp_path)
    suite = suite_of(tmp_path)
    row = row_of(suite, "second-0")
    for spelled in (Path("runs"), tmp_path / "runs"):
        with pytest.raises(ConfigError, match="enough"):
            run_row(suite, row, Path(), Places(runs=spelled, results=tmp_path / "kept"))
    (first, _), (second, _) = seen
    assert first == second


def test_tables_say_how_many_seeds_of_how_many_and_what_is_missing(tmp_path, places):
    suite = suite_of(tmp_path)
    rows = [*current_rows(suite, places).values()][:2]
    blocks = blocks_of(suite, rows)
    text = to_markdown(suite, blocks, missing=["shapes-first-1: masks | collapsed"])
    assert "one seed (1 of 2)" in text
    assert "- shapes-first-1: masks \\| collapsed" in text
    assert "windows around boxes from instance masks (2 pictures, test)" in text
    assert "instance masks" in to_csv(rows)
    rows[1]["scores"]["whole"] = rows[1]["scores"]["whole"] | {"num_images": 3}
    with pytest.raises(ConfigError, match="first-0 was scored on 3 pictures and shapes-otsu on 2"):
        blocks_of(suite, rows)


def test_data_that_cannot_be_read_costs_the_pictures_alone(tmp_path, places, monkeypatch):
    def unreadable(*_: Any) -> None:
        raise ConfigError("no pictures there")

    monkeypatch.setattr("segan.leaderboard.board.dataset_of", unreadable)
    suite_of(tmp_path)
    said: list[str] = []

    class Said:
        def print(self, text: Any, **_: Any) -> None:
            said.append(str(text))

    code = leaderboard(
        str(tmp_path / "suite.yaml"),
        roots=[],
        only=[],
        jobs=1,
        out=places.runs,
        results=places.results.parent,
        dry_run=False,
        collect=True,
        row=None,
        console=Said(),
    )
    assert code == 0
    assert sum("no pictures there" in line for line in said) == 2  # whole pictures, and windows
    for suffix in ("md", "csv", "html"):
        assert "otsu" in (places.runs / f"leaderboard.{suffix}").read_text()


def dry_run(tmp_path: Path, places: Places, capsys, *more: str) -> dict[str, str]:
    """The line of each row that `--dry-run` names."""
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--dry-run", *more]) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}


def test_a_teacher_that_is_trained_again_takes_all_its_students_along(tmp_path, places, capsys):
    third = SUITE[SUITE.index("  second:") :].replace("second", "third")
    suite = suite_of(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE + third)
    lines = dry_run(tmp_path, places, capsys, "--only", "*third-0")
    # The run of first-0 is gone, and its kept student cannot be of the next one.
    assert {name for name, line in lines.items() if "to run" in line} == {
        *("shapes-first-0", "shapes-second-0", "shapes-third-0")
    }
    assert places.kept(row_of(suite, "second-1")).exists()


def test_a_damaged_teacher_is_none_and_stops_no_table(tmp_path, places, capsys):
    suite = suite_of(tmp_path)
    places.kept(row_of(suite, "second-0")).unlink()
    run = places.row(row_of(suite, "first-0")) / "run"
    run.mkdir(parents=True)
    (run / "segmenter.safetensors").write_bytes(b"cut short")
    assert "to run" in dry_run(tmp_path, places, capsys)["shapes-first-0"]
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 0
    assert (places.runs / "leaderboard.md").exists()


def test_later_tables_still_say_why_a_row_is_missing(tmp_path, places):
    suite = suite_of(tmp_path)
    said = {"second-0": "error: step 9: masks have collapsed (nothing)", "second-1": "step 1/9"}
    for name, line in said.items():
        row = row_of(suite, name)
        places.kept(row).unlink()
        places.row(row).mkdir(parents=True)
        (places.row(row) / "log.txt").write_text(f"step 1/9\n{line}\n")
    places.kept(row_of(suite, "first-1")).unlink()
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 0
    text = (places.runs / "leaderboard.md").read_text()
    assert "- shapes-second-0: step 9: masks have collapsed (nothing)" in text
    assert "- shapes-second-1: not finished" in text
    assert "- shapes-first-1: not run" in text


def test_a_student_of_several_rounds_counts_as_its_first_teachers(tmp_path):
    student = 'teacher: "row:first",'
    suite = suite_of(tmp_path, student, f"{student} rounds: 2,")
    places = Places(runs=tmp_path / "runs", results=tmp_path / "results")
    for name in ("first-0", "second-0"):
        run_row(suite, row_of(suite, name), Path(), places)
    assert [*current_rows(suite, places)] == ["shapes-first-0", "shapes-second-0"]
    teacher = json.loads(places.kept(row_of(suite, "second-0")).read_text())["teacher"]
    assert teacher["sha256"] != teacher["first_sha256"]


def test_pictures_that_cannot_be_read_are_named_and_counted(tmp_path, capsys):
    for number in range(12):
        for folder in ("pictures", "masks"):
            image = np.zeros((24, 24, 3), np.uint8)
            image[number:14, 6:18] = 255
            (tmp_path / folder).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / folder / f"cell{number}.png"), image)
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "suite.yaml").write_text(
        "checkpoints: 0\n"
        f"data: {{cells: {{folder: x, settings: {{type: folder, masks: {tmp_path / 'masks'}}}}}}}\n"
        "methods: {otsu: {segmenter: otsu}}\n"
    )
    suite = read_suite(str(tmp_path / "suite.yaml"))
    places = Places(runs=tmp_path / "runs", results=tmp_path / "results")
    run_row(suite, suite.rows[0], tmp_path / "pictures", places)
    assert "skipped broken: " in capsys.readouterr().err
    text = to_markdown(suite, blocks_of(suite, [*current_rows(suite, places).values()]), missing=[])
    assert re.search(r"\(\d+ pictures, test; 1 that cannot be read, left out\)", text)


# --- what tables say of rows ---------------------------------------------------------------------


def lines_of(suite: Suite, rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    block = next(block for block in blocks_of(suite, rows) if block.kind == kind)
    return {line.method: line for line in block.lines}


def test_a_bound_was_trained_on_what_the_table_scores(tmp_path, places):
    suite = suite_of(tmp_path)
    rows = [*current_rows(suite, places).values()]
    for row in rows:
        if row["method"] != "otsu":
            row["supervision"] = row["supervision"] | {"train": "masks"}
            row["config"] = {"method": {"view": {"windows": row["method"] == "second"}}}
    bounds = {
        kind: {name for name, line in lines_of(suite, rows, kind).items() if line.is_bound}
        for kind in ("whole", "windows")
    }
    assert bounds == {"whole": {"first"}, "windows": {"second"}}
    text = to_markdown(suite, blocks_of(suite, rows))
    assert text.count("(bound)") == 2


def test_a_mean_over_some_of_the_seeds_is_left_out(tmp_path, places):
    suite = suite_of(tmp_path)
    rows = [*current_rows(suite, places).values()]
    for distance, row in zip((None, 10.0, None, 4.0, 8.0), rows, strict=True):
        metrics = {"iou": 0.5, "hausdorff_95": distance}
        row["scores"] = {"whole": row["scores"]["whole"] | {"metrics": metrics}}
    lines = lines_of(suite, rows, "whole")
    found = {name: line.others["hausdorff_95"] for name, line in lines.items()}
    assert found == {"otsu": None, "first": None, "second": 6.0}


def test_tables_of_whole_pictures_say_where_the_boxes_of_training_are_from(tmp_path, places):
    suite = suite_of(tmp_path)
    rows = [*current_rows(suite, places).values()]
    rows[1]["supervision"] = rows[1]["supervision"] | {"train": "boxes"}
    rows[1]["train_box_source"] = "annotated"
    assert "| boxes from annotated | none |" in to_markdown(suite, blocks_of(suite, rows))
    whole, windows = to_csv(rows[:1]).splitlines()[1:]
    assert "instance masks" not in whole
    assert "instance masks" in windows


def test_checkpoints_stand_in_the_table_of_what_they_were_scored_by(tmp_path, places):
    suite = suite_of(tmp_path)
    rows = [*current_rows(suite, places).values()]
    for row in rows:
        kind = "windows" if row["method"] == "second" else "whole"
        names = dict.fromkeys(("flip_consistency", "edge_alignment", "contrast"), 0.5)
        points = [{"images": n, "kind": kind, "dev_iou": n / 10, **names} for n in (1, 2)]
        row["choices"] = points if row["method"] != "otsu" else []
    tables = {
        block.kind: {table.title: table for table in choices_of(block)}
        for block in blocks_of(suite, rows)
    }
    title = "choice among checkpoints, IoU on dev, mean over seeds"
    assert [name for name, _ in tables["whole"][title].lines] == ["first"]
    assert [name for name, _ in tables["windows"][title].lines] == ["second"]


def test_the_page_says_which_rows_are_of_changed_code(tmp_path, places):
    suite = suite_of(tmp_path)
    path = places.kept(row_of(suite, "first-0"))
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(tree | {"git_commit": "0123456789abcdef-dirty"}))
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 0
    assert "0123456789ab-dirty" in (places.runs / "leaderboard.html").read_text()


def test_rows_kept_with_other_settings_are_said_to_be(tmp_path, places):
    suite_of(tmp_path, "depth: 1}, view: {size: 16}}\n", "depth: 2}, view: {size: 16}}\n")
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 0
    text = (places.runs / "leaderboard.md").read_text()
    assert "- shapes-first-0: kept with other settings, code or teacher" in text


def test_rows_kept_by_an_earlier_revision_of_a_method_are_run_anew(tmp_path, places, monkeypatch):
    suite = suite_of(tmp_path)
    names = {row.name for row in suite.rows}
    trained = {row.name for row in suite.rows if row.seed is not None}
    assert set(current_rows(suite, places)) == names
    assert trained
    assert trained < names
    monkeypatch.setattr(SelfTraining, "revision", 1)
    assert set(current_rows(suite, places)) == names - trained


def test_pictures_of_other_settings_are_drawn_anew(tmp_path, places):
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    for split in ("test", "dev"):
        suite = suite_of(tmp_path, "seeds:", f"split: {split}\nseeds:")
        for row in suite.rows:
            tree = json.loads(places.kept(row).read_text())
            tree |= {"settings": digest_of(suite, row), "split": split}
            places.kept(row).write_text(json.dumps(tree))
        assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 0
    drawn = (places.runs / "pictures").glob("shapes-whole-*-truth.txt")
    assert sorted(path.read_text().split("-")[0] for path in drawn) == ["dev", "test"]


def test_a_student_of_a_file_counts_while_the_file_is_the_same(tmp_path, places):
    file = tmp_path / "teacher.safetensors"
    file.write_bytes(b"weights")
    suite = suite_of(tmp_path, "teacher: otsu", f"teacher: {file}")
    row = row_of(suite, "first-0")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    places.kept(row).write_text(json.dumps(kept(suite, row, sha256="s", teacher=sha256)))
    assert row.name in current_rows(suite, places)
    file.write_bytes(b"other weights")
    assert row.name not in current_rows(suite, places)
    file.unlink()
    assert row.name in current_rows(suite, places)


@pytest.mark.parametrize("count", [1, 3])
def test_a_row_of_few_training_pictures_is_kept(tmp_path, count):
    """Scores without labels compare masks; of one there are none."""
    suite = suite_of(tmp_path, "checkpoints: 0", "checkpoints: 2")
    text = (tmp_path / "suite.yaml").read_text()
    (tmp_path / "suite.yaml").write_text(text.replace("train_images: 8", f"train_images: {count}"))
    suite = read_suite(str(tmp_path / "suite.yaml"))
    places = Places(runs=tmp_path / "runs", results=tmp_path / "results")
    row = row_of(suite, "first-0")
    run_row(suite, row, Path(), places)
    choices = json.loads(places.kept(row).read_text())["choices"]
    assert len(choices) == (count > 1)  # of one step, one checkpoint


def test_a_kept_file_without_what_tables_read_is_refused_in_one_line(tmp_path, places, capsys):
    suite = suite_of(tmp_path)
    places.kept(row_of(suite, "otsu")).write_text('{"scores": {}, "method": "otsu"}')
    where = ["--out", str(places.runs), "--results", str(places.results.parent)]
    assert main(["leaderboard", str(tmp_path / "suite.yaml"), *where, "--collect"]) == 2
    assert "is no row of a leaderboard" in capsys.readouterr().err


def test_settings_of_another_shape_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("method: wnet\ndata: {type: shapes}\n")
    assert main(["train", str(tmp_path / "own.yaml")]) == 2
    assert main(["train", str(tmp_path / "own.yaml"), "--method", "wnet"]) == 2
    for old, new in (
        ("{type: shapes, ", "{type: [shapes], "),
        ("{type: self_training, ", "{type: [self_training], "),
    ):
        (tmp_path / "suite.yaml").write_text(SUITE.replace(old, new, 1))
        assert main(["leaderboard", str(tmp_path / "suite.yaml")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert all(line.startswith("error: ") for line in errors)
