"""A segmenter as one self-describing file: weights as safetensors, the rest as JSON in its header.

Whoever holds the file needs nothing else, and opening one from a stranger runs no code: the
network is rebuilt from validated settings, never from a pickle.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import segan
from segan import config, networks
from segan.config import Tree
from segan.errors import ConfigError, DivergenceError
from segan.files import written_aside
from segan.segmenter import MaskSegmenter, RegionSegmenter, WindowSpec

# 2: "scale" and "num_regions". Files of version 1 hold masks, and their scale in the window.
FORMAT_VERSION = 2
FILE_NAME = "segmenter.safetensors"

_MOST_REGIONS = 1024
_SCALES = (2**-6, 2**6)

# One header entry, because safetensors does not keep the order of several: equal segmenters
# make equal files.
_ENTRY = "segan"
_OWN_KEYS = (
    "format_version",
    "segan_version",
    "network",
    "window",
    "scale",
    "foreground",
    "num_regions",
)
_SINCE_2 = ("scale", "num_regions")


@dataclass(frozen=True, kw_only=True)
class LoadedSegmenter:
    """What a segmenter file holds.

    Attributes:
        segmenter: In evaluation mode, on the CPU.
        window: How it was shown objects in training; None when it saw whole pictures.
        scale: Network pixels per pixel of a whole picture.
        metadata: The whole header: format_version, segan_version, network, window, scale,
            foreground, num_regions, and the provenance it was saved with, among it
            `supervision` = {"train": ...}.
        sha256: Of the file, hexadecimal.
    """

    segmenter: MaskSegmenter | RegionSegmenter
    window: WindowSpec | None
    scale: float
    metadata: Tree
    sha256: str


def save_segmenter(
    path: Path,
    segmenter: MaskSegmenter | RegionSegmenter,
    *,
    network: Tree,
    num_regions: int = 2,
    window: WindowSpec | None,
    scale: float | None = None,
    provenance: Tree,
) -> None:
    """Writes a segmenter; equal weights, settings and provenance give an equal file.

    Args:
        path: Where to; a file already there is replaced whole or left as it was.
        segmenter: Its weights are written, from any device.
        network: The settings `segan.networks.build` makes its network from, as plain values.
        num_regions: K, of which masks have two.
        window: How it was shown objects in training.
        scale: Network pixels per pixel of a whole picture; None: that of `window`, or 1.
        provenance: Where it comes from, as JSON values: `supervision` = {"train": ...}, and what
            else is known of method, dataset, images_seen, seed, git_commit.

    Raises:
        DivergenceError: A weight is not finite; nothing is written.
        DataError: The file cannot be written.
    """
    assert not set(provenance) & set(_OWN_KEYS)
    state = segmenter.network.state_dict()
    weights = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
    if broken := _non_finite(weights):
        raise DivergenceError(f"weight {broken!r} is not finite; {path} was not written")
    header = {
        "format_version": FORMAT_VERSION,
        "segan_version": segan.__version__,
        "network": network,
        "window": asdict(window) if window else None,
        "scale": scale or (window.scale if window else 1.0),
        "foreground": segmenter.foreground,
        "num_regions": num_regions,
        **provenance,
    }
    with written_aside(path) as aside:
        aside.write_bytes(save(weights, {_ENTRY: json.dumps(header, allow_nan=False)}))


def load_segmenter(path: Path) -> LoadedSegmenter:
    """Reads a segmenter, whoever wrote it; every part of the file is checked before it is used.

    Args:
        path: A file from `save_segmenter`, or a run directory that holds one.

    Raises:
        ConfigError: There is no such file, it is not a segmenter, or it does not fit together.
    """
    if path.is_dir():
        path = path / FILE_NAME
    entry, weights, sha256 = _read(path)
    header = _parse_header(entry, path)
    if broken := _non_finite(weights):
        raise ConfigError(f"{path}: weight {broken!r} is not finite; the file is damaged")
    named = header["foreground"] is not None
    network = _network(header["network"], weights, path, 1 if named else header["num_regions"])
    kind = MaskSegmenter if named else RegionSegmenter
    window = _window(header["window"], path)
    return LoadedSegmenter(
        segmenter=kind(network, stride=network.stride).eval(),
        window=window,
        scale=_scale(header, window, path),
        metadata=header,
        sha256=sha256,
    )


def _non_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinity, if any."""
    return next((name for name, tensor in weights.items() if not tensor.isfinite().all()), None)


