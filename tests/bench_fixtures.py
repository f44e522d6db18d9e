"""The official benchmark's own regression files: inputs and the numbers its program printed."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from segan.evaluation.hierarchies import Contours, Hierarchy, Partitions, Prediction

NUM_THRESHOLDS = 5


def bench_data() -> Path:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    return Path(os.environ["SEGAN_DATA"]) / "BSDS500-bench-fixtures" / "bench" / "data"


def names() -> list[str]:
    """Of the pictures, in the order of the printed lines."""
    return sorted(path.stem for path in (bench_data() / "groundTruth").glob("*.mat"))


def people(name: str) -> list[NDArray[np.int32]]:
    cells = loadmat(bench_data() / "groundTruth" / f"{name}.mat")["groundTruth"][0]
    return [cell["Segmentation"][0, 0].astype(np.int32) for cell in cells]


def marked(name: str) -> list[NDArray[np.bool_]]:
    """The people's boundaries as the files give them."""
    cells = loadmat(bench_data() / "groundTruth" / f"{name}.mat")["groundTruth"][0]
    return [cell["Boundaries"][0, 0] > 0 for cell in cells]


def prediction(name: str, kind: str) -> Prediction:
    if kind == "png":
        return Contours(np.asarray(Image.open(bench_data() / "png" / f"{name}.png")) / 255)
    content = loadmat(bench_data() / kind / f"{name}.mat")[kind]
    if kind == "ucm2":
        return Hierarchy(content)
    return Partitions(tuple(labels.astype(np.int32) for labels in content.ravel()))


def printed(test: str, file: str) -> NDArray[np.float64]:
    """The numbers in one of the official program's output files, [lines, columns]."""
    return np.loadtxt(bench_data() / test / f"{file}.txt", ndmin=2)


def same_digits(ours: object, theirs: NDArray[np.float64]) -> bool:
    """Whether numbers are equal when printed with six digits, as MATLAB's %g does."""
    flat = np.ravel(np.asarray(ours, np.float64))
    return [f"{a:g}" for a in flat] == [f"{b:g}" for b in theirs.ravel()]
