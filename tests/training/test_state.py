import json
import resource
import shutil
from pathlib import Path

import pytest
import torch

from segan.errors import ConfigError, DataError, DivergenceError
from segan.training import state as module
from segan.training.state import State, load_state, save_state


def state(step: int, *, value: float = 0.5, size: int = 8) -> State:
    return State(
        {"model": {"weight": torch.full((size,), value)}, "ema": {"weight": torch.ones(3)}},
        {"step": step, "note": [1.5, None]},
    )


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_checkpoint_comes_back_as_it_was(tmp_path):
    saved = state(7, value=1 / 3)
    saved.tensors["model"]["counter"] = torch.tensor(12)
    saved.tensors["model"]["turned"] = torch.arange(6.0).reshape(2, 3).T
    save_state(tmp_path, saved)
    found = load_state(tmp_path)
    assert found is not None
    assert found.facts["step"] == 7
    assert found.facts["note"] == [1.5, None]
    for file, tensors in saved.tensors.items():
        for name, tensor in tensors.items():
            assert torch.equal(found.tensors[file][name], tensor)


def test_no_checkpoint_is_no_state(tmp_path):
    assert load_state(tmp_path / "state") is None
    (tmp_path / "state" / ".tmp-step-00000001-42").mkdir(parents=True)
    assert load_state(tmp_path / "state") is None


def test_last_two_are_kept_and_latest_names_the_newest(tmp_path):
    for step in (1, 2, 3, 10):
        (tmp_path / ".tmp-step-00000099-1").mkdir(exist_ok=True)
        save_state(tmp_path, state(step))
    assert names(tmp_path) == ["LATEST", "step-00000003", "step-00000010"]
    assert (tmp_path / "LATEST").read_text() == "step-00000010\n"


def test_checkpoint_holds_no_pickle(tmp_path):
    path = save_state(tmp_path, state(1))
    assert names(path) == ["ema.safetensors", "model.safetensors", "state.json"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "json", "list", "empty"])
def test_damaged_newest_falls_back_to_the_one_before(tmp_path, damage):
    save_state(tmp_path, state(1))
    newest = save_state(tmp_path, state(2))
    model, facts = newest / "model.safetensors", newest / "state.json"
    if damage == "flip":
        data = bytearray(model.read_bytes())
        data[-1] ^= 1
        model.write_bytes(bytes(data))
    elif damage == "truncate":
        model.write_bytes(model.read_bytes()[:-4])
    elif damage == "remove":
        model.unlink()
    elif damage == "json":
        facts.write_text(facts.read_text()[:-9])
    elif damage == "list":
        facts.write_text("[]")
    else:
        shutil.rmtree(newest)
        newest.mkdir()
    found = load_state(tmp_path)
    assert found is not None
    assert found.facts["step"] == 1


def test_new_checkpoint_outlives_damaged_ones_of_later_steps(tmp_path):
    for step in (5, 6):
        (save_state(tmp_path, state(step)) / "state.json").unlink()
    save_state(tmp_path, state(3))
    save_state(tmp_path, state(4))
    assert names(tmp_path) == ["LATEST", "step-00000003", "step-00000004"]


def test_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path):
    (save_state(tmp_path, state(5)) / "state.json").unlink()
    save_state(tmp_path, state(5, value=0.25))
    found = load_state(tmp_path)
    assert found is not None
    assert float(found.tensors["model"]["weight"][0]) == 0.25


def test_only_damaged_checkpoints_are_one_clear_line(tmp_path):
    (save_state(tmp_path, state(5)) / "state.json").unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint .*step-00000005.*--overwrite"):
        load_state(tmp_path)


def test_checkpoint_of_a_newer_format_is_refused(tmp_path):
    facts = save_state(tmp_path, state(5)) / "state.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"format_version": 99}))
    with pytest.raises(ConfigError, match="newer segan"):
        load_state(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("file", ["model", "ema"])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, file, value):
    save_state(tmp_path, state(1))
    before = names(tmp_path)
    bad = state(2)
    bad.tensors[file]["weight"][1] = value
    with pytest.raises(DivergenceError, match=f"weight of the {file} is not finite"):
        save_state(tmp_path, bad)
    assert names(tmp_path) == before
    assert (tmp_path / "LATEST").read_text() == "step-00000001\n"


@pytest.fixture
def small_files_only():
    """Writes beyond 64 KiB fail in the kernel, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files_only")
def test_full_disk_is_a_data_error_and_the_checkpoint_before_stays(tmp_path):
    save_state(tmp_path, state(1))
    with pytest.raises(DataError, match="cannot write checkpoint") as caught:
        save_state(tmp_path, state(2, size=2**20))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["LATEST", "step-00000001"]
    found = load_state(tmp_path)
    assert found is not None
    assert found.facts["step"] == 1


def test_folder_that_cannot_be_written_is_a_data_error(tmp_path):
    # A file in its place stops even root, whom permissions do not.
    (tmp_path / "state").write_text("")
    with pytest.raises(DataError, match="cannot write checkpoint"):
        save_state(tmp_path / "state", state(1))


@pytest.mark.parametrize("moment", ["save_file", "_flush", "_write", "_purge"])
def test_death_at_any_moment_leaves_a_good_checkpoint(tmp_path, monkeypatch, moment):
    """The process dies before the first, second, ... call of each step of the protocol."""
    for calls in range(8):
        directory = tmp_path / f"{moment}-{calls}"
        save_state(directory, state(1))
        save_state(directory, state(2))
        with monkeypatch.context() as patch:
            die_at(patch, moment, calls)
            try:
                save_state(directory, state(3))
                died = False
            except KeyboardInterrupt:
                died = True
        found = load_state(directory)
        assert found is not None
        assert found.facts["step"] in (2, 3)
        assert died or found.facts["step"] == 3
        save_state(directory, state(4))
        assert names(directory)[-1] == "step-00000004"
        assert len(names(directory)) == 3


def die_at(patch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    real = getattr(module, name)
    left = iter(range(calls))

    def dying(*arguments: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*arguments)

    patch.setattr(module, name, dying)