def _read(path: Path) -> tuple[str, dict[str, Tensor], str]:
    """Our entry of a file's header, its tensors, and the file's sha256."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_ENTRY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ConfigError(f"cannot read segmenter {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ConfigError(f"{path} is not a whole safetensors file: {error}") from None
    if entry is None:
        raise ConfigError(f"{path} holds tensors, but no segmenter that segan saved")
    return entry, weights, sha256


def _parse_header(entry: str, path: Path) -> Tree:
    try:
        header: Tree = json.loads(entry)
    except (json.JSONDecodeError, RecursionError):
        raise ConfigError(f"{path}: the header is not JSON; the file is damaged") from None
    version = header.get("format_version") if isinstance(header, dict) else None
    if type(version) is not int:
        raise ConfigError(f"{path}: the header has no format version; the file is damaged")
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"{path} has format {version}, this segan reads up to {FORMAT_VERSION}: update segan"
        )
    required = [key for key in _OWN_KEYS if version > 1 or key not in _SINCE_2]
    if missing := [key for key in required if key not in header]:
        raise ConfigError(f"{path}: the header lacks {', '.join(missing)}; the file is damaged")
    if header["foreground"] not in (MaskSegmenter.foreground, None):
        raise ConfigError(f"{path}: foreground is {header['foreground']!r}, expected 1 or null")
    count = header.setdefault("num_regions", 2)
    if type(count) is not int or not 2 <= count <= _MOST_REGIONS:
        raise ConfigError(f"{path}: num_regions is {count!r}; it must be 2 to {_MOST_REGIONS}")
    supervision = header.get("supervision")
    if not isinstance(supervision, dict) or not isinstance(supervision.get("train"), str):
        raise ConfigError(f"{path}: the header does not say what supervision training had")
    return header


def _network(
    tree: Any, weights: Mapping[str, Tensor], path: Path, out_channels: int
) -> networks.SegmenterNetwork:
    """The network of the settings, with the weights."""
    kind: Any = networks.SegmenterNetworkConfig
    settings: networks.SegmenterNetworkConfig = config.build(kind, tree, f"{path}, network")
    # Compared without memory first: settings may ask for any size, tensors are in the file.
    try:
        with torch.device("meta"):
            expected = _shapes(networks.build(settings, out_channels=out_channels).state_dict())
    except (RuntimeError, OverflowError, TypeError):
        raise ConfigError(f"{path}: its network settings are too large: {tree}") from None
    found = _shapes(weights)
    for name in sorted(expected | found):
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{path}: weight {name!r} is {found.get(name, 'missing')}, "
                f"its network settings want {expected.get(name, 'none of that name')}"
            )
    network = networks.build(settings, out_channels=out_channels)
    network.load_state_dict(dict(weights))
    return network


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in weights.items()
    }


def _scale(header: Tree, window: WindowSpec | None, path: Path) -> float:
    scale = header.setdefault("scale", window.scale if window else 1.0)
    if type(scale) not in (int, float) or not _SCALES[0] <= scale <= _SCALES[1]:
        raise ConfigError(f"{path}: impossible scale {scale!r}; the file is damaged")
    return float(scale)


def _window(tree: Any, path: Path) -> WindowSpec | None:
    if tree is None:
        return None
    window = config.build(WindowSpec, tree, f"{path}, window")
    # Beyond these a picture would be resampled to nothing, or to more than any memory.
    possible = 1 <= window.size <= 2**13 and 1 <= window.context < math.inf
    if not possible or not _SCALES[0] <= window.scale <= _SCALES[1]:
        raise ConfigError(f"{path}: impossible window {tree}; the file is damaged")
    return window
