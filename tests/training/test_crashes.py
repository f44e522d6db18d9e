"""Runs in processes of their own that are signalled or killed."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import ENVIRONMENT, ROOT, result, trainer, tree

from segan import config
from segan.cli import main
from segan.training.logbook import read_metrics
from segan.training.state import load_state


def wait_for_line(number: int, log: Path, process: subprocess.Popen[str]) -> None:
    while len(read_metrics(log)) < number:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_signals_save_and_the_same_command_finishes_the_run(tmp_path):
    """SIGTERM, the same command, SIGINT, the same command: bitwise the run without signals."""
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(config.to_yaml(tree(steps=60)))
    command = ["train.py", str(file), "--out", str(out), "train.workers=1"]
    reached = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=ENVIRONMENT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for_line(reached + 2, out / "metrics.jsonl", process)
        # To the whole group, as a terminal and as launchers do it, loader processes included.
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 75, errors
        assert "the same command without --overwrite resumes" in errors
        assert "Traceback" not in errors
        steps = result(out)[0]["step"]
        assert reached < steps < 60
        reached = steps
    assert main(["train", *command[1:]]) == 0
    assert (out / "segmenter.safetensors").exists()
    assert main(["train", str(file), "--out", str(tmp_path / "whole"), "train.workers=1"]) == 0
    assert result(out) == result(tmp_path / "whole")
    whole, resumed = (path / "segmenter.safetensors" for path in (tmp_path / "whole", out))
    assert whole.read_bytes() == resumed.read_bytes()


def train_on(directory: Path, steps: int) -> None:
    """What a killed command does when it is run again."""
    built = trainer(directory, steps=steps, checkpoint_every=1)
    built.resume()
    built.run()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_while_checkpointing_every_step_and_resumed(tmp_path, kills):
    """Bitwise the run that nothing happened to, however often and wherever it was killed."""
    processes = multiprocessing.get_context("fork")
    clock = random.Random(kills)
    steps, reached = 10 * kills, 0
    for _ in range(kills):
        process = processes.Process(target=train_on, args=(tmp_path / "killed", steps))
        process.start()
        # Now and then before it has taken up where the last one was killed.
        if clock.random() < 0.8:
            wait_for_step(tmp_path / "killed", reached + 1, process)
        time.sleep(clock.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = load_state(tmp_path / "killed" / "state")
        step = found.facts["step"] if found else 0
        assert step >= reached
        reached = step
    assert 0 < reached < steps
    train_on(tmp_path / "killed", steps)
    train_on(tmp_path / "whole", steps)
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert len(list((tmp_path / "killed" / "state").iterdir())) == 3


def wait_for_step(directory: Path, step: int, process: multiprocessing.context.ForkProcess) -> None:
    latest = directory / "state" / "LATEST"
    while process.is_alive():
        if latest.exists() and int(latest.read_text().strip().removeprefix("step-")) >= step:
            return
        time.sleep(0.002)


def test_first_file_of_a_run_may_be_torn_by_a_kill(tmp_path):
    """A run killed before its config.yaml was in place does not lock its own folder."""
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(config.to_yaml(tree(steps=1)))
    out.mkdir()
    (out / ".0123456789abcdef.aside.yaml").write_text("meth")
    assert main(["train", str(file), "--out", str(out)]) == 0
