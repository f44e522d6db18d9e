"""Whose a run's directory is, and one process at a time in it."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ENVIRONMENT

from segan import config
from segan.errors import ConfigError
from segan.training.directory import check_directory, claimed
from segan.training.precision import build_accelerator

TREE = {"method": {}, "data": {}, "train": {"seed": 0}}
OTHER = TREE | {"train": {"seed": 1}}
TRY = """
import sys
from pathlib import Path
from segan.errors import ConfigError
from segan.training.directory import _lock
try:
    _lock(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
else:
    print("free")
"""


def claim(out: Path, tree: config.Tree, *, overwrite: bool = False):
    return claimed(out, tree, overwrite=overwrite, accelerator=build_accelerator("fp32"))


def tried_elsewhere(out: Path) -> str:
    """What another process is told that wants the same directory."""
    command = [sys.executable, "-c", TRY, str(out)]
    found = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path):
    with claim(tmp_path / "run", TREE):
        assert tried_elsewhere(tmp_path / "run") == (
            f"another process is training in {tmp_path / 'run'}; "
            "wait for it, or name another folder"
        )
    assert tried_elsewhere(tmp_path / "run") == "free"
    check_directory(tmp_path / "run", TREE, overwrite=False)


def killed(*_, **__):
    raise KeyboardInterrupt


def test_overwriting_that_is_killed_leaves_a_run_that_can_be_overwritten(tmp_path, monkeypatch):
    with claim(tmp_path, TREE):
        (tmp_path / "metrics.jsonl").touch()
        (tmp_path / "evaluation.json").touch()
    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt), claim(tmp_path, OTHER, overwrite=True):
        pass
    check_directory(tmp_path, OTHER, overwrite=True)
    monkeypatch.undo()
    with claim(tmp_path, OTHER, overwrite=True):
        assert config.read_tree(tmp_path / "config.yaml") == OTHER
        assert not (tmp_path / "evaluation.json").exists()


def test_a_lock_alone_is_nobodys(tmp_path):
    (tmp_path / ".lock").touch()
    check_directory(tmp_path, TREE, overwrite=False)


def test_folders_that_cannot_be_listed_are_one_line(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match=r"^--out .* cannot be used: Permission denied$"):
        check_directory(tmp_path, TREE, overwrite=False)
