"""The scripts in benchmarks/ start, and the parts of them that only long runs reach work."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does(name, monkeypatch, capsys):
    script = load(name)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_a_learned_row_of_bsds_is_trained_once(tmp_path, monkeypatch):
    script, trained = load("bsds"), []
    monkeypatch.setattr(script, "train", lambda run, out, **_: (trained.append(run), out.mkdir()))
    path = script.trained("iic", Path("PATH/TO/BSDS500"), 3, tmp_path)
    assert path.parent == tmp_path / "bsds500-iic-3"
    assert (path.parent / "seconds.txt").read_text() == "0\n"
    assert (trained[0].method.type, trained[0].train.seed) == ("iic", 3)
