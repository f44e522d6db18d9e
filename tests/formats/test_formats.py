"""Every format read back by somebody else: pycocotools, PIL, OpenCV, and decoders written here."""

import base64
import io
import json
import os
import re
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from segan import cli, formats
from segan.errors import ConfigError
from segan.formats import FORMATS, Found, open_writers, yolo
from segan.formats.cvat import voc_colours
from segan.formats.png import MOST_OVERLAY_PIXELS, decode_soft
from segan.formats.rle import decode_brush, decode_coco_rle, encode_brush, encode_coco_rle
from segan.separation import separate, separate_regions

Mask = NDArray[np.bool_]


def blobs(size: tuple[int, int] = (90, 121), *, seed: int = 0, scale: float = 3) -> Mask:
    """Smooth random shapes, with holes, islands in holes, and pieces that touch the border."""
    noise = np.random.default_rng(seed).standard_normal(size)
    smooth = cv2.GaussianBlur(noise, (0, 0), scale)
    return smooth > np.median(smooth)


def without_holes(mask: Mask) -> Mask:
    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2


def found(mask: Mask, *, instances: bool = True, name: str = "a/x") -> Found:
    objects = separate(mask) if instances else mask.astype(np.uint8)
    random = np.random.default_rng(1)
    return Found(
        name=name,
        file=f"{name}.jpg",
        labels=mask.astype(np.uint8),
        objects=objects,
        object_categories=np.zeros(int(objects.max()), np.intp),
        category_names=("object",),
        named=True,
        probability=np.where(mask, 0.75, 0.25).astype(np.float32),
        picture=random.integers(0, 256, (*mask.shape, 3), dtype=np.uint8),
    )


def regions(size: tuple[int, int] = (50, 70)) -> Found:
    labels = np.digitize(
        cv2.GaussianBlur(np.random.default_rng(0).random(size), (0, 0), 4), [0.45, 0.5]
    )
    labels = labels.astype(np.int32)
    objects, categories = separate_regions(labels)
    return Found(
        name="r",
        file="r.png",
        labels=labels,
        objects=objects,
        object_categories=categories,
        category_names=("region_0", "region_1", "region_2"),
        named=False,
        picture=np.zeros((*size, 3), np.uint8),
    )  # fmt: skip


MASKS: dict[str, Mask] = {
    "blobs": blobs(),
    "noise": np.random.default_rng(0).random((37, 53)) > 0.5,
    "empty": np.zeros((20, 30), np.bool_),
    "full": np.ones((20, 30), np.bool_),
    "one pixel": np.pad(np.ones((1, 1), np.bool_), ((3, 7), (9, 2))),
    "a line": np.pad(np.ones((1, 5), np.bool_), ((0, 7), (9, 0))),
    "a diagonal": np.eye(15, 20, dtype=np.bool_),
    "last pixel": np.pad(np.ones((1, 1), np.bool_), ((8, 0), (9, 0))),
    "a ring": np.pad(np.pad(np.zeros((4, 6), np.bool_), 1, constant_values=True), 3),
}
each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


# --- run lengths ---------------------------------------------------------------------------------


@each_mask
def test_coco_run_lengths_are_those_of_pycocotools(mask):
    ours = encode_coco_rle(mask, left=0, top=0, size=mask.shape)
    theirs = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert np.array_equal(decode_coco_rle(ours), mask)
    inside = encode_coco_rle(mask, left=5, top=4, size=(mask.shape[0] + 9, mask.shape[1] + 11))
    whole = np.pad(mask, ((4, 5), (5, 6)))
    assert np.array_equal(coco_masks.decode(inside), whole)


def test_long_runs_take_many_characters():
    mask = np.zeros((3000, 4000), np.bool_)
    mask[1500:, 2000] = True
    ours = encode_coco_rle(mask, left=0, top=0, size=mask.shape)
    assert np.array_equal(coco_masks.decode(ours), mask)
    assert np.array_equal(decode_coco_rle(ours), mask)


