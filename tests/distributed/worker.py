"""What each process of `test_two_processes.py` does; run by torchrun, writes to a folder.

Assertions here hold on every process; what is compared with one process is written by the first.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
import tiny
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from segan.errors import DataError, Interrupted

SGD = {
    name: {"type": "sgd", "lr": 0.05, "beta1": 0.5, "warmup": 0.0}
    for name in ("discriminator", "generator")
}
RUNS = {
    "sgd-fp32": {"optimizers": SGD},
    "adam-float64": {"double": True},
    "adam-float64-micro": {"double": True, "micro_batch": 2},
}
# Their batch norm and joint distributions are of all processes. Spectra in fp32 round more, so the
# steps are smaller.
GENTLE = SGD["generator"] | {"lr": 0.01}
CLUSTERING = {
    f"{name}-{kind}": {"name": name, **settings}
    for name, phases in (("wnet", ("ncut", "reconstruction")), ("iic", ("adam",)))
    for kind, settings in (
        ("sgd-fp32", {"optimizers": dict.fromkeys(phases, GENTLE)}),
        ("adam-float64", {"double": True}),
    )
}
# What is noisy is cut off at 0 and 1, and in fp32 rounding decides which pixels are.
QUIET = {"guards": {"second_noise": 0.0}}
SCENES = {
    "seigan-sgd-fp32": {
        "name": "seigan",
        "optimizers": dict.fromkeys(SGD, GENTLE),
        "method": QUIET,
    },
    "seigan-adam-float64": {"name": "seigan", "double": True},
    "seigan-adam-float64-micro": {"name": "seigan", "double": True, "micro_batch": 2},
}
REDRAWING = {"redo-adam-float64": {"name": "redo", "double": True}}
RUNS |= CLUSTERING | SCENES | REDRAWING
STEPS = 20
RESUMED = {"steps": 6, "checkpoint_every": 0}


def assert_same_everywhere(values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        first = value.clone()
        dist.broadcast(first, src=0)
        assert torch.equal(first, value), f"{name} differs between processes"


def equal_one_process(out: Path, rank: int) -> None:
    for name, settings in RUNS.items():
        built = tiny.started(tiny.trainer(out / name, steps=STEPS, **settings))
        assert built.share == (2 if "micro" in name else 4)
        for _ in range(STEPS):
            built.iterate()
        found = tiny.tensors(built)
        assert_same_everywhere(found)
        if rank == 0:
            save_file({k: v.contiguous() for k, v in found.items()}, out / f"{name}.safetensors")


def skip_together(out: Path, rank: int) -> None:
    """One process sees a pixel that is not a number; both leave the updates out."""
    built = tiny.started(tiny.trainer(out / "nan", steps=8))
    draws = range(2, 3) if rank == 1 else range(0)
    built.incoming = tiny.poisoned(built.incoming, draws=draws)
    built.iterate()
    built.iterate()
    before = tiny.tensors(built)
    built.iterate()
    after = tiny.tensors(built)
    assert built.skipped_updates == 3
    assert all(torch.equal(after[name], before[name]) for name in before)
    for _ in range(3):
        built.iterate()
    found = tiny.tensors(built)
    assert built.skipped_updates == 3
    assert tiny.largest_difference(found, before) > 1e-4
    assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    assert_same_everywhere(found)


def stop_and_resume(out: Path, rank: int) -> None:
    """A signal to one process stops both at the same step; resumed, the run is the run itself."""
    tiny.trainer(out / "whole", **RESUMED).run()
    stopped = tiny.trainer(out / "stopped", **RESUMED)
    iterate = stopped.iterate

    def signalled() -> dict[str, Tensor]:
        terms = iterate()
        if stopped.step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return terms

    stopped.iterate = signalled
    with pytest.raises(Interrupted):
        stopped.run()
    assert stopped.step == 3
    dist.barrier()
    again = tiny.trainer(out / "stopped", **RESUMED)
    assert again.resume()
    again.run()
    assert_same_everywhere(tiny.tensors(again))


def fail_together(out: Path, rank: int) -> None:
    """A checkpoint that the first process cannot write ends all of them."""
    built = tiny.started(tiny.trainer(out / "full", steps=2))
    if rank == 0:
        (out / "full").mkdir()
        (out / "full" / "state").write_text("in the way")
    with pytest.raises(DataError):
        built.save()


def main() -> None:
    out = Path(sys.argv[1])
    tiny.build_accelerator("fp32")
    assert dist.get_world_size() == 2
    rank = dist.get_rank()
    ranks: list[object] = [None, None]
    dist.all_gather_object(ranks, rank)
    assert ranks == [0, 1]
    for check in (equal_one_process, skip_together, stop_and_resume, fail_together):
        check(out, rank)
        (out / f"{check.__name__}-{rank}").write_text("passed")


if __name__ == "__main__":
    main()
