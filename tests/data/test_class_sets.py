"""Sets of classes and of regions with a file of truth per picture, on tiny copies of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segan.data.datasets.camvid import CamVid, CamVidConfig
from segan.data.datasets.colorseg import ColorSeg, ColorSegConfig
from segan.data.datasets.eth_road import EthRoad, EthRoadConfig
from segan.data.images import UnreadableImage, read_labels
from segan.data.labels import read_classes, read_colour_classes, read_regions
from segan.data.sample import Annotations, Classes, Mask
from segan.data.splits import in_split, may_be_in
from segan.errors import ConfigError, DataError

SIZE = (12, 8)


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def stored(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def labels(fill: int, corner: int) -> np.ndarray:
    found = np.full((8, 12), fill, dtype=np.uint8)
    found[0, 0] = corner
    return found


# --- reading label files -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "1"])
def test_label_numbers_are_read_as_stored(tmp_path: Path, kind: str) -> None:
    numbers = np.arange(96).reshape(8, 12) % (2 if kind == "1" else 90)
    if kind == "I;16":
        numbers = numbers * 700
    image = Image.fromarray(numbers.astype(np.uint16 if kind == "I;16" else np.uint8))
    if kind == "P":
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    if kind == "1":
        image = Image.fromarray(numbers.astype(bool))
    image.save(tmp_path / "a.png")
    found = read_labels(tmp_path / "a.png")
    assert found.dtype == torch.int32
    assert found.tolist() == numbers.tolist()


def test_label_maps_are_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(labels(0, 7))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    image.save(tmp_path / "a.png", exif=exif)
    found = read_labels(tmp_path / "a.png")
    assert found.shape == (12, 8)
    assert found[0, 7] == 7


def test_colours_and_fractions_are_no_label_numbers(tmp_path: Path) -> None:
    picture(tmp_path / "rgb.png")
    Image.fromarray(np.zeros((8, 12), np.float32)).save(tmp_path / "f.tif")
    for name, mode in (("rgb.png", "RGB"), ("f.tif", "F")):
        with pytest.raises(UnreadableImage, match=rf"{name}: a label map .* this has mode {mode}"):
            read_labels(tmp_path / name)


def test_classes_are_looked_up_and_unknown_numbers_named(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", labels(5, 255))
    found = read_classes(path, classes={5: 1, 3: 0, 255: -1})
    assert found.dtype == torch.int32
    assert found[0].tolist() == [-1] + [1] * 11
    with pytest.raises(UnreadableImage, match=r"a\.png: 255 is not one of its set's 2 labels"):
        read_classes(path, classes={5: 1, 3: 0})
    with pytest.raises(UnreadableImage, match=r"a\.png: 5 is not one of its set's 2 labels"):
        read_classes(path, classes={3: 1, 255: 0})


def test_colour_classes_have_a_tolerance(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[2:] = (252, 255, 0)
    path = stored(tmp_path / "a.png", pixels)
    classes = {(255, 255, 0): 4, (0, 0, 0): -1}
    found = read_colour_classes(path, classes=classes, tolerance=3)
    assert found.dtype == torch.int32
    assert found[:, 0].tolist() == [-1, -1, 4, 4, 4, 4, 4, 4]
    with pytest.raises(UnreadableImage, match=r"a\.png: the colour \(252, 255, 0\) is not one"):
        read_colour_classes(path, classes=classes, tolerance=2)


def test_regions_are_colours_and_black_or_transparent_is_unannotated(tmp_path: Path) -> None:
    pixels = np.zeros((3, 2, 4), np.uint8)
    pixels[0] = (0, 0, 9, 255)
    pixels[1] = (0, 0, 0, 255)
    pixels[2] = (200, 1, 1, 255)
    pixels[2, 1] = (50, 60, 70, 0)
    expected = [[1, 1], [0, 0], [2, 0]]
    found = read_regions(stored(tmp_path / "a.png", pixels))
    assert found.dtype == torch.int32
    assert found.tolist() == expected
    pixels[..., 3], pixels[1] = 255, (1, 1, 1, 255)
    assert read_regions(stored(tmp_path / "b.png", pixels)).min() == 1


# --- parts of a set ------------------------------------------------------------------------------


def test_a_training_part_is_divided_and_other_parts_stay_whole() -> None:
    names = [f"picture {n}" for n in range(2000)]
    train = {name for name in names if in_split(name, "train or dev", "train")}
    dev = {name for name in names if in_split(name, "train or dev", "dev")}
    assert not train & dev
    assert train | dev == set(names)
    assert len(dev) == pytest.approx(400, abs=60)
    assert not any(in_split(name, "train or dev", "test") for name in names)
    assert all(in_split(name, "test", "test") for name in names)
    assert not may_be_in("train or dev", "test")
    assert not may_be_in("test", "dev")
    for part in ("train", "dev", "test", "train or dev", "any"):
        assert may_be_in(part, "all")
        assert in_split("a", part, "all")


# --- CamVid --------------------------------------------------------------------------------------


def camvid(root: Path, **lists: list[str]) -> None:
    for part, stems in lists.items():
        lines = []
        for seed, stem in enumerate(stems):
            picture(root / part / f"{stem}.png", seed)
            stored(root / f"{part}annot" / f"{stem}.png", labels(4, 11))
            places = [f"/SegNet/CamVid/{folder}/{stem}.png" for folder in (part, f"{part}annot")]
            lines.append(" ".join(places) + "\n")
        (root / f"{part}.txt").write_text("".join(lines))


def test_camvid_has_its_own_splits_and_void(tmp_path: Path) -> None:
    camvid(tmp_path / "CamVid", train=["a", "b"], val=["c"])
    datasets = {s: CamVid(CamVidConfig(root=tmp_path), s) for s in ("train", "dev", "all")}
    names = {split: [sample.name for sample in found] for split, found in datasets.items()}
    assert names == {"train": ["a", "b"], "dev": ["c"], "all": ["a", "b", "c"]}
    truth = datasets["train"][0].truth
    assert isinstance(truth, Classes)
    assert truth.labels[0].tolist() == [-1] + [4] * 11
    assert len(CamVid.class_names) == 11
    with pytest.raises(DataError, match=r"no picture of .* is in the split 'test'"):
        CamVid(CamVidConfig(root=tmp_path), "test")
    camvid(tmp_path / "CamVid", test=["d"])
    assert CamVid(CamVidConfig(root=tmp_path / "CamVid"), "test")[0].name == "d"


def test_camvid_lists_lead_nowhere_else(tmp_path: Path) -> None:
    camvid(tmp_path, train=["a"])
    for line in ("a.png", "train/../a.png ../a.png"):
        (tmp_path / "train.txt").write_text(line)
        with pytest.raises(DataError, match=r"train\.txt: .* is not a picture and its label map"):
            CamVid(CamVidConfig(root=tmp_path))


def test_wrong_truth_is_one_line_naming_the_file(tmp_path: Path) -> None:
    camvid(tmp_path, train=["a"])
    file = tmp_path / "trainannot" / "a.png"

    def first() -> Tensor:
        return CamVid(CamVidConfig(root=tmp_path))[0].image

    stored(file, labels(4, 12))
    with pytest.raises(DataError, match=r"trainannot/a\.png: 12 is not one of its set's 12 labels"):
        first()
    stored(file, labels(4, 11)[:, :5])
    with pytest.raises(DataError, match=r"trainannot/a\.png is 5 x 8, its picture 12 x 8"):
        first()
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot read .*trainannot/a\.png"):
        first()
    file.unlink()
    with pytest.raises(DataError, match=r"1 of 1 pictures have no label map \(\.png\): a"):
        first()


# --- the others ----------------------------------------------------------------------------------


def test_eth_road_thresholds_at_127(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "training"
    picture(folder / "images" / "satImage_001.png")
    stored(folder / "groundtruth" / "satImage_001.png", labels(127, 128))
    for root in (tmp_path, folder):
        dataset = EthRoad(EthRoadConfig(root=root), "all")
        assert [sample.name for sample in dataset] == ["satImage_001"]
    truth = dataset[0].truth
    assert isinstance(truth, Mask)
    assert truth.mask.sum() == 1
    assert truth.mask[0, 0]


def test_colorseg_joins_its_parts_without_shadow_masks(tmp_path: Path) -> None:
    for part, stem in (("IITP-diffuse", "FAN&BALL"), ("Selected-SFU", "paper")):
        picture(tmp_path / part / "images" / f"{stem}.TIF")
        pixels = np.zeros((8, 12, 3), np.uint8)
        pixels[4:] = 77
        stored(tmp_path / part / "groud_truth" / f"{stem}.png", pixels)
        stored(tmp_path / part / "groud_truth" / f"{stem}.1.png", pixels)
    dataset = ColorSeg(ColorSegConfig(root=tmp_path), "all")
    assert [s.name for s in dataset] == ["IITP-diffuse/FAN&BALL", "Selected-SFU/paper"]
    truth = dataset[0].truth
    assert isinstance(truth, Annotations)
    (regions,) = truth.labels
    assert regions[:, 0].tolist() == [0] * 4 + [1] * 4


def test_wrong_roots_are_config_errors(tmp_path: Path) -> None:
    builders: list[Callable[[Path], object]] = [
        lambda root: CamVid(CamVidConfig(root=root)),
        lambda root: EthRoad(EthRoadConfig(root=root)),
        lambda root: ColorSeg(ColorSegConfig(root=root)),
    ]
    for build in builders:
        for root in (tmp_path / "gone", tmp_path):
            with pytest.raises(ConfigError, match=r"^data\.root: "):
                build(root)