def test_lists_of_runs_are_decoded_and_checked():
    assert decode_coco_rle({"size": [2, 3], "counts": [1, 2, 3]}).T.ravel().tolist() == [
        False, True, True, False, False, False
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="add up to 5, the mask has 6"):
        decode_coco_rle({"size": [2, 3], "counts": [1, 2, 2]})


def brush_values(content: list[int]) -> list[int]:
    """The public description of the codec (thi.ng/rle-pack), bit by bit, as whole numbers."""
    bits = int.from_bytes(bytes(content), "big")
    left = 8 * len(content)

    def read(count: int) -> int:
        nonlocal left
        left -= count
        return (bits >> left) & ((1 << count) - 1)

    total = read(32)
    word = read(5) + 1
    block_sizes = (read(4) + 1, read(4) + 1, read(4) + 1, read(4) + 1)
    values: list[int] = []
    while len(values) < total:
        is_run = read(1)
        length = read(block_sizes[read(2)]) + 1
        values += length * [read(word)] if is_run else [read(word) for _ in range(length)]
    assert left < 8
    return values


@each_mask
def test_brushes_are_read_by_an_independent_decoder(mask):
    content = encode_brush(mask)
    rgba = np.array(brush_values(content)).reshape(*mask.shape, 4)
    assert np.array_equal(rgba, np.repeat(255 * mask[..., None], 4, axis=2))
    assert np.array_equal(decode_brush(content, mask.shape), mask)


def test_brushes_split_runs_longer_than_16_bits():
    mask = np.zeros((300, 200), np.bool_)
    mask[150, 100] = True
    values = np.array(brush_values(encode_brush(mask))).reshape(300, 200, 4)
    assert np.array_equal(values[..., 3] > 0, mask)


def test_damaged_brushes_are_one_line():
    content = encode_brush(MASKS["noise"])
    with pytest.raises(ConfigError, match="ends before its last run"):
        decode_brush(content[:40], MASKS["noise"].shape)
    with pytest.raises(ConfigError, match="has 7844 values, expected 400"):
        decode_brush(content, (10, 10))


# --- whole files ---------------------------------------------------------------------------------


@each_mask
@pytest.mark.parametrize("instances", [False, True])
def test_coco_files_are_read_by_pycocotools(mask, instances, tmp_path, capsys):
    what = found(mask, instances=instances)
    (tmp_path / "a.json").write_bytes(formats.encode("coco", what))
    coco = COCO(str(tmp_path / "a.json"))
    assert coco.loadCats([1])[0]["name"] == "object"
    assert coco.loadImgs([1])[0]["file_name"] == "a/x.jpg"
    objects = np.zeros(mask.shape, np.int32)
    for number, annotation in enumerate(coco.loadAnns(coco.getAnnIds()), start=1):
        decoded = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == decoded.sum()
        assert annotation["score"] == 0.75
        assert annotation["bbox"] == coco_masks.toBbox(annotation["segmentation"]).tolist()
        objects[decoded] = number
    assert np.array_equal(objects, what.objects)
    capsys.readouterr()


def labelme_masks(document: dict[str, Any]) -> dict[int, Mask]:
    """As labelme draws them: polygons with their edges by PIL, bitmaps into their corners."""
    size = document["imageHeight"], document["imageWidth"]
    masks: dict[int, Mask] = {}
    for number, shape in enumerate(document["shapes"]):
        mask = np.zeros(size, np.bool_)
        if shape["shape_type"] == "polygon":
            assert len(shape["points"]) > 2
            image = Image.new("1", size[::-1])
            ImageDraw.Draw(image).polygon([*map(tuple, shape["points"])], outline=1, fill=1)
            mask = np.asarray(image)
        else:
            (x0, y0), (x1, y1) = shape["points"]
            bitmap = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            mask[y0 : y1 + 1, x0 : x1 + 1] = bitmap > 0
        key = -number if shape["group_id"] is None else shape["group_id"]
        masks[key] = masks.get(key, np.zeros(size, np.bool_)) | mask
    return masks


