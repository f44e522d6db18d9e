"""The readers of the real sets, on tiny copies of their layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from segan.data.datasets.ccp import Ccp, CcpConfig
from segan.data.datasets.dsb2018 import Dsb2018, Dsb2018Config
from segan.data.datasets.raccoon import Raccoon, RaccoonConfig
from segan.data.datasets.wbc import Wbc, WbcConfig
from segan.data.sample import Instances, Mask, Split
from segan.data.splits import split_of
from segan.errors import ConfigError, DataError


def picture(path: Path, colour: tuple[int, int, int] = (10, 10, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), colour).save(path)


def mask(path: Path, levels: dict[int, tuple[slice, slice]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 12), dtype=np.uint8)
    for level, area in levels.items():
        pixels[area] = level
    Image.fromarray(pixels).save(path)


def test_dsb2018_gives_instances_and_their_boxes(tmp_path: Path) -> None:
    root = tmp_path / "stage1_train" / "abc"
    picture(root / "images" / "abc.png")
    mask(root / "masks" / "1.png", {255: (slice(0, 2), slice(0, 3))})
    mask(root / "masks" / "2.png", {})
    mask(root / "masks" / "3.png", {255: (slice(1, 4), slice(2, 5))})
    sample = Dsb2018(Dsb2018Config(root=tmp_path), "all")[0]
    assert sample.name == "abc"
    assert isinstance(sample.truth, Instances)
    labels = sample.truth.labels
    assert labels.dtype == torch.int32
    assert labels.unique().tolist() == [0, 1, 2]
    assert labels[1, 2] == 1
    assert sample.boxes is not None
    assert sample.boxes.tolist() == [[0, 0, 3, 2], [2, 1, 5, 4]]


def test_dsb2018_looks_are_told_apart_without_masks(tmp_path: Path) -> None:
    colours = {"dark": (9, 9, 9), "light": (226, 226, 226), "purple": (200, 170, 210)}
    for look, colour in colours.items():
        picture(tmp_path / look / "images" / f"{look}.png", colour)
        mask(tmp_path / look / "masks" / "1.png", {255: (slice(0, 2), slice(0, 3))})
        config = Dsb2018Config(root=tmp_path, look=look)
        assert [sample.name for sample in Dsb2018(config, "all")] == [look]
        elsewhere: Split = "dev" if split_of(look) == "test" else "test"
        with pytest.raises(DataError, match=f"no {look} picture of .* is in the split"):
            Dsb2018(config, elsewhere)


def test_wbc_reads_cells_or_nuclei_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in ["100", "11", "2"]:
        picture(tmp_path / f"{number}.bmp")
        levels = {128: (slice(1, 5), slice(1, 6)), 255: (slice(2, 4), slice(2, 4))}
        mask(tmp_path / f"{number}.png", levels)
    cells = Wbc(WbcConfig(root=tmp_path), "all")
    nuclei = Wbc(WbcConfig(root=tmp_path, objects="nucleus"), "all")
    assert [cells[i].name for i in range(3)] == ["2", "11", "100"]
    areas = []
    for dataset in (cells, nuclei):
        truth = dataset[0].truth
        assert isinstance(truth, Mask)
        areas.append(int(truth.mask.sum()))
    assert areas == [20, 4]
    assert cells[0].boxes is not None
    assert cells[0].boxes.tolist() == [[1, 1, 6, 5]]


def test_ccp_reads_every_label_as_the_person(tmp_path: Path) -> None:
    labels = np.zeros((8, 12), dtype=np.uint8)
    labels[2:7, 3:6] = 19
    labels[1, 4] = 41
    (tmp_path / "annotations" / "pixel-level").mkdir(parents=True)
    (tmp_path / "annotations" / "image-level").mkdir()
    savemat(tmp_path / "annotations" / "pixel-level" / "0001.mat", {"groundtruth": labels})
    (tmp_path / "annotations" / "image-level" / "1005.mat").touch()
    for name in ["0001", "1005"]:
        picture(tmp_path / "photos" / f"{name}.jpg")
    dataset = Ccp(CcpConfig(root=tmp_path), "all")
    assert len(dataset) == 1
    truth = dataset[0].truth
    assert isinstance(truth, Mask)
    assert torch.equal(truth.mask, torch.from_numpy(labels > 0))
    assert dataset[0].boxes is not None
    assert dataset[0].boxes.tolist() == [[3, 1, 6, 7]]
    picture(tmp_path / "photos" / "0002.jpg")
    with pytest.raises(DataError, match=r"1 of 2 pictures have no pixel-level labels .*: 0002"):
        Ccp(CcpConfig(root=tmp_path), "all")
    picture(tmp_path / "photos" / "0001.jpg")
    (tmp_path / "photos" / "0002.jpg").unlink()
    (tmp_path / "annotations" / "pixel-level" / "0001.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match=r"cannot read .*0001\.mat"):
        Ccp(CcpConfig(root=tmp_path), "all")[0]


def test_raccoon_reads_boxes_and_no_masks(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for number in (2, 10):
        picture(tmp_path / "images" / f"raccoon-{number}.jpg")
        box = f"<xmin>1</xmin><ymin>2</ymin><xmax>{number}</xmax><ymax>9</ymax>"
        text = f"<annotation><object><bndbox>{box}</bndbox></object></annotation>"
        (tmp_path / "annotations" / f"raccoon-{number}.xml").write_text(text)
    dataset = Raccoon(RaccoonConfig(root=tmp_path), "all")
    assert [dataset[i].name for i in range(2)] == ["raccoon-2", "raccoon-10"]
    assert dataset[1].truth is None
    assert dataset[1].boxes is not None
    assert dataset[1].boxes.tolist() == [[0, 1, 10, 8]]
    (tmp_path / "annotations" / "raccoon-2.xml").unlink()
    with pytest.raises(DataError, match=r"no annotation \(\.xml\): raccoon-2"):
        Raccoon(RaccoonConfig(root=tmp_path), "all")


def test_an_empty_split_is_a_data_error(tmp_path: Path) -> None:
    number = next(str(n) for n in range(99) if split_of(str(n)) == "train")
    picture(tmp_path / f"{number}.bmp")
    mask(tmp_path / f"{number}.png", {255: (slice(2, 4), slice(2, 4))})
    with pytest.raises(DataError, match=r"no picture of .* is in the split 'test'"):
        Wbc(WbcConfig(root=tmp_path), "test")


def test_masks_must_be_there_and_of_their_pictures_size(tmp_path: Path) -> None:
    picture(tmp_path / "1.bmp")
    with pytest.raises(DataError, match=r"1 of 1 pictures have no mask \(\.png\): 1"):
        Wbc(WbcConfig(root=tmp_path), "all")
    Image.new("L", (13, 8)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match="the mask of 1 is 13 x 8, its picture 12 x 8"):
        Wbc(WbcConfig(root=tmp_path), "all")[0]
    picture(tmp_path / "dsb" / "abc" / "images" / "abc.png")
    (tmp_path / "dsb" / "abc" / "masks").mkdir()
    with pytest.raises(DataError, match="1 of 1 pictures have no masks: abc"):
        Dsb2018(Dsb2018Config(root=tmp_path / "dsb"), "all")


def test_wrong_roots_are_config_errors(tmp_path: Path) -> None:
    for build in (
        lambda root: Dsb2018(Dsb2018Config(root=root)),
        lambda root: Wbc(WbcConfig(root=root)),
        lambda root: Ccp(CcpConfig(root=root)),
        lambda root: Raccoon(RaccoonConfig(root=root)),
    ):
        for root in (tmp_path / "gone", tmp_path):
            with pytest.raises(ConfigError, match=r"^data\.root: "):
                build(root)
