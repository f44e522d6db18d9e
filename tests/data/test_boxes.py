import json
import os
import time
from pathlib import Path

import pytest
import torch

from segan.data.boxes import boxes_of, check_boxes, match_boxes, read_boxes
from segan.errors import ConfigError

VOC = """<?xml version="1.0"?><annotation><filename>wrong.jpg</filename>
<size><width>20</width><height>10</height></size>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>10.0</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
</object><object><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""


def plain(boxes: dict[str, torch.Tensor]) -> dict[str, list[list[float]]]:
    assert all(tensor.dtype == torch.float32 for tensor in boxes.values())
    assert all(tensor.ndim == 2 for tensor in boxes.values())
    return {key: tensor.tolist() for key, tensor in boxes.items()}


def coco(path: Path, annotations: list[dict[str, object]]) -> Path:
    images = [{"id": 7, "file_name": "b\\x.jpg"}, {"id": 8, "file_name": "./y.png"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ["a.xml", "deep/a.xml"]:
        (tmp_path / name).write_text(VOC)
    (tmp_path / ".hidden.xml").write_text("no xml")
    expected = [[0, 1, 20, 10], [4, 4, 5, 5]]
    assert plain(read_boxes(tmp_path)) == {"a": expected, "deep/a": expected}
    assert plain(read_boxes(tmp_path / "a.xml")) == {"a": expected}


def test_voc_file_without_objects_gives_no_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert read_boxes(tmp_path / "a.xml")["a"].shape == (0, 4)


def test_coco_boxes_are_corner_width_height_and_crowds_left_out(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "bbox": [1.5, 2, 3, 4]},
        {"image_id": 7, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ]
    found = read_boxes(coco(tmp_path / "a.json", annotations))
    assert plain(found) == {"b/x.jpg": [[1.5, 2, 4.5, 6]], "y.png": []}


def test_csv_columns_decide_the_convention(tmp_path: Path) -> None:
    own, voc = tmp_path / "own.csv", tmp_path / "voc.csv"
    own.write_text("image,label,x0,y0,x1,y1\na.jpg,cat,0,1,20,10\na.jpg,dog,2,3,4.5,5\n")
    voc.write_bytes(
        "\ufefffilename,width,height,class,xmin,ymin,xmax,ymax\r\na.jpg,20,10,cat,1,2,20,10\r\n".encode()
    )
    assert plain(read_boxes(own)) == {"a.jpg": [[0, 1, 20, 10], [2, 3, 4.5, 5]]}
    assert plain(read_boxes(voc)) == {"a.jpg": [[0, 1, 20, 10]]}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "name,x,y\n", "its first line is 'name,x,y', expected image,x0,y0,x1,y1 or"),
        ("a.csv", "", "its first line is ''"),
        ("a.csv", "image,x0,y0,x1,y1\na,1,2,3,four\n", "line 2: "),
        ("a.csv", "image,x0,y0,x1,y1\na,1,2,3\n", "line 2: "),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", "not a COCO file"),
        ("a.json", '{"images": []}', "not a COCO file: 'annotations' is missing"),
        ("a.xml", "<annotation>", "not valid XML"),
        ("a.xml", "<svg/>", "its root is <svg>"),
        ("a.xml", VOC.replace("<ymin>2</ymin>", ""), "could not convert"),
        ("a.txt", "", "expected .xml"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_boxes(tmp_path / name)
    assert problem in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_paths_and_folders_without_xml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_boxes(tmp_path / "gone.csv")
    with pytest.raises(ConfigError, match=r"no \.xml files"):
        read_boxes(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused_at_once(tmp_path: Path, encoding: str) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 20}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "boom">{entities}]><annotation>&e11;</annotation>'
    (tmp_path / "a.xml").write_bytes(bomb.encode(encoding))
    start = time.process_time()
    with pytest.raises(ConfigError, match="DOCTYPE"):
        read_boxes(tmp_path / "a.xml")
    assert time.process_time() - start < 1


def test_boxes_find_their_pictures_by_path_name_or_stem() -> None:
    one, two = torch.ones(1, 4), torch.full((2, 4), 2.0)
    files = ["a/x.jpg", "b/x.jpg", "c/y.png", "z.v2.png"]
    found = match_boxes({"root/a/x": one, "b/x.jpg": two, "y.jpg": one, "z.v2": two}, files)
    assert [len(boxes) for boxes in found] == [1, 2, 1, 2]
    assert [len(boxes) for boxes in match_boxes({"x": one}, ["x.jpg", "deep/x.jpg"])] == [1, 0]
    assert [len(boxes) for boxes in match_boxes({"x.jpg": one}, ["x.png", "x.jpg"])] == [0, 1]
    assert [len(boxes) for boxes in match_boxes({"b/x": one, "x": two}, ["x.jpg", "b/x.jpg"])] == [
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("keys", "files", "problem"),
    [
        (["x"], ["a/x.jpg", "b/x.jpg"], "boxes of x fit a/x.jpg and b/x.jpg"),
        (["x"], ["x.jpg", "x.png"], "boxes of x fit x.jpg and x.png"),
        (["a/x", "b/x"], ["x.jpg"], "a/x and b/x both fit the picture x.jpg"),
        (["train/x"], ["val/x.jpg"], "none of the 1 names"),
        ([], ["x.jpg"], "none of the 0 names"),
    ],
)
def test_boxes_never_land_on_the_wrong_picture(
    keys: list[str], files: list[str], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        match_boxes({key: torch.ones(1, 4) for key in keys}, files)
    assert problem in str(caught.value)


def test_boxes_that_stick_out_are_clipped() -> None:
    boxes = torch.tensor([[-1, -1, 5, 5], [0, 0, 21, 11], [3, 2, 4, 3]])
    expected = [[0, 0, 5, 5], [0, 0, 20, 10], [3, 2, 4, 3]]
    assert check_boxes(boxes.float(), (10, 20), "a").tolist() == expected
    assert check_boxes(torch.zeros(0, 4), (10, 20), "a").shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([5, 5, 5, 8], "has no area"),
        ([6, 5, 5, 8], "has no area"),
        ([25, 2, 30, 8], "lies outside"),
        ([15, 2, 30, 8], "lies outside"),
        ([-9, -9, -2, -2], "lies outside"),
        ([1, 1, 1.5, 8], "covers less than a pixel"),
        ([1, 1, float("nan"), 8], "is not finite"),
        ([1, 1, float("inf"), 8], "is not finite"),
    ],
)
def test_impossible_boxes_are_named(box: list[float], problem: str) -> None:
    boxes = torch.tensor([[1, 1, 4, 4], box])
    with pytest.raises(ConfigError, match=f"box 2 of picture b/a, .*{problem}"):
        check_boxes(boxes, (10, 20), "b/a")


def test_boxes_of_labels_are_tight_and_in_order() -> None:
    labels = torch.zeros(8, 12, dtype=torch.int32)
    labels[1:3, 2:5] = 2
    labels[7, 11] = 1
    assert boxes_of(labels).tolist() == [[11, 7, 12, 8], [2, 1, 5, 3]]
    assert boxes_of(torch.zeros(3, 3, dtype=torch.int32)).shape == (0, 4)


def test_raccoon_table_repeats_its_annotations() -> None:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset")
    root = Path(os.environ["SEGAN_DATA"]) / "raccoon"
    annotations = read_boxes(root / "annotations")
    table = read_boxes(root / "data" / "raccoon_labels.csv")
    assert {Path(key).stem for key in table} == set(annotations)
    for key, boxes in table.items():
        assert sorted(boxes.tolist()) == sorted(annotations[Path(key).stem].tolist())
