"""A run that collapses may start anew with another seed, a bounded number of times, on record."""

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from tiny import tree

from segan import config, methods
from segan.checkpoint import load_segmenter
from segan.cli import main
from segan.errors import ConfigError
from segan.methods.base import Method
from segan.training.restarts import SEED_STEP, Restarts

# Masks that have hardly been trained are alike, which is no collapse.
HEALTH = {"every": 1, "grace": 2, "patience": 2, "stop_after": 3, "least_diversity": 0.0}


def run(folder: Path, *flags: str, restarts: int) -> int:
    """The exit code of a run of 8 steps."""
    file = folder / "tiny.yaml"
    file.write_text(config.to_yaml(tree(steps=8, health=HEALTH | {"restarts": restarts})))
    return main(["train", str(file), "--out", str(folder / "run"), *flags])


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """So many of the next segmenters that are built are sure of nothing."""
    left = [0]
    build = methods.build

    def broken(settings: methods.MethodConfig) -> Method:
        built = build(settings)
        if left[0]:
            left[0] -= 1
            torch.nn.init.zeros_(built.segmenter.network.head.weight)
            torch.nn.init.constant_(built.segmenter.network.head.bias, -30.0)
        return built

    monkeypatch.setattr(methods, "build", broken)
    return left


def test_a_collapsed_run_starts_anew_and_says_so(failing, tmp_path, capsys):
    failing[0] = 2
    assert run(tmp_path, restarts=3) == 0
    errors = capsys.readouterr().err
    assert f"fresh start 1 of 3, seed {SEED_STEP}" in errors
    assert f"fresh start 2 of 3, seed {2 * SEED_STEP}" in errors
    out = tmp_path / "run"
    record = json.loads((out / "restarts.json").read_text())
    assert [each["seed"] for each in record] == [0, SEED_STEP]
    assert all("masks have collapsed (nothing)" in each["reason"] for each in record)
    metadata = load_segmenter(out / "segmenter.safetensors").metadata
    assert (metadata["seed"], metadata["restarts"]) == (2 * SEED_STEP, 2)
    for attempt in ("01", "02"):
        assert (out / "collapsed" / attempt / "metrics.jsonl").exists()
    # The same command finds a finished run, of the third seed.
    assert run(tmp_path, restarts=3) == 0
    assert json.loads((out / "restarts.json").read_text()) == record


def test_a_run_out_of_fresh_starts_ends_with_exit_code_4_and_stays_so(failing, tmp_path, capsys):
    failing[0] = 2
    found = []
    for _ in range(3):
        assert run(tmp_path, restarts=1) == 4
        lines = capsys.readouterr().err.splitlines()
        found.append([line for line in lines if line.startswith("error:")])
        assert len(json.loads((tmp_path / "run" / "restarts.json").read_text())) == 1
        assert not (tmp_path / "run" / "segmenter.safetensors").exists()
    assert len(found[0]) == 1
    assert "masks have collapsed" in found[0][0]
    assert "--overwrite starts it anew" in found[0][0]
    assert found[0] == found[1] == found[2]
    assert run(tmp_path, "--overwrite", restarts=1) == 0


def test_a_run_that_was_killed_between_verdict_and_fresh_start_starts_anew(
    failing, tmp_path, monkeypatch
):
    failing[0] = 1
    with monkeypatch.context() as patch:
        patch.setattr(Restarts, "note", Mock(side_effect=SystemError))
        with pytest.raises(SystemError):
            run(tmp_path, restarts=1)
    out = tmp_path / "run"
    assert not (out / "restarts.json").exists()
    assert run(tmp_path, restarts=1) == 0
    (record,) = json.loads((out / "restarts.json").read_text())
    assert (record["seed"], record["reason"][:7]) == (0, "step 4:")
    assert len((out / "collapsed" / "01" / "metrics.jsonl").read_text().splitlines()) == 4
    assert load_segmenter(out / "segmenter.safetensors").metadata["seed"] == SEED_STEP


def test_overwriting_forgets_the_collapsed_attempts(failing, tmp_path):
    failing[0] = 1
    assert run(tmp_path, restarts=1) == 0
    assert run(tmp_path, "--overwrite", restarts=1) == 0
    assert not (tmp_path / "run" / "restarts.json").exists()
    assert not (tmp_path / "run" / "collapsed").exists()
    assert load_segmenter(tmp_path / "run" / "segmenter.safetensors").metadata["seed"] == 0


def test_an_interrupted_move_is_made_good(tmp_path):
    left = tmp_path / "collapsed" / "01" / "samples"
    left.mkdir(parents=True)
    (left / "old.png").write_bytes(b"old")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "new.png").write_bytes(b"new")
    restarts = Restarts(tmp_path, 5, 2)
    restarts.note("collapsed")
    restarts.retire()
    assert [path.name for path in left.iterdir()] == ["new.png"]
    assert Restarts(tmp_path, 5, 2).seed == 5 + SEED_STEP


def test_a_damaged_record_is_one_clear_line(tmp_path):
    (tmp_path / "restarts.json").write_text("{")
    with pytest.raises(ConfigError, match=r"restarts\.json is damaged; start anew with"):
        Restarts(tmp_path, 0, 1)