@each_mask
@pytest.mark.parametrize("instances", [False, True])
def test_labelme_files_give_the_masks_back_holes_and_all(mask, instances):
    what = found(mask, instances=instances)
    document = json.loads(formats.encode("labelme", what))
    assert document["imagePath"] == "x.jpg"
    masks = labelme_masks(document)
    assert len(masks) == what.objects.max()
    for decoded in masks.values():
        number = what.objects[decoded][0]
        wanted = what.objects == number
        assert (decoded & wanted).sum() / (decoded | wanted).sum() >= 0.995


def yolo_mask(text: str, size: tuple[int, int]) -> Mask:
    """As readers of YOLO do: shares times sides, cut to whole numbers, filled by OpenCV."""
    mask = np.zeros(size, np.uint8)
    for line in text.splitlines():
        category, *shares = line.split()
        assert category == "0"
        assert len(shares) >= 6
        points = np.array(shares, float).reshape(-1, 2) * size[::-1]
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask > 0


@each_mask
@pytest.mark.parametrize("instances", [False, True])
def test_yolo_polygons_give_masks_back_holes_and_all(mask, instances):
    text = formats.encode("yolo", found(mask, instances=instances)).decode()
    assert np.array_equal(yolo_mask(text, mask.shape), mask)


def test_yolo_polygons_reach_holes_in_noise_through_slits_in_the_mask():
    for seed in range(40):
        random = np.random.default_rng(seed)
        mask = random.random(random.integers(1, 60, 2)) > random.random()
        text = formats.encode("yolo", found(mask, instances=False)).decode()
        assert np.array_equal(yolo_mask(text, mask.shape), mask)


def test_thousands_of_holes_take_no_time_to_speak_of():
    mask = blobs((500, 500), scale=1) | blobs((500, 500), seed=1, scale=1)
    start = time.perf_counter()
    text = formats.encode("yolo", found(mask, instances=False)).decode()
    assert time.perf_counter() - start < 20  # 1; and minutes if it took the square of the outlines
    assert np.array_equal(yolo_mask(text, mask.shape), mask)


def test_yolo_says_what_polygons_lost(tmp_path, monkeypatch):
    writer = open_writers(["yolo"], tmp_path)["yolo"]
    writer.add(found(MASKS["blobs"]))
    assert writer.close() is None
    # As if slits were not there.
    monkeypatch.setattr(yolo, "with_slits", lambda piece: piece.outer)
    mask = MASKS["a ring"]
    writer.add(found(mask))
    decoded = yolo_mask((tmp_path / "yolo/labels/a/x.txt").read_text(), mask.shape)
    overlap = (decoded & mask).sum() / (decoded | mask).sum()
    assert overlap < 1
    note = writer.close()
    assert note is not None
    assert note.endswith(f"{overlap:.4f} at worst")


def test_names_of_categories_are_there_before_a_run_ends(tmp_path):
    open_writers(["yolo"], tmp_path)["yolo"].add(found(MASKS["blobs"]))
    names = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())["names"]
    assert names == {0: "object"}


@each_mask
def test_index_soft_and_instance_images_hold_the_arrays(mask):
    what = found(mask)
    for name, array in (("masks", what.labels), ("instances", what.objects)):
        with Image.open(io.BytesIO(formats.encode(name, what))) as image:
            assert image.mode == ("P" if array.max() < 256 else "I;16")
            assert np.array_equal(np.asarray(image), array)
    soft = formats.encode("soft", what)
    with Image.open(io.BytesIO(soft)) as image:
        assert image.mode == "I;16"
        levels = np.asarray(image)
    assert np.array_equal(levels, np.where(mask, 49151, 16384))
    assert np.abs(decode_soft(soft) - what.probability).max() <= 1 / 131070 + 1e-7


def test_soft_masks_are_gray_images_of_16_bits_and_of_an_object():
    with pytest.raises(ConfigError, match="gray PNG of 16 bits"):
        decode_soft(formats.encode("masks", found(MASKS["blobs"])))
    with pytest.raises(ConfigError, match="unnamed regions have none"):
        formats.encode("soft", regions())


