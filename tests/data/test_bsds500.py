"""The reader of BSDS500, on tiny copies of its layout and on the set itself."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from segan.data.datasets.bsds500 import Bsds500, Bsds500Config
from segan.data.sample import Annotations
from segan.errors import ConfigError, DataError


def save_truth(path: Path, maps: list[np.ndarray]) -> None:
    """A file of ground truth as the official ones are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), dtype=object)
    for index, labels in enumerate(maps):
        cells[0, index] = {"Segmentation": labels, "Boundaries": np.zeros_like(labels, np.uint8)}
    savemat(path, {"groundTruth": cells})


def make(root: Path, split: str, name: str, size: tuple[int, int] = (6, 8)) -> list[np.ndarray]:
    images = root / "data" / "images" / split
    images.mkdir(parents=True, exist_ok=True)
    number = int(name)
    Image.new("RGB", size[::-1], (number % 255, 9, 9)).save(images / f"{name}.jpg")
    (images / "Thumbs.db").write_bytes(b"junk")
    maps = [
        np.arange(size[0] * size[1], dtype=np.uint16).reshape(size) // divisor + 1
        for divisor in (7, 11)
    ]
    save_truth(root / "data" / "groundTruth" / split / f"{name}.mat", maps)
    return maps


def test_splits_are_the_official_ones_and_truth_is_everybodys(tmp_path: Path) -> None:
    root = tmp_path / "BSDS500"
    maps = make(root, "train", "10")
    make(root, "val", "20", (8, 6))
    for given in (root, tmp_path):
        config = Bsds500Config(root=given)
        names = {split: [s.name for s in Bsds500(config, split)] for split in ("train", "dev")}
        assert names == {"train": ["10"], "dev": ["20"]}
        assert [sample.name for sample in Bsds500(config, "all")] == ["10", "20"]
    sample = Bsds500(config, "train")[0]
    assert sample.boxes is None
    assert sample.image.shape == (3, 6, 8)
    assert isinstance(sample.truth, Annotations)
    assert all(labels.dtype == torch.int32 for labels in sample.truth.labels)
    for labels, expected in zip(sample.truth.labels, maps, strict=True):
        assert np.array_equal(labels.numpy(), expected)


def test_a_missing_split_is_one_clear_line(tmp_path: Path) -> None:
    make(tmp_path, "train", "10")
    message = (
        r"^data\.root: no folder .*images/test for the split 'test'; found train \(split 'train'\)$"
    )
    with pytest.raises(ConfigError, match=message):
        Bsds500(Bsds500Config(root=tmp_path), "test")
    for root in (tmp_path / "gone", tmp_path / "data"):
        for split in ("all", "dev"):
            with pytest.raises(ConfigError, match=r"^data\.root: "):
                Bsds500(Bsds500Config(root=root), split)


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    make(tmp_path, "train", "7")
    (tmp_path / "data" / "images" / "val").mkdir()
    with pytest.raises(DataError, match=r"images/val is in the split 'dev'"):
        Bsds500(Bsds500Config(root=tmp_path), "dev")


def test_broken_truth_is_named(tmp_path: Path) -> None:
    make(tmp_path, "val", "20")
    path = tmp_path / "data" / "groundTruth" / "val" / "20.mat"
    config = Bsds500Config(root=tmp_path)
    for damage in (b"", b"MATLAB 5.0", path.read_bytes()[:200]):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=r"cannot read .*20\.mat: ") as caught:
            Bsds500(config, "dev")[0]
        assert "\n" not in str(caught.value)
    for content, message in (
        ({"segs": np.ones(3)}, "no cell 'groundTruth'"),
        ({"groundTruth": np.ones(3)}, "no cell 'groundTruth'"),
    ):
        savemat(path, content)
        with pytest.raises(DataError, match=rf"cannot read .*20\.mat: .*{message}"):
            Bsds500(config, "dev")[0]
    save_truth(path, [np.ones((6, 8))])
    with pytest.raises(DataError, match=r"20\.mat: a 'Segmentation' is not a matrix of integers"):
        Bsds500(config, "dev")[0]
    save_truth(path, [np.ones((8, 6), np.uint16)])
    with pytest.raises(DataError, match=r"the mask of .*20\.mat is 6 x 8, its picture 8 x 6"):
        Bsds500(config, "dev")[0]
    path.unlink()
    with pytest.raises(DataError, match=r"1 of 1 pictures have no ground truth \(\.mat\): 20"):
        Bsds500(config, "dev")


def test_the_set_itself() -> None:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    config = Bsds500Config(root=Path(os.environ["SEGAN_DATA"]) / "BSDS500")
    train, dev = Bsds500(config, "train"), Bsds500(config, "dev")
    assert (len(train), len(dev)) == (200, 100)
    assert not train.skipped
    for index in range(0, 100, 20):
        sample = dev[index]
        assert isinstance(sample.truth, Annotations)
        assert 4 <= len(sample.truth.labels) <= 9
        for labels in sample.truth.labels:
            assert labels.shape == sample.image.shape[1:]
            assert labels.min() == 1
