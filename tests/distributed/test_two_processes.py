"""Two gloo processes, started once for all tests here; what they do is in worker.py."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import ENVIRONMENT, largest_difference, result, started, tensors, trainer, weights
from worker import CLUSTERING, REDRAWING, RESUMED, RUNS, SCENES, STEPS

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    # `accelerate launch --cpu --num_processes 2` would start one process and say nothing.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(HERE / "worker.py"), str(out)],
        env=ENVIRONMENT | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(HERE.parent)},
        check=False,
        timeout=540,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Shown by pytest when a test that needs this fails.
    print(done.stderr)
    return out


def assert_passed(out: Path, check: str) -> None:
    assert [(out / f"{check}-{rank}").exists() for rank in (0, 1)] == [True, True]


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("sgd-fp32", 1e-6),
        ("adam-float64", 1e-9),
        ("adam-float64-micro", 1e-9),
        *((name, 1e-6 if "fp32" in name else 1e-9) for name in CLUSTERING | SCENES | REDRAWING),
    ],
)
def test_two_processes_equal_one_at_the_same_global_batch(two_processes, tmp_path, name, tolerance):
    assert_passed(two_processes, "equal_one_process")
    settings = {key: value for key, value in RUNS[name].items() if key != "micro_batch"}
    one = started(trainer(tmp_path, steps=STEPS, **settings))
    start = tensors(one)
    for _ in range(STEPS):
        one.iterate()
    found, theirs = tensors(one), load_file(two_processes / f"{name}.safetensors")
    assert largest_difference(weights(found), weights(theirs)) <= tolerance
    # Moments are gradients, not yet scaled by a learning rate.
    assert largest_difference(found, theirs) <= 10 * tolerance
    assert largest_difference(weights(found), weights(start)) > 1e-3


def test_update_that_is_bad_on_one_process_is_left_out_on_both(two_processes):
    assert_passed(two_processes, "skip_together")


def test_signal_to_one_process_stops_both_and_the_run_resumes_bitwise(two_processes):
    assert_passed(two_processes, "stop_and_resume")
    assert result(two_processes / "stopped") == result(two_processes / "whole")


def test_checkpoint_that_cannot_be_written_ends_both(two_processes):
    assert_passed(two_processes, "fail_together")


def test_run_of_two_processes_goes_on_in_one(two_processes, capsys):
    """The batches stay what they were; only the rounding of sums differs."""
    facts, log = result(two_processes / "whole")
    assert facts["world_size"] == 2
    steps = RESUMED["steps"]
    again = trainer(two_processes / "whole", **RESUMED)
    again.num_steps = steps + 2
    assert again.resume()
    assert "this run had 2 processes and now has 1" in capsys.readouterr().err
    again.run()
    assert result(two_processes / "whole")[1][:steps] == log
    assert result(two_processes / "whole")[0]["draws"] == steps + 2
