"""A joint of the whole batch over two gloo processes; what they do is in their worker's file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from joint_worker import CASES, value_and_gradient
from safetensors.torch import load_file

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(HERE / "joint_worker.py"), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        timeout=300,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Shown by pytest when a test that needs this fails.
    print(done.stderr)
    return out


@pytest.mark.parametrize(("form", "precision"), CASES)
def test_gradient_averaged_over_processes_is_that_of_one(two_processes, form, precision) -> None:
    tolerance = {"float32": 1e-6, "float64": 1e-10}[precision]
    ranks = [load_file(two_processes / f"{form}-{precision}-{rank}.safetensors") for rank in (0, 1)]
    one = value_and_gradient(form, precision, rank=0, world=1)
    for found in ranks:
        assert abs(float(found["value"] - one["value"])) < tolerance
        mean = found["gradient"]
        ratio = float((mean * one["gradient"]).sum() / one["gradient"].square().sum())
        assert abs(ratio - 1) < tolerance
        largest = one["gradient"].abs().max()
        # The ratio averages rounding out; entries do not.
        assert float((mean - one["gradient"]).abs().max() / largest) < 10 * tolerance
    assert torch.equal(ranks[0]["value"], ranks[1]["value"])


def test_joint_of_each_process_alone_would_be_another_objective() -> None:
    whole = value_and_gradient("uncollapsed", "float64", rank=0, world=1)["gradient"]
    parts = [
        value_and_gradient("uncollapsed", "float64", rank=rank, world=2)["gradient"]
        for rank in (0, 1)
    ]
    assert float((sum(parts) / 2 - whole).abs().max() / whole.abs().max()) > 1e-4
