"""A run's directory: whose it is, what lies in it, and one process at a time."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segan import config, distributed
from segan.checkpoint import FILE_NAME
from segan.errors import ConfigError, SeganError
from segan.files import written_aside
from segan.training import restarts

CONFIG_NAME = "config.yaml"
LOCK_NAME = ".lock"
# Of a second stage: the runs of its earlier rounds.
ROUNDS = "rounds"

# What a run writes beside its configuration, and all that overwriting it removes.
_OWN = (
    "metrics.jsonl",
    "health.jsonl",
    "environment.json",
    "samples",
    "snapshots",
    "state",
    "guesses",
    ROUNDS,
    "tensorboard",
    restarts.FILE_NAME,
    restarts.FOLDER,
    FILE_NAME,
    "evaluation.json",
    "evaluation.csv",
)


def check_directory(out: Path, tree: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make sure that `out` is free, or holds this very run.

    Raises:
        ConfigError: It is a file, somebody else's folder, or a run of another configuration.
    """
    with _refusing(out):
        for folder in (out, *out.parents):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"--out {out}: {folder} is a file; name a folder")
        # What a crash left of the very first files is nobody's.
        if not out.exists() or all(_is_leftover(path) for path in out.iterdir()):
            return
        present = {}
        if (out / CONFIG_NAME).exists():
            present = config.read_tree(out / CONFIG_NAME)
    if not present.keys() >= {"method", "data", "train"}:
        raise ConfigError(f"--out {out} holds files that are not a segan run; name another folder")
    if overwrite:
        return
    key = _first_difference(present, dict(tree))
    if key:
        raise ConfigError(
            f"--out {out} holds a run with another configuration (it differs in {key!r}); "
            "name another folder, or add --overwrite to replace it"
        )


@contextmanager
def claimed(
    out: Path, tree: Mapping[str, Any], *, overwrite: bool, accelerator: Any
) -> Iterator[None]:
    """While active, `out` is this run's alone: made, emptied if asked, its configuration written.

    Entered by all processes of a run; the first of them does it, and holds the lock.

    Raises:
        ConfigError: Another run is in progress there, or it cannot be made; on all processes.
    """
    lock: int | None = None
    error: SeganError | None = None
    if accelerator.is_main_process:
        try:
            lock = _lock(out)
            _prepare(out, tree, overwrite=overwrite)
        except SeganError as found:
            error = found
    try:
        # No process may wait for another that has given up.
        if distributed.any_rank(error is not None, accelerator.device):
            raise error or ConfigError(f"--out {out}: the first process could not use it")
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(out: Path) -> int:
    """An open file that no other process can lock until this one closes it, or dies."""
    import fcntl  # POSIX only, as is training

    with _refusing(out):
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Not flock(): loader processes would inherit that, and outlive a killed trainer.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise ConfigError(
                f"another process is training in {out}; wait for it, or name another folder"
            ) from None
    return descriptor


def _prepare(out: Path, tree: Mapping[str, Any], *, overwrite: bool) -> None:
    with _refusing(out):
        for path in [out / name for name in _OWN] if overwrite else []:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    # Replaced last: it is what says that the folder is a run.
    with written_aside(out / CONFIG_NAME) as aside:
        aside.write_text(config.to_yaml(dict(tree)), encoding="utf-8")


@contextmanager
def _refusing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be used: {error.strerror or error}") from None


def _is_leftover(path: Path) -> bool:
    return path.name == LOCK_NAME or path.match(".*.aside.yaml")


def _first_difference(left: Any, right: Any, path: str = "") -> str:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys([*left, *right]):
            below = f"{path}.{key}" if path else key
            found = (
                _first_difference(left[key], right[key], below)
                if key in left and key in right
                else below
            )
            if found:
                return found
        return ""
    return "" if left == right else path
