"""Crash-safe checkpoints of a whole run: safetensors and JSON, no pickle.

A checkpoint is written aside, flushed to disk and renamed, and only then are older ones removed;
whatever moment the machine dies at, the newest directory whose hashes verify is complete.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from segan.errors import ConfigError, DataError, DivergenceError

FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d+)")


class State(NamedTuple):
    """A checkpoint in memory.

    Attributes:
        tensors: By file stem, then by name: "model", "ema", "optimizers".
        facts: JSON-able; "step" names the checkpoint.
    """

    tensors: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]


def save_state(directory: Path, state: State, *, keep: int = 2) -> Path:
    """Write `directory/step-<n>` and point LATEST at it.

    Args:
        directory: The run's `state/`.
        state: What to save; `facts["step"]` names it.
        keep: How many checkpoints remain.

    Raises:
        DivergenceError: Some tensor is not finite; nothing is written.
        DataError: The disk is full or not writable; earlier checkpoints are untouched.
    """
    _require_finite(state)
    target = directory / f"step-{state.facts['step']:08d}"
    aside = directory / f".tmp-{target.name}-{os.getpid()}"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        hashes = {}
        for file, tensors in state.tensors.items():
            path = aside / f"{file}.safetensors"
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
            hashes[path.name] = _sha256(path)
            _flush(path)
        facts = {"format_version": FORMAT_VERSION, "sha256": hashes, **state.facts}
        _write(aside / "state.json", json.dumps(facts, indent=1))
        _flush(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _write(directory / ".latest", target.name + "\n")
        (directory / ".latest").rename(directory / "LATEST")
        _flush(directory)
        _flush(directory.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DataError(f"cannot write checkpoint {target}: {error}") from None
    _purge(directory, target, keep)
    return target


def _require_finite(state: State) -> None:
    for file, tensors in state.tensors.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise DivergenceError(
                    f"step {state.facts['step']}: {name} of the {file} is not finite; it was not "
                    "saved, earlier checkpoints are as they were. Lower the learning rate"
                )


def _purge(directory: Path, newest: Path, keep: int) -> None:
    """Remove all but `newest` and the `keep - 1` before it, and what crashes left behind."""
    checkpoints = _checkpoints(directory)
    position = checkpoints.index(newest)
    # What claims to be newer did not verify when this run was resumed from an older one.
    unwanted = checkpoints[:position] + checkpoints[position + keep :]
    for path in [*unwanted, *directory.glob(".tmp-step-*")]:
        shutil.rmtree(path, ignore_errors=True)


def load_state(directory: Path) -> State | None:
    """The newest checkpoint under `directory` whose hashes verify, or None when there is none.

    Raises:
        ConfigError: Checkpoints exist but none verifies, or they are from a newer segan.
    """
    candidates = _checkpoints(directory)
    problems = []
    for path in candidates:
        try:
            facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if facts["format_version"] > FORMAT_VERSION:
                raise ConfigError(f"{path} was written by a newer segan; update segan to resume")
            wrong = [f for f, digest in facts["sha256"].items() if _sha256(path / f) != digest]
            if wrong:
                problems.append(f"{path.name}: {wrong[0]} does not match its hash")
                continue
            tensors = {Path(f).stem: load_file(path / f) for f in facts["sha256"]}
            return State(tensors, facts)
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            problems.append(f"{path.name}: {error}")
    if problems:
        raise ConfigError(
            f"no checkpoint in {directory} can be read ({'; '.join(problems)}); "
            "put a good one there, or start anew with --overwrite"
        )
    return None


def require_same(directory: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Make sure that the facts of a checkpoint's run are those of the run that it is for.

    Raises:
        ConfigError: They are not.
    """
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    if changed:
        raise ConfigError(
            f"{directory} was made with another {' and another '.join(changed)}; "
            "restore what it was, or start anew with --overwrite"
        )


def optimizer_tensors(
    optimizers: dict[str, torch.optim.Optimizer], names: dict[Tensor, str]
) -> dict[str, Tensor]:
    """Optimiser moments by "<optimizer>/<parameter>/<moment>"."""
    return {
        f"{name}/{names[parameter]}/{moment}": torch.as_tensor(value)
        for name, optimizer in optimizers.items()
        for parameter, moments in optimizer.state.items()
        for moment, value in moments.items()
        if value is not None
    }


def load_optimizer_tensors(
    optimizers: dict[str, torch.optim.Optimizer],
    names: dict[Tensor, str],
    tensors: dict[str, Tensor],
) -> None:
    """Put back what `optimizer_tensors` took."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        optimizer, parameter, moment = key.split("/")
        target = parameters[parameter]
        # Step counters stay on the CPU, as the optimiser made them; moments follow their weights.
        value = value if value.ndim == 0 else value.to(target.device)
        optimizers[optimizer].state[target][moment] = value


def _checkpoints(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
