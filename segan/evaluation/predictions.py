"""A folder of somebody's predictions, one file per picture, in the formats the benchmark takes."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from segan.data.images import UnreadableImage, one_line, reading
from segan.errors import ConfigError, DataError
from segan.evaluation.hierarchies import Contours, Hierarchy, LabelMap, Partitions, Prediction

SUFFIXES = (".mat", ".npz", ".npy", ".png")
_KINDS = "label maps (.mat with 'segs', .npy, .npz, .png), hierarchies (.mat with 'ucm2')"

Kind = Literal["regions", "boundaries"]


@dataclass(frozen=True)
class PredictionFolder:
    """Files named after pictures: `2018.mat`, `2018.npy`, `2018.npz` or `2018.png`.

    Attributes:
        root: The folder; files in it that no picture is named after are left alone.
    """

    root: Path

    def read(self, name: str, size: tuple[int, int], *, kind: Kind) -> Prediction:
        """The prediction for a picture.

        - `.mat` with a cell `segs`: label maps [H, W]; with `ucm2`: a hierarchy [2 H + 1, 2 W + 1];
        - `.npy`, or `.npz` with one array: integers, [H, W] or [L, H, W];
        - `.png` with a palette or 16 bits: a label map. With 8 bits of gray: contour strengths
          for "boundaries", as in the benchmark, and a label map for "regions".

        Args:
            name: Of the picture.
            size: Its height and width.
            kind: What is scored.

        Raises:
            DataError: There is no such file or more than one, it is damaged, or it is of another
                size or type.
        """
        path = self._path(name)
        with reading(path):
            prediction = _read(path, kind)
        arrays = prediction.labels if isinstance(prediction, Partitions) else (prediction.strength,)
        wanted = size
        if isinstance(prediction, Hierarchy):
            wanted = 2 * size[0] + 1, 2 * size[1] + 1
        for array in arrays:
            if array.shape != wanted:
                found = " x ".join(map(str, array.shape))
                raise UnreadableImage(
                    path, f"it is {found} (rows x columns), expected {wanted[0]} x {wanted[1]}"
                )
        return prediction

    def _path(self, name: str) -> Path:
        found = [path for suffix in SUFFIXES if (path := self.root / f"{name}{suffix}").is_file()]
        where = one_line(str(self.root))
        if not found:
            raise DataError(
                f"no prediction for {one_line(name)} in {where}: "
                f"looked for {', '.join(name + suffix for suffix in SUFFIXES)}"
            )
        if len(found) > 1:
            raise DataError(
                f"{where} has {' and '.join(path.name for path in found)}; keep one of them"
            )
        return found[0]


def open_predictions(root: Path) -> PredictionFolder:
    """A folder of predictions, checked to hold some.

    Raises:
        ConfigError: It holds no such file.
    """
    if not any(path.suffix in SUFFIXES for path in root.iterdir()):
        raise ConfigError(
            f"{one_line(str(root))} is no run (it has no segmenter.safetensors) and no folder of "
            f"predictions (it has no {', '.join(SUFFIXES)} files)"
        )
    return PredictionFolder(root)


def _read(path: Path, kind: Kind) -> Prediction:
    match path.suffix:
        case ".mat":
            prediction = _read_mat(path)
        case ".png":
            prediction = _read_png(path, kind)
        case _:
            array = _read_numpy(path)
            stack = array if array.ndim == 3 else array[None]
            if array.ndim not in (2, 3) or not len(stack):
                raise UnreadableImage(path, f"it has {array.ndim} axes, expected [H, W], [L, H, W]")
            prediction = Partitions(tuple(_labels(path, labels) for labels in stack))
    if isinstance(prediction, Contours) and kind == "regions":
        raise UnreadableImage(path, f"contours enclose no regions; expected {_KINDS}")
    return prediction


def _read_mat(path: Path) -> Prediction:
    content = loadmat(path, variable_names=["segs", "ucm2"])
    if "segs" in content:
        cells = content["segs"].ravel()
        if content["segs"].dtype != object or not len(cells):
            raise UnreadableImage(path, "'segs' is not a cell of label maps")
        return Partitions(tuple(_labels(path, labels) for labels in cells))
    if "ucm2" in content:
        return Hierarchy(_strength(path, content["ucm2"]))
    raise UnreadableImage(path, "it has neither 'segs' nor 'ucm2'")


def _read_png(path: Path, kind: Kind) -> Prediction:
    with path.open("rb") as stream, Image.open(stream, formats=("PNG",)) as picture:
        picture.load()
        array = np.asarray(picture)
        if picture.mode == "1" and kind == "boundaries":
            return Contours(array.astype(np.float64))
        if picture.mode == "L" and kind == "boundaries":
            return Contours(array / 255)
        if picture.mode in ("1", "L", "P") or picture.mode.startswith("I"):
            return Partitions((_labels(path, array.astype(np.int32)),))
        raise UnreadableImage(path, f"it is {picture.mode}, expected gray or palette indices")


def _read_numpy(path: Path) -> NDArray[Any]:
    if path.suffix == ".npy":
        with path.open("rb") as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise UnreadableImage(path, f"it holds {len(names)} arrays, expected one")
        with archive.open(names[0]) as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _labels(path: Path, labels: NDArray[Any]) -> LabelMap:
    """A label map as int32; MATLAB writes whole numbers as floats."""
    if labels.ndim != 2 or labels.size == 0:
        raise UnreadableImage(path, "a label map is not a matrix")
    whole = labels.dtype.kind in "iu" or (
        path.suffix == ".mat" and labels.dtype.kind == "f" and bool((labels == labels // 1).all())
    )
    if not whole:
        raise UnreadableImage(path, f"labels are {labels.dtype}, expected whole numbers")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise UnreadableImage(path, f"labels run from {labels.min()} to {labels.max()}, not from 0")
    result: LabelMap = labels.astype(np.int32)
    return result


def _strength(path: Path, strength: NDArray[Any]) -> NDArray[np.float64]:
    if strength.ndim != 2 or strength.dtype.kind != "f":
        raise UnreadableImage(path, f"'ucm2' is {strength.dtype}, expected a matrix of floats")
    if not (np.isfinite(strength).all() and strength.min() >= 0 and strength.max() <= 1):
        raise UnreadableImage(path, "'ucm2' has values outside [0, 1]")
    result: NDArray[np.float64] = strength.astype(np.float64)
    return result