def test_archives_of_arrays_need_no_pickle():
    what = found(MASKS["blobs"])
    content = np.load(io.BytesIO(formats.encode("npz", what)), allow_pickle=False)
    assert np.array_equal(content["labels"], what.labels)
    assert np.array_equal(content["objects"], what.objects)
    assert np.array_equal(content["probability"], what.probability)
    assert content["category_names"].tolist() == ["object"]
    assert len(content["categories"]) == what.objects.max()


def test_label_studio_tasks_fit_their_interface(tmp_path):
    writer = open_writers(["labelstudio"], tmp_path)["labelstudio"]
    masks = {"a": blobs(seed=1), "b/c": blobs((40, 30), seed=2)}
    for name, mask in masks.items():
        writer.add(found(mask, name=name))
    writer.close()
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["a.jpg", "b/c.jpg"]
    view = ET.parse(tmp_path / "labelstudio/interface.xml").getroot()
    image, tag = view.find("Image"), view.find("BrushLabels")
    assert image is not None
    assert tag is not None
    assert image.get("value") == "$image"
    labels = {label.get("value") for label in tag}
    for task, mask in zip(tasks, masks.values(), strict=True):
        seen = np.zeros(mask.shape, int)
        for result in task["predictions"][0]["result"]:
            assert (result["from_name"], result["to_name"]) == (tag.get("name"), image.get("name"))
            assert set(result["value"]["brushlabels"]) <= labels
            height, width = result["original_height"], result["original_width"]
            values = np.array(brush_values(result["value"]["rle"])).reshape(height, width, 4)
            seen += values[..., 3] > 127
        assert np.array_equal(seen, mask)


def cvat_arrays(archive: zipfile.ZipFile, name: str) -> tuple[NDArray[Any], list[str]]:
    """The labels' numbers in an archive's class image, by the colours of its own label map."""
    lines = archive.read("labelmap.txt").decode().splitlines()
    entries = [line.split(":") for line in lines if not line.startswith("#")]
    image = np.asarray(Image.open(io.BytesIO(archive.read(f"SegmentationClass/{name}.png"))))
    numbers = np.full(image.shape[:2], -1)
    for number, (_, colour, _, _) in enumerate(entries):
        numbers[(image == [int(part) for part in colour.split(",")]).all(2)] = number
    assert (numbers >= 0).all()
    return numbers, [entry[0] for entry in entries]


@each_mask
def test_cvat_archives_hold_classes_and_objects(mask):
    mask = mask[:30, :40]
    what = found(mask)
    with zipfile.ZipFile(io.BytesIO(formats.encode("cvat", what))) as archive:
        assert archive.read("ImageSets/Segmentation/default.txt").decode() == "a/x\n"
        numbers, names = cvat_arrays(archive, "a/x")
        image = np.asarray(Image.open(io.BytesIO(archive.read("SegmentationObject/a/x.png"))))
    assert names == ["background", "object"]
    assert np.array_equal(numbers, mask)
    assert np.array_equal(image, voc_colours(256)[what.objects])


def test_the_colours_are_those_of_pascal_voc():
    assert voc_colours(9).tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128],
        [0, 128, 128], [128, 128, 128], [64, 0, 0],
    ]  # fmt: skip
    assert len(np.unique(voc_colours(1000), axis=0)) == 1000


def test_cvat_keeps_the_largest_objects_and_says_so(tmp_path):
    mask = np.zeros((60, 60), np.bool_)
    mask[::3, ::3] = True  # 400 objects of a pixel
    mask[0, 0:2] = True  # and one of two
    writer = open_writers(["cvat"], tmp_path)["cvat"]
    writer.add(found(mask))
    assert writer.close() == (
        "cvat: 145 objects were left out, as CVAT tells 255 apart in a picture"
    )
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        numbers, _ = cvat_arrays(archive, "a/x")
    assert numbers.sum() == 256
    assert numbers[0, 1] == 1


