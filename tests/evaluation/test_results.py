"""Files and tables that an evaluation leaves behind."""

import csv
import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import segan
from segan.evaluation.results import Evaluation, git_commit, sha256, table

RESULT = Evaluation(
    protocol="foreground",
    dataset="shapes",
    split="test",
    windows="box",
    box_source="procedural",
    num_images=2,
    num_instances=3,
    metrics={"iou": 0.5, "hausdorff_95": None},
    intervals={"iou": (0.25, 0.75), "hausdorff_95": None},
    undefined={"hausdorff_95": 3},
    polarity="named",
    supervision={"train": "boxes", "test": "boxes"},
    records=[{"image": "a, b", "instance": 0, "iou": 0.5, "hausdorff_95": None}],
)
AGREED_KEYS = {
    *("protocol", "dataset", "split", "windows", "num_images", "num_instances", "metrics"),
    *("intervals", "matching", "polarity", "supervision", "postprocessing"),
    *("segmenter_sha256", "segan_version", "git_commit"),
}


def test_json_has_the_agreed_keys_and_null_for_undefined(tmp_path: Path) -> None:
    RESULT.write_json(tmp_path / "evaluation.json")
    tree = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(tree) >= AGREED_KEYS
    assert "records" not in tree
    assert tree["metrics"] == {"iou": 0.5, "hausdorff_95": None}
    assert tree["intervals"] == {"iou": [0.25, 0.75], "hausdorff_95": None}
    assert tree["segan_version"] == segan.__version__


def test_json_refuses_numbers_that_are_not_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RESULT, metrics={"iou": float("nan")}).write_json(tmp_path / "evaluation.json")
    assert not (tmp_path / "evaluation.json").exists()


def test_csv_has_one_line_per_record(tmp_path: Path) -> None:
    RESULT.write_csv(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{"image": "a, b", "instance": "0", "iou": "0.5", "hausdorff_95": ""}]


def test_table_shows_supervision_interval_and_oracle() -> None:
    otsu = replace(RESULT, metrics={"iou": 0.5, "iou_oracle_polarity": 0.625})
    console = Console(width=120, record=True)
    console.print(table({"cut_paste": RESULT, "otsu": otsu}, title="shapes"))
    heading, learned, unnamed = (
        line for line in console.export_text().splitlines() if "IoU" in line or "0.5" in line
    )
    assert heading.split()[-1] == "oracle"
    assert "0.500 [0.250, 0.750]" in learned
    assert learned.split()[-1] == "-"
    assert unnamed.split()[-1] == "0.625"
    assert unnamed.split()[:2] == ["otsu", "boxes"]


def test_table_fits_80_columns() -> None:
    names = ("iou", "iou_image_mean", "f_beta_max", "boundary_iou", "iou_oracle_polarity")
    widest = replace(
        RESULT,
        metrics=dict.fromkeys(names, 0.125) | {"hausdorff_95": 100.0},
        postprocessing="clipped to the box",
    )
    console = Console(width=80, record=True)
    whole = replace(widest, postprocessing="none")
    console.print(table({"centre_ellipse": whole, "otsu_in_box": widest}, title="shapes"))
    text = console.export_text()
    assert "…" not in text
    assert [line.split()[-7:] for line in text.splitlines() if "otsu_in_box * " in line] == [
        ["[0.250,", "0.750]", *["0.125"] * 3, "100", "0.125"]
    ]
    assert "tested with: boxes; * ends at the box" in text


def test_hash_is_of_the_file_and_commit_of_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"segan")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"segan").hexdigest()
    package = Path(segan.__file__).parent
    head = subprocess.run(
        ["git", "-C", package, "rev-parse", "--verify", "-q", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    commit = git_commit()
    assert (commit or "").removesuffix("-dirty") == head.stdout.strip()
