"""Every configuration that ships loads, its method builds, and its header says how to run it."""

from pathlib import Path

import pytest
import torch

from segan import config, methods
from segan.training.config import RunConfig

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT / "configs").as_posix()


def load(path: Path) -> RunConfig:
    tree = config.read_tree(path)
    # Where real sets lie is for the user to say.
    overrides = [] if tree["data"]["type"] == "shapes" else ["data.root=PATH"]
    return config.build(RunConfig, config.override(tree, overrides), name_of(path))


def test_there_are_configs():
    assert "cut_paste/shapes.yaml" in map(name_of, CONFIGS)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_loads_and_its_method_builds(path):
    run = load(path)
    assert path.parent.name == run.method.type
    with torch.device("meta"):
        method = methods.build(run.method)
    owners = {phase.optimizer or phase.name for phase in method.phases}
    assert set(run.train.optimizers) <= owners
    assert all(parameter.is_meta for parameter in method.parameters())


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_begins_with_the_command_that_runs_it(path):
    header = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        header.append(line)
    text = " ".join(header)
    assert "train.py" in text or "segan train" in text
    if name_of(path) != "cut_paste/shapes.yaml":
        assert path.relative_to(ROOT).as_posix() in text
    # The shapes world is drawn: it has no root.
    if load(path).data.type != "shapes":
        assert "data.root=PATH/TO/" in text


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_config_states_only_differences(path):
    """A value equal to the default would have two homes."""

    def repeated(tree: dict, defaults: dict, where: str = "") -> list[str]:
        found = []
        for key, value in tree.items():
            if isinstance(value, dict) and isinstance(defaults.get(key), dict):
                found += repeated(value, defaults[key], f"{where}{key}.")
            elif key != "type" and key in defaults and value == defaults[key]:
                found.append(where + key)
        return found

    run = load(path)
    tree = config.read_tree(path)
    types = {"method": {"type": run.method.type}, "data": {"type": run.data.type}}
    if run.data.type != "shapes":
        types["data"]["root"] = "PATH"
    if run.method.type == "self_training":
        types["method"]["teacher"] = "TEACHER"
    defaults = config.as_tree(config.build(RunConfig, types))
    assert repeated(tree, defaults) == []