def test_regions_are_objects_of_their_category():
    what = regions()
    document = json.loads(formats.encode("coco", what))
    assert [category["name"] for category in document["categories"]] == [*what.category_names]
    labels = np.full(what.size, -1)
    for annotation in document["annotations"]:
        assert "score" not in annotation
        decoded = coco_masks.decode(annotation["segmentation"]).astype(bool)
        labels[decoded] = annotation["category_id"] - 1
    assert np.array_equal(labels, what.labels)
    with zipfile.ZipFile(io.BytesIO(formats.encode("cvat", what))) as archive:
        assert np.array_equal(cvat_arrays(archive, "r")[0], what.labels + 1)
    for name in ("labelme", "labelstudio", "yolo", "npz", "masks", "overlays", "instances"):
        assert formats.encode(name, what)


def test_overlays_of_large_pictures_are_scaled_down():
    side = 5200
    mask = np.zeros((side, side), np.bool_)
    mask[: side // 2] = True
    what = found(mask, instances=False)
    with Image.open(io.BytesIO(formats.encode("overlays", what))) as image:
        assert image.size[0] == image.size[1]
        assert image.size[0] ** 2 == pytest.approx(MOST_OVERLAY_PIXELS, rel=1e-3)
        pixels = np.asarray(image).astype(int)
    bluer = pixels[..., 2].mean(1) > pixels[..., 0].mean(1) + 20
    assert np.array_equal(bluer, np.arange(len(bluer)) < len(bluer) // 2)


# --- many pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_finished_is_known_to_another_writer(name, tmp_path):
    what = found(blobs((30, 40)), name="a/b.x")
    writer = open_writers([name], tmp_path)[name]
    assert not writer.is_finished("a/b.x")
    writer.add(what)
    again = open_writers([name], tmp_path)[name]
    assert again.is_finished("a/b.x")
    assert not again.is_finished("a/b")
    again.close()
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert made <= set(FORMATS[name].folders)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_assembled_files_hold_the_pictures_of_all_runs(tmp_path):
    for run in ("b", "a"):
        writers = open_writers(["coco", "cvat"], tmp_path)
        writers["coco"].add(found(blobs((30, 40), seed=ord(run)), name=run))
        writers["cvat"].add(found(blobs((30, 40), seed=ord(run)), name=run))
        for writer in writers.values():
            writer.close()
    document = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.jpg", "b.jpg"]
    identities = [annotation["id"] for annotation in document["annotations"]]
    assert identities == list(range(1, len(identities) + 1))
    assert {annotation["image_id"] for annotation in document["annotations"]} == {1, 2}
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        assert archive.read("ImageSets/Segmentation/default.txt") == b"a\nb\n"
        assert len(archive.namelist()) == 6


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_files_that_are_no_text_are_written(name, tmp_path):
    file = os.fsdecode(b"a/bad\xff\n..\\c")
    writer = open_writers([name], tmp_path)[name]
    writer.add(found(blobs((30, 40)), name=file))
    writer.close()
    assert open_writers([name], tmp_path)[name].is_finished(file)
    assert formats.encode(name, found(blobs((30, 40)), name=file))


def test_archives_name_files_that_stay_where_they_are_unpacked():
    for name in (r"..\..\x", "../../x", "a\0b", "/x", "a\nb", os.fsdecode(b"\xff")):
        content = formats.encode("cvat", found(MASKS["a ring"], name=name))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.read("ImageSets/Segmentation/default.txt").decode().splitlines()
            assert len(listed) == 1
            for entry in archive.namelist():
                parts = re.split(r"[/\\]", entry)
                assert not {"", "..", "."} & set(parts)
                assert entry.isprintable()
            assert f"SegmentationObject/{listed[0]}.png" in archive.namelist()


def test_the_command_line_knows_all_formats():
    assert set(cli._OUTPUTS) == set(FORMATS)
    assert cli._OUTPUTS[:2] == formats.DEFAULT


def test_unknown_formats_are_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="no format 'gif'; there are masks, overlays"):
        open_writers(["gif"], tmp_path)
    with pytest.raises(ConfigError, match="no format 'gif'; there are masks, overlays"):
        formats.encode("gif", found(MASKS["blobs"]))
