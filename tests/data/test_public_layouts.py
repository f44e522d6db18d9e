"""Readers of public sets that are too large or too restricted to have here, on tiny copies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from segan import config, data
from segan.cli import main
from segan.data.datasets.cityscapes import Cityscapes, CityscapesConfig
from segan.data.datasets.coco_stuff import (
    CLASS_NAMES,
    GROUPS,
    CocoStuff,
    CocoStuffConfig,
    classes_of,
)
from segan.data.datasets.cub200 import Cub200, Cub200Config
from segan.data.datasets.flowers102 import Flowers102, Flowers102Config
from segan.data.datasets.potsdam import Potsdam, PotsdamConfig
from segan.data.datasets.saliency import DutOmronConfig, DutsConfig, EcssdConfig, Saliency
from segan.data.datasets.voc2012 import Voc2012, Voc2012Config
from segan.data.sample import Classes, Dataset, Mask, Sample, Split
from segan.data.splits import in_split
from segan.errors import ConfigError, DataError

SPLITS: tuple[Split, ...] = ("train", "dev", "test", "all")


def picture(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    stored(path, pixels)


def stored(path: Path, pixels: np.ndarray, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def row(*numbers: int) -> np.ndarray:
    """A label map of 8 x 12 whose first row begins with the numbers, the rest all the last."""
    labels = np.full((8, 12), numbers[-1], dtype=np.uint8)
    labels[0, : len(numbers)] = numbers
    return labels


def first_row(sample: Sample, count: int) -> list[int]:
    assert isinstance(sample.truth, Classes)
    assert sample.truth.labels.dtype == torch.int32
    assert sample.truth.labels.shape == sample.image.shape[1:]
    return sample.truth.labels[0, :count].tolist()


def names(build: Callable[[Split], Dataset]) -> dict[str, list[str]]:
    """The pictures of each split; an empty split is a DataError and gives none."""
    found: dict[str, list[str]] = {}
    for split in SPLITS:
        try:
            dataset = build(split)
        except DataError as error:
            if f"is in the split '{split}'" not in str(error):
                raise
            found[split] = []
        else:
            found[split] = [dataset[i].name for i in range(len(dataset))]
    return found


def placed(*stems: str) -> dict[str, list[str]]:
    """Where names of a training part go."""
    return {s: [stem for stem in stems if in_split(stem, "train or dev", s)] for s in SPLITS[:2]}


# --- COCO-Stuff ----------------------------------------------------------------------------------


def test_coco_labels_are_each_in_one_of_27_groups() -> None:
    numbers = sorted(number for group in GROUPS.values() for number in group)
    assert numbers == list(range(182))
    assert len(GROUPS) == 27
    things = [n for name, group in GROUPS.items() if name.endswith("-things") for n in group]
    assert sorted(things) == list(range(91))
    assert [len(found) for found in CLASS_NAMES.values()] == [27, 15, 3]
    # Numbers of the pixel maps are one less than those in the set's list of labels.
    known = {
        1: "person-things",
        3: "vehicle-things",
        72: "electronic-things",
        62: "furniture-things",
    }
    known |= {106: "sky-stuff", 157: "sky-stuff", 169: "plant-stuff", 149: "ground-stuff"}
    known |= {
        182: "solid-stuff",
        120: "water-stuff",
        128: "building-stuff",
        113: "structural-stuff",
    }
    for label, name in known.items():
        assert label - 1 in GROUPS[name]


def coco(root: Path, part: str, stem: str, labels: np.ndarray, maps: str = "annotations") -> None:
    picture(root / "images" / part / f"{stem}.jpg", seed=len(stem))
    stored(root / maps / part / f"{stem}.png", labels)


@pytest.mark.parametrize("maps", ["annotations", "stuffthingmaps"])
def test_coco_stuff_has_27_15_or_3_classes(tmp_path: Path, maps: str) -> None:
    coco(tmp_path, "val2017", "000000000139", row(0, 105, 168, 148, 177, 255), maps)
    expected = {27: [9, 23, 22, 21, 26, -1], 15: [-1, 11, 10, 9, 14, -1], 3: [-1, 0, 1, 2, -1, -1]}
    for count, classes in expected.items():
        settings = config.build(CocoStuffConfig, {"root": str(tmp_path), "classes": count})
        dataset = CocoStuff(settings, "test")
        assert first_row(dataset[0], 6) == classes
        assert len(dataset.class_names) == count
        words = ("person", "sky", "plant", "ground", "water", "")
        for number, name in zip(classes, words, strict=True):
            assert number < 0 or dataset.class_names[number].startswith(name)


def test_coco_stuff_divides_its_training_part(tmp_path: Path) -> None:
    stems = [f"{n:012}" for n in (9, 25, 30, 34, 36, 42, 49, 61)]
    for seed, stem in enumerate(stems):
        coco(tmp_path, "train2017", stem, row(0))
        picture(tmp_path / "images" / "train2017" / f"{stem}.jpg", seed)
    coco(tmp_path, "val2017", "000000000139", row(0))
    found = names(lambda split: CocoStuff(CocoStuffConfig(root=tmp_path), split))
    assert found == {
        **placed(*stems),
        "test": ["000000000139"],
        "all": [*stems, "000000000139"],
    }
    assert found["train"]


def test_coco_stuff_takes_curated_lists(tmp_path: Path) -> None:
    for stem in ("000000000139", "000000000285"):
        coco(tmp_path, "val2017", stem, row(0))
    curated = tmp_path / "curated" / "val2017" / "few.txt"
    curated.parent.mkdir(parents=True)
    curated.write_text("000000000285\n")
    settings = CocoStuffConfig(root=tmp_path, curated="few.txt")
    assert names(lambda split: CocoStuff(settings, split))["test"] == ["000000000285"]
    curated.write_text("../000000000285\n")
    with pytest.raises(DataError, match=r"few\.txt: '\.\./000000000285' is not the name"):
        CocoStuff(settings, "test")


def test_numbers_outside_the_labels_are_refused(tmp_path: Path) -> None:
    coco(tmp_path, "val2017", "a", row(182))
    with pytest.raises(DataError, match=r"a\.png: 182 is not one of its set's 183 labels"):
        CocoStuff(CocoStuffConfig(root=tmp_path), "test")[0]
    assert classes_of(CLASS_NAMES[3])[255] == -1


def test_a_wrong_number_of_classes_names_the_right_ones(tmp_path, capsys) -> None:
    arguments = ["--root", str(tmp_path), "--set", "classes=5"]
    assert main(["evaluate", "otsu", "--data", "coco_stuff", *arguments]) == 2
    assert "'data.classes' is 5; valid: 27, 15, 3" in capsys.readouterr().err


# --- Potsdam -------------------------------------------------------------------------------------


def tile(root: Path, name: str, labels: np.ndarray | None) -> np.ndarray:
    pixels = np.random.default_rng(7).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    stored(root / "2_Ortho_RGB" / f"top_potsdam_{name}_RGB.tif", pixels)
    if labels is not None:
        stored(root / "5_Labels_for_participants" / f"top_potsdam_{name}_label.tif", labels)
    return pixels


def test_potsdam_is_shrunk_and_cut_into_squares(tmp_path: Path) -> None:
    labels = np.full((70, 100, 3), 255, dtype=np.uint8)
    labels[34:, :32] = (252, 255, 0)  # a car, nearly
    labels[:2, :2] = 0
    pixels = tile(tmp_path, "2_10", labels)
    dataset = Potsdam(PotsdamConfig(root=tmp_path, side=16), "all")
    squares = [dataset[i] for i in range(len(dataset))]
    assert [s.name for s in squares] == [f"2_10-{r:02}-{c:02}" for r in range(2) for c in range(3)]
    means = pixels[:32, 32:64].reshape(16, 2, 16, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    assert squares[1].image.dtype == torch.uint8
    assert np.abs(squares[1].image.numpy() - means).max() <= 0.5
    assert first_row(squares[0], 2) == [-1, 0]
    truth = squares[3].truth
    assert isinstance(truth, Classes)
    assert truth.labels[:, 0].tolist() == [0] + [4] * 15
    squares[0].image.zero_()  # squares are copies of what is kept
    assert dataset[0].image.any()


def test_potsdam_has_6_or_3_classes(tmp_path: Path) -> None:
    bars = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)]
    labels = np.repeat(np.array(bars, np.uint8), 10, axis=0)[None].repeat(60, 0)
    tile(tmp_path, "2_10", np.pad(labels, ((0, 10), (0, 40), (0, 0)), constant_values=255))
    for count, expected in ((6, [0, 1, 2, 3, 4, 5]), (3, [0, 1, 2, 2, 0, 1])):
        settings = config.build(
            PotsdamConfig, {"root": str(tmp_path), "classes": count, "side": 60, "shrink": 1}
        )
        dataset = Potsdam(settings, "all")
        assert len(dataset.class_names) == count
        assert first_row(dataset[0], 60)[5::10] == expected


def test_potsdam_tests_on_its_own_test_tiles(tmp_path: Path) -> None:
    white = np.full((70, 100, 3), 255, dtype=np.uint8)
    for name in ("2_10", "2_11", "2_12", "3_10", "3_11", "3_12"):
        tile(tmp_path, name, white)
    tile(tmp_path, "2_13", None)

    def build(split: Split) -> Potsdam:
        return Potsdam(PotsdamConfig(root=tmp_path, side=50, shrink=1), split)

    # Six equal tiles: copies go where the first goes.
    assert sum(map(len, (found := names(build)).values())) == 2 * 12
    assert found["test"] == []
    tile(tmp_path, "2_13", white)
    assert names(build)["test"] == ["2_13-00-00", "2_13-00-01"]
    tile(tmp_path, "7_7", None)
    with pytest.raises(DataError, match=r"have no label map \(\*_label\.tif\): 7_7"):
        build("all")
    tile(tmp_path, "7_7", np.full((70, 100, 3), 128, dtype=np.uint8))
    with pytest.raises(DataError, match=r"7_7_label\.tif: the colour \(128, 128, 128\) is not one"):
        names(build)
    tile(tmp_path, "7_7", white[:60])
    with pytest.raises(DataError, match=r"7_7_label\.tif is 100 x 60, its picture 100 x 70"):
        names(build)


# --- VOC and Cityscapes --------------------------------------------------------------------------


def test_voc2012_reads_palettes_and_lists(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    stems = ["2007_000032", "2007_000039", "2007_000063", "2007_000068"]
    for seed, stem in enumerate([*stems, "2007_000033", "2007_000121"]):
        picture(root / "JPEGImages" / f"{stem}.jpg", seed)
        image = Image.fromarray(row(0, 15, 20, 255))
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image.save(root / "SegmentationClass" / f"{stem}.png")
    (lists / "train.txt").write_text("\n".join(stems) + "\n")
    (lists / "val.txt").write_text("2007_000033\n")
    for where in (tmp_path, root.parent, root):
        found = names(lambda split, where=where: Voc2012(Voc2012Config(root=where), split))
        assert found == {**placed(*stems), "test": ["2007_000033"], "all": [*stems, "2007_000033"]}
    assert first_row(Voc2012(Voc2012Config(root=root), "test")[0], 4) == [0, 15, 20, -1]
    assert Voc2012.class_names[15] == "person"
    assert len(Voc2012.class_names) == 21


def test_cityscapes_has_27_classes(tmp_path: Path) -> None:
    for part, city in (("train", "aachen"), ("val", "munster"), ("test", "berlin")):
        stem = f"{city}_000000_000019"
        picture(tmp_path / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png")
        folder = tmp_path / "gtFine" / part / city
        stored(folder / f"{stem}_gtFine_labelIds.png", row(0, 6, 7, 23, 33, 255))
    found = names(lambda split: Cityscapes(CityscapesConfig(root=tmp_path), split))
    stems = ["aachen_000000_000019", "munster_000000_000019"]
    assert found == {**placed(stems[0]), "test": stems[1:], "all": stems}
    sample = Cityscapes(CityscapesConfig(root=tmp_path), "test")[0]
    assert first_row(sample, 6) == [-1, -1, 0, 16, 26, -1]
    assert [Cityscapes.class_names[i] for i in (0, 16, 26)] == ["road", "sky", "bicycle"]
    assert len(Cityscapes.class_names) == 27


# --- one object ----------------------------------------------------------------------------------


def birds(root: Path, boxes: str = "1 1.0 2.0 3.0 4.0\n2 0.0 0.0 13.0 8.0\n") -> None:
    for seed, stem in enumerate(("Albatross_1", "Albatross_2")):
        picture(root / "images" / "001.Albatross" / f"{stem}.jpg", seed)
        stored(root / "segmentations" / "001.Albatross" / f"{stem}.png", row(255, 153, 102, 0))
    text = "1 001.Albatross/Albatross_1.jpg\n2 001.Albatross/Albatross_2.jpg\n"
    (root / "images.txt").write_text(text)
    (root / "train_test_split.txt").write_text("1 0\n2 1\n")
    (root / "bounding_boxes.txt").write_text(boxes)


def test_cub200_has_masks_boxes_and_its_test_split(tmp_path: Path) -> None:
    root = tmp_path / "CUB_200_2011"
    birds(root)
    found = names(lambda split: Cub200(Cub200Config(root=tmp_path), split))
    stems = ["Albatross_1", "Albatross_2"]
    assert found == {**placed(stems[1]), "test": stems[:1], "all": stems}
    one, two = (Cub200(Cub200Config(root=root), "all")[i] for i in range(2))
    assert isinstance(one.truth, Mask)
    assert one.truth.mask[0, :5].tolist() == [True, True, False, False, False]
    assert one.boxes is not None
    assert two.boxes is not None
    assert one.boxes.tolist() == [[1, 2, 4, 6]]
    assert two.boxes.tolist() == [[0, 0, 12, 8]]


def test_cub200_lists_that_are_wrong_are_named(tmp_path: Path) -> None:
    def build() -> Cub200:
        return Cub200(Cub200Config(root=tmp_path), "all")

    birds(tmp_path, boxes="1 1.0 2.0 3.0 4.0\n")
    with pytest.raises(DataError, match="1 of 2 pictures have no box: Albatross_2"):
        build()
    birds(tmp_path, boxes="1 1.0 2.0 3.0\n")
    with pytest.raises(DataError, match=r"bounding_boxes\.txt: the line .* has not 5 columns"):
        build()
    birds(tmp_path, boxes="1 1.0 2.0 three 4.0\n")
    with pytest.raises(DataError, match=r"cannot read .*bounding_boxes\.txt: .*'three'"):
        build()
    birds(tmp_path)
    for place in ("../a.jpg", "/a.jpg"):
        (tmp_path / "images.txt").write_text(f"1 {place}\n")
        with pytest.raises(DataError, match=r"images\.txt: picture 1, .* is not inside"):
            build()
    (tmp_path / "images.txt").write_text("3 a.jpg\n")
    with pytest.raises(DataError, match=r"picture 3, 'a\.jpg', is in no line of the split"):
        build()


def test_flowers102_are_what_is_not_painted_blue(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = (0, 0, 254)
    pixels[16:48, 16:48] = (200, 40, 120)
    for number in (1, 2, 3):
        image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        stored(tmp_path / "jpg" / f"image_{number:05}.jpg", image)
        stored(tmp_path / "segmim" / f"segmim_{number:05}.jpg", pixels, quality=90)
    parts = {"trnid": [[3]], "valid": [[1]], "tstid": [[2]]}
    savemat(tmp_path / "setid.mat", {key: np.array(ids) for key, ids in parts.items()})
    settings = Flowers102Config(root=tmp_path)
    all_three = ["image_00001", "image_00002", "image_00003"]
    expected = {"train": all_three[2:], "dev": all_three[:1], "test": all_three[1:2]}
    assert names(lambda split: Flowers102(settings, split)) == {**expected, "all": all_three}
    truth = Flowers102(settings, "test")[0].truth
    assert isinstance(truth, Mask)
    square = torch.zeros(64, 64, dtype=torch.bool)
    square[16:48, 16:48] = True
    assert (truth.mask != square).float().mean() < 0.05
    assert truth.mask[20:44, 20:44].all()
    assert not truth.mask[:8].any()
    stored(tmp_path / "jpg" / "image_00009.jpg", pixels)
    with pytest.raises(DataError, match=r"image_00009\.jpg is in no split of .*setid\.mat"):
        Flowers102(settings, "all")


def test_saliency_sets_have_their_own_folders(tmp_path: Path) -> None:
    folders = {
        "a": ("images", "ground_truth_mask"),
        "b": ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        "c": ("images", "masks"),
    }
    for root, (images, masks) in folders.items():
        picture(tmp_path / root / images / "0001.jpg")
        stored(tmp_path / root / masks / "0001.png", row(255, 0))
    for settings in (
        EcssdConfig(root=tmp_path / "a"),
        EcssdConfig(root=tmp_path / "c"),
        DutOmronConfig(root=tmp_path / "b"),
        DutOmronConfig(root=tmp_path / "c"),
    ):
        dataset = Saliency(settings, "all")
        assert dataset.name == settings.type
        assert dataset[0].name == "0001"
        truth = dataset[0].truth
        assert isinstance(truth, Mask)
        assert int(truth.mask.sum()) == 1


def test_duts_has_its_test_part(tmp_path: Path) -> None:
    for part, stem in (("TR", "ILSVRC2012_test_4"), ("TE", "ILSVRC2012_test_3")):
        picture(tmp_path / f"DUTS-{part}" / f"DUTS-{part}-Image" / f"{stem}.jpg")
        stored(tmp_path / f"DUTS-{part}" / f"DUTS-{part}-Mask" / f"{stem}.png", row(255, 0))
    found = names(lambda split: Saliency(DutsConfig(root=tmp_path), split))
    assert found["test"] == ["ILSVRC2012_test_3"]
    assert found["train"] + found["dev"] == ["ILSVRC2012_test_4"]
    (tmp_path / "DUTS-TE" / "DUTS-TE-Mask" / "ILSVRC2012_test_3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 pictures have no mask \(\.png\): ILSVRC2012"):
        Saliency(DutsConfig(root=tmp_path), "test")


# --- all -----------------------------------------------------------------------------------------

TYPES = [
    *("camvid", "eth_road", "colorseg", "coco_stuff", "potsdam", "voc2012", "cityscapes"),
    *("cub200", "flowers102", "ecssd", "duts", "dut_omron"),
]


@pytest.mark.parametrize("name", TYPES)
def test_wrong_roots_are_config_errors(tmp_path: Path, name: str) -> None:
    for root in (tmp_path / "gone", tmp_path):
        built = config.build(data.DataConfig, {"type": name, "root": str(root)})
        with pytest.raises(ConfigError, match=r"^data\.root: "):
            data.build(built, "train")
