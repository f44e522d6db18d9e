"""What every format has in common once a file of it is open, and how its origin is written."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segan.config import Tree
from segan.errors import ConfigError

# Pictures uint8 [N, H, W, 3] to maps [N, H, W] and probabilities, as `WholePicture` gives them.
Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.generic], NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class OpenFile:
    """An exported file, opened.

    Attributes:
        run: Runs it on the CPU.
        metadata: The header of the segmenter file it was exported from, and `export`.
    """

    run: Run
    metadata: Tree


def entries_of(metadata: Tree) -> dict[str, str]:
    """Metadata as text by key, as files of every format can hold it."""
    return {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()}


def metadata_of(entries: Mapping[str, str], path: Path, kind: str) -> Tree:
    """The reverse of `entries_of`.

    Raises:
        ConfigError: The file is of its kind, but not from segan.
    """
    try:
        metadata: Tree = {key: json.loads(value) for key, value in entries.items()}
        ours = isinstance(metadata["supervision"]["train"], str) and "segan_version" in metadata
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise ConfigError(f"{path} is {kind}, but not one that segan exported")
    return metadata


def as_arrays(
    outputs: tuple[Tensor, Tensor],
) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Maps and probabilities as arrays."""
    maps, probabilities = outputs
    return maps.numpy(), probabilities.numpy()
