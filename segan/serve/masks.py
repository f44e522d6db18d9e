"""Pictures from strangers to masks: what the server does, without the web.

Soft masks are handed out in 200 levels that any threshold of the page is exact on: level
ceil(200 p) is above k just where p > k / 200.
"""

import hashlib
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from segan.arrays import Picture
from segan.data.images import UnreadableImage, one_line, read_image
from segan.errors import ConfigError, DataError
from segan.exporting.loading import load_exported
from segan.formats import FORMATS, Found
from segan.formats import encode as encode_format
from segan.refining import REFINEMENTS, compose
from segan.segmenter import Segmenter

LEVELS = 200
NO_REFINEMENT = "none"

# Pixels of masks and pictures that are kept for the next request.
_MOST_KEPT = 60_000_000

SoftMask = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is accepted.

    Attributes:
        megabytes: Of a picture's file.
        megapixels: Of a picture.

    Raises:
        ConfigError: One is not above 0.
    """

    megabytes: float
    megapixels: float

    def __post_init__(self) -> None:
        for name in ("megabytes", "megapixels"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--max-{name} is {getattr(self, name)}; it must be above 0")

    @property
    def num_bytes(self) -> int:
        """Of a picture's file."""
        return int(self.megabytes * 1e6)


@dataclass(frozen=True, kw_only=True)
class Model:
    """An exported file that is served.

    Attributes:
        name: For the page; unique.
        segmenter: Of whole pictures.
        metadata: Of the file.
    """

    name: str
    segmenter: Segmenter
    metadata: dict[str, Any]


def open_models(paths: Sequence[Path]) -> list[Model]:
    """Exported files by their stems, or by as much of their paths as tells them apart.

    Raises:
        ConfigError: One cannot be read, is no exported file, or is named twice.
    """
    found = [path.expanduser().resolve() for path in paths]
    if len(set(found)) < len(found):
        raise ConfigError("a file is named twice; name each once")
    depth = 1
    while len({path.parts[-depth:] for path in found}) < len(found):
        depth += 1
    models = []
    for path in found:
        if path.suffix.lower() != ".onnx":
            raise ConfigError(
                f"{path} is no exported file; segan export RUN --out FILE.onnx makes one"
            )
        loaded = load_exported(path)
        if loaded.segmenter.foreground is None:
            raise ConfigError(
                f"{path} gives regions without names; the page shows masks of an object"
            )
        name = "/".join(path.with_suffix("").parts[-depth:])
        models.append(Model(name=name, segmenter=loaded.segmenter, metadata=loaded.metadata))
    return models


class Request(NamedTuple):
    """What a page asks about a picture.

    Attributes:
        content: The picture's file.
        name: What the file is called; only told back and written into label files.
        model: Number of the model.
        refinement: One of `segan.refining.REFINEMENTS`, or "none".
    """

    content: bytes
    name: str
    model: int
    refinement: str


class Result(NamedTuple):
    """A picture uint8 [H, W, 3] and its soft mask [H, W] in [0, 1]."""

    picture: Picture
    mask: SoftMask


class Masks:
    """Models, and what they were last asked.

    Args:
        models: At least one.
        limits: What is accepted.
    """

    def __init__(self, models: Sequence[Model], limits: Limits) -> None:
        assert models
        self.models = models
        self.limits = limits
        self._kept: OrderedDict[tuple[str, ...], NDArray[Any]] = OrderedDict()
        # One picture at a time: a model already uses all processors, and memory has an end.
        self._turn = threading.Lock()

    def segment(self, request: Request) -> Result:
        """The picture and its soft mask.

        Raises:
            ConfigError: There is no such model or refinement.
            DataError: The picture cannot be read, is too large, or memory ran out.
        """
        if not 0 <= request.model < len(self.models):
            raise ConfigError(f"there is no segmenter number {request.model}")
        if request.refinement not in (NO_REFINEMENT, *REFINEMENTS):
            known = ", ".join((NO_REFINEMENT, *REFINEMENTS))
            raise ConfigError(f"there is no refinement {request.refinement!r}; there are {known}")
        digest = hashlib.sha256(request.content).hexdigest()
        with self._turn:
            picture = self._recall(digest)
            if picture is None:
                picture = self._keep(self._read(request), digest)
            key = (digest, str(request.model))
            mask = self._recall(*key)
            if mask is None:
                mask = self._keep(self._run(picture, request.model), *key)
            if request.refinement == NO_REFINEMENT:
                return Result(picture, mask)
            refined = self._recall(*key, request.refinement)
            if refined is None:
                step = compose([request.refinement])
                refined = self._keep(step(picture, mask), *key, request.refinement)
            return Result(picture, refined)

    def encode(self, request: Request, *, level: int, format_name: str) -> bytes:
        """The mask above a level of 0 to 199, as a file of a format.

        Raises:
            ConfigError: There is no such model, refinement, level or format.
            DataError: As `segment`.
        """
        if not 0 <= level < LEVELS:
            raise ConfigError(f"the level is {level}; it must be from 0 to {LEVELS - 1}")
        result = self.segment(request)
        labels = (levels(result.mask) > level).astype(np.uint8)
        found = Found(
            name=Path(request.name).stem or "picture",
            file=request.name,
            labels=labels,
            objects=labels.astype(np.int32),
            object_categories=np.zeros(1, np.intp),
            category_names=("object",),
            named=True,
            probability=result.mask,
            picture=result.picture,
        )
        return encode_format(format_name, found)

    def _read(self, request: Request) -> Picture:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture"
            path.write_bytes(request.content)
            try:
                image = read_image(path, max_megapixels=self.limits.megapixels)
            except UnreadableImage as error:
                name = one_line(request.name)
                raise DataError(f"cannot read {name}: {error.reason}") from None
        return np.ascontiguousarray(image.permute(1, 2, 0).numpy())

    def _run(self, picture: Picture, model: int) -> SoftMask:
        images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        segmenter = self.models[model].segmenter
        assert segmenter.foreground is not None
        try:
            regions = segmenter(images)
        except Exception as error:  # ONNX Runtime's kinds share no other base class
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            reason = one_line(str(error).partition("\n")[0])
            raise DataError(f"the segmenter failed on {size} pixels: {reason}") from None
        mask: SoftMask = regions[0, segmenter.foreground].numpy()
        return mask

    def _recall(self, *key: str) -> Any:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, value: Any, *key: str) -> Any:
        self._kept[key] = value
        while len(self._kept) > 1 and sum(v.size for v in self._kept.values()) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return value


def levels(mask: SoftMask) -> NDArray[np.uint8]:
    """A soft mask [H, W] in [0, 1] as levels ceil(200 p)."""
    # In float64 the product is exact.
    return np.asarray(np.ceil(LEVELS * mask.astype(np.float64)), np.uint8)


def formats() -> list[dict[str, str]]:
    """Names and suffixes of the formats that a mask can be had in."""
    return [{"name": name, "suffix": found.suffix} for name, found in FORMATS.items()]
