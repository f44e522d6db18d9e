from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segan import config
from segan.data.datasets.folder import Folder, FolderConfig
from segan.data.sample import Mask, Split
from segan.errors import ConfigError, DataError


def save(path: Path, seed: int = 0, size: tuple[int, int] = (10, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, part: Split = "all", **options: object) -> Folder:
    return Folder(config.build(FolderConfig, {"root": str(root), **options}), part)


def names(dataset: Folder) -> list[str]:
    return [dataset[i].name for i in range(len(dataset))]


def mask_of(dataset: Folder, index: int = 0) -> torch.Tensor:
    truth = dataset[index].truth
    assert isinstance(truth, Mask)
    return truth.mask


def test_names_are_paths_without_suffix_and_unique(tmp_path: Path) -> None:
    for i, name in enumerate(["b/x.png", "x.png", "ü 1.png", "y.png", "y.bmp", "v1.2.png"]):
        save(tmp_path / name, seed=i)
    dataset = folder(tmp_path)
    assert names(dataset) == ["b/x", "v1.2", "x", "y.bmp", "y.png", "ü 1"]
    assert dataset.provides == {"images"}
    assert dataset.box_source == ""
    assert dataset[0].image.shape == (3, 6, 10)
    assert dataset[0].boxes is None
    assert dataset[0].truth is None


def test_names_stay_unique_when_a_short_name_is_anothers_full_name(tmp_path: Path) -> None:
    for name in ["a.png", "a.bmp", "a.png.png"]:
        save(tmp_path / name)
    assert names(folder(tmp_path)) == ["a.bmp", "a.png", "a.png.png"]


def test_all_images_train_unless_split(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / f"{i}.png", seed=i)
    assert len(folder(tmp_path, "train")) == len(folder(tmp_path, "all")) == 40
    parts: list[Split] = ["train", "dev", "test"]
    sizes = [len(folder(tmp_path, part, split=True)) for part in parts]
    assert sum(sizes) == 40
    assert sizes[1:] == [len(folder(tmp_path, part)) for part in parts[1:]]
    assert min(sizes) > 0


def test_pictures_that_will_be_scored_are_not_trained_on(tmp_path: Path) -> None:
    for i in range(40):
        save(tmp_path / "images" / f"{i}.png", seed=i)
        save(tmp_path / "masks" / f"{i}.png", seed=i)
    parts: list[Split] = ["train", "dev", "test"]
    found = [
        names(folder(tmp_path / "images", part, masks=str(tmp_path / "masks"))) for part in parts
    ]
    assert len({name for part in found for name in part}) == sum(map(len, found)) == 40
    assert min(map(len, found)) > 0


def test_masks_pair_by_path_and_take_the_size_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "images" / "deep" / "a.jpg", size=(40, 20))
    Image.open(path).save(path, exif=exif)
    mask = np.zeros((20, 10), dtype=np.uint8)
    mask[:10] = 255
    mask[0, 0] = 127
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "masks" / "deep" / "a.png")
    dataset = folder(tmp_path / "images", masks=str(tmp_path / "masks"))
    assert names(dataset) == ["deep/a"]
    assert dataset[0].image.shape == (3, 40, 20)
    expected = torch.zeros(40, 20, dtype=torch.bool)
    expected[:20] = True
    expected[:2, :2] = False
    assert torch.equal(mask_of(dataset), expected)


def test_masks_inside_the_root_are_no_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    Image.new("L", (10, 6), 255).save(save(tmp_path / "masks" / "a.png"))
    dataset = folder(tmp_path, masks=str(tmp_path / "masks"))
    assert names(dataset) == ["a"]
    assert dataset.provides == {"images", "masks"}
    assert mask_of(dataset).all()


def test_missing_masks_are_named(tmp_path: Path) -> None:
    for name in "abcde":
        save(tmp_path / "images" / f"{name}.png")
    save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"4 of 5 pictures have no mask in .*: b, c, d, and 1 more"):
        folder(tmp_path / "images", masks=str(tmp_path / "masks"))


def test_two_masks_of_one_picture_are_refused(tmp_path: Path) -> None:
    for name in ["images/a.png", "masks/a.png", "masks/a.bmp"]:
        save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"a\.bmp and a\.png"):
        folder(tmp_path / "images", masks=str(tmp_path / "masks"))


def test_pictures_with_an_unreadable_mask_are_skipped(tmp_path: Path) -> None:
    for name in ["images/a.png", "images/b.png", "masks/a.png", "masks/b.png"]:
        save(tmp_path / name)
    (tmp_path / "masks" / "b.png").write_text("")
    dataset = folder(tmp_path / "images", masks=str(tmp_path / "masks"))
    assert names(dataset) == ["a"]
    assert dataset.skipped == (("b", "its mask: the file is empty"),)


def test_unreadable_pictures_are_skipped(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("<html>")
    dataset = folder(tmp_path)
    assert names(dataset) == ["a"]
    assert [name for name, _ in dataset.skipped] == ["b"]


def test_a_file_that_breaks_later_is_a_data_error(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    dataset = folder(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot read .*a\.png"):
        dataset[0]


def test_boxes_are_matched_checked_and_clipped(tmp_path: Path) -> None:
    for name in ["a.png", "b.png"]:
        save(tmp_path / name)
    table = tmp_path / "boxes.csv"
    table.write_text("image,x0,y0,x1,y1\nb.png,-1,0,4,4\n")
    dataset = folder(tmp_path, boxes=str(table))
    assert dataset.provides == {"images", "boxes"}
    assert dataset.box_source == "annotated"
    boxes = [dataset[i].boxes for i in range(2)]
    assert [box.tolist() for box in boxes if box is not None] == [[], [[0, 0, 4, 4]]]
    table.write_text("image,x0,y0,x1,y1\nb.png,10,0,14,4\n")
    with pytest.raises(
        ConfigError, match=r"box 1 of picture b, .*lies outside the picture of 10 x 6"
    ):
        folder(tmp_path, boxes=str(table))


def test_missing_and_empty_folders_and_splits_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root: .* does not exist"):
        folder(tmp_path / "gone")
    with pytest.raises(ConfigError, match="no images in"):
        folder(tmp_path)
    save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"data\.masks: .* does not exist"):
        folder(tmp_path, masks=str(tmp_path / "gone"))
    # By its name, "a" is in dev.
    with pytest.raises(DataError, match=r"none of the 1 images .* falls into the split 'test'"):
        folder(tmp_path, "test")
