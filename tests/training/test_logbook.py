import json
import sys

import pytest

from segan.errors import ConfigError, DataError
from segan.training.logbook import HEALTH_NAME, Logbook, read_metrics, require_tensorboard


def test_lines_after_the_resumed_step_are_dropped(tmp_path):
    with Logbook(tmp_path, step=0, tensorboard=False) as logbook:
        for step in (1, 2, 3):
            logbook.write(step, {"loss": step / 3})
    before = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    Logbook(tmp_path, step=2, tensorboard=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"".join(before[:2])


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\x00" * 40 + b"\n", b'{"step": 3}'])
def test_torn_end_is_left_out_and_overwritten(tmp_path, torn):
    with Logbook(tmp_path, step=0, tensorboard=False) as logbook:
        logbook.write(1, {"loss": 0.1})
        logbook.write(2, {"loss": 0.2})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(whole + torn)
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
    with Logbook(tmp_path, step=9, tensorboard=False) as logbook:
        assert (tmp_path / "metrics.jsonl").read_bytes() == whole
        logbook.write(3, {"loss": 0.3})
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_log_survives_a_crash_while_its_end_is_cut_off(tmp_path, monkeypatch):
    with Logbook(tmp_path, step=0, tensorboard=False) as logbook:
        logbook.write(1, {"loss": 0.1})
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        Logbook(tmp_path, step=0, tensorboard=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_values_that_are_not_finite_are_null(tmp_path):
    with Logbook(tmp_path, step=0, tensorboard=False) as logbook:
        logbook.write(1, {"a": float("nan"), "b": float("inf"), "c": 0.5})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text) == {"step": 1, "a": None, "b": None, "c": 0.5}


def test_checks_of_masks_are_kept_with_their_warnings_up_to_the_resumed_step(tmp_path):
    with Logbook(tmp_path, step=0, tensorboard=False) as logbook:
        logbook.write_health(5, {"area": 0.25, "diversity": None}, [])
        logbook.write_health(10, {"area": float("nan"), "diversity": 0.5}, ["step 10: empty"])
    path = tmp_path / HEALTH_NAME
    assert read_metrics(path) == [
        {"step": 5, "area": 0.25, "diversity": None, "warnings": []},
        {"step": 10, "area": None, "diversity": 0.5, "warnings": ["step 10: empty"]},
    ]
    Logbook(tmp_path, step=5, tensorboard=False)
    assert [line["step"] for line in read_metrics(path)] == [5]


def test_log_that_cannot_be_written_is_a_data_error(tmp_path):
    logbook = Logbook(tmp_path, step=0, tensorboard=False)
    logbook.path.unlink()
    logbook.path.mkdir()
    with pytest.raises(DataError, match=r"cannot write .*metrics\.jsonl"):
        logbook.write(1, {"loss": 0.1})


def test_tensorboard_events_hold_what_was_logged(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Logbook(tmp_path, step=0, tensorboard=True) as logbook:
        for step in (1, 2):
            logbook.write(step, {"generator/area": step / 4})
    # A resumed run writes to the same place; what the first wrote after step 1 is gone.
    with Logbook(tmp_path, step=1, tensorboard=True) as logbook:
        logbook.write(2, {"generator/area": 0.75})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("generator/area")] == [(1, 0.25), (2, 0.75)]


def test_missing_tensorboard_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install \"segan\[track\]\""):
        require_tensorboard()
