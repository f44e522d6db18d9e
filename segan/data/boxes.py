"""Boxes around objects, from annotation files or from masks.

Everywhere in segan a box is (x0, y0, x1, y1) in pixels, half-open: x1 - x0 is its width. Files
disagree: Pascal VOC counts pixels from one and includes the last.
"""

import csv
import json
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

import torch
from scipy import ndimage
from torch import Tensor

from segan.data.images import SUFFIXES, one_line
from segan.errors import ConfigError

Box = tuple[float, float, float, float]

_OWN_COLUMNS = ("x0", "y0", "x1", "y1")
_VOC_COLUMNS = ("xmin", "ymin", "xmax", "ymax")


def read_boxes(path: Path) -> dict[str, Tensor]:
    """Boxes float32 [B, 4] by picture, from a file or a folder of files.

    - `.xml`, or a folder of them at any depth: Pascal VOC. The key is the annotation's own path
      below the folder without suffix, as the file name written inside is often wrong.
    - `.json`: COCO; crowd regions are left out. The key is the picture's `file_name`.
    - `.csv` with the columns `image,x0,y0,x1,y1` (half-open, from zero) or
      `filename,xmin,ymin,xmax,ymax` (Pascal VOC numbers); other columns are left alone. The key is
      the first of these columns.

    `match_boxes` assigns them to pictures.

    Raises:
        ConfigError: The path does not exist or is not of these formats; the message says where.
    """
    path = path.expanduser()
    if not path.exists():
        raise ConfigError(f"boxes: {one_line(str(path))} does not exist")
    if path.is_dir():
        return _read_voc_folder(path)
    readers = {".xml": _read_voc, ".json": _read_coco, ".csv": _read_csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        _refuse(path, "expected .xml (Pascal VOC), .json (COCO), .csv or a folder of .xml")
    try:
        return reader(path)
    except (OSError, UnicodeDecodeError) as error:
        _refuse(path, str(error))


def match_boxes(boxes: dict[str, Tensor], files: Sequence[str]) -> list[Tensor]:
    """The boxes [B, 4] of each picture; [0, 4] where none are given.

    A key fits a picture when one is the tail of the other, folder by folder, up to their suffixes:
    `x` and `b/x.jpg` both fit `a/b/x.png`. The closest fit wins.

    Args:
        boxes: From `read_boxes`.
        files: Paths of the pictures below their root, with suffix.

    Raises:
        ConfigError: A key fits several pictures, a picture two keys, or no key any picture.
    """
    by_stem: defaultdict[str, list[int]] = defaultdict(list)
    for i, file in enumerate(files):
        by_stem[_stem(file)].append(i)
    keys: dict[int, str] = {}
    for key in boxes:
        fits = {i: _closeness(key, files[i]) for i in by_stem[_stem(key)] if _fit(key, files[i])}
        closest = [i for i, closeness in fits.items() if closeness == max(fits.values())]
        if len(closest) > 1:
            names = " and ".join(one_line(files[i]) for i in closest[:2])
            raise ConfigError(f"boxes of {one_line(key)} fit {names}; give the folder and suffix")
        for i in closest:
            if i in keys:
                both = f"{one_line(keys[i])} and {one_line(key)}"
                raise ConfigError(f"boxes of {both} both fit the picture {one_line(files[i])}")
            keys[i] = key
    if not keys:
        example = one_line(next(iter(boxes), "nothing"))
        raise ConfigError(
            f"boxes: none of the {len(boxes)} names (such as {example}) is that of a picture "
            f"(such as {one_line(files[0])})"
        )
    return [boxes[keys[i]] if i in keys else torch.zeros(0, 4) for i in range(len(files))]


def check_boxes(boxes: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """Boxes [B, 4] clipped to their picture.

    Annotations in the wild stick out by a pixel or a few; a box with less than half of its area
    inside belongs to another picture, another scale or another convention.

    Args:
        boxes: [B, 4].
        size: Height and width of the picture.
        name: Of the picture, for messages.

    Raises:
        ConfigError: A box is not finite, covers less than a pixel or lies outside the picture.
    """
    height, width = size
    clipped = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    sides, kept = (corners[:, 2:] - corners[:, :2] for corners in (boxes, clipped))
    problems = {
        "is not finite": ~boxes.isfinite().all(1),
        "has no area": ~(sides > 0).all(1),
        f"lies outside the picture of {width} x {height}": ~(kept.prod(1) >= sides.prod(1) / 2),
        "covers less than a pixel": ~(kept >= 1).all(1),
    }
    for problem, found in problems.items():
        if found.any():
            i = int(found.nonzero()[0])
            corners = ", ".join(f"{value:g}" for value in boxes[i].tolist())
            raise ConfigError(
                f"box {i + 1} of picture {one_line(name)}, ({corners}), {problem}; "
                "expected x0 < x1 and y0 < y1 in pixels inside the picture"
            )
    return clipped


def boxes_of(labels: Tensor) -> Tensor:
    """Tight boxes float32 [B, 4] of the objects 1..B of a label map int32 [H, W]."""
    found = ndimage.find_objects(labels.numpy())
    return _tensor((x.start, y.start, x.stop, y.stop) for y, x in found)


# --- formats -------------------------------------------------------------------------------------


class _Elements(ET.TreeBuilder):
    """Builds the tree of a document without a type declaration, where entity bombs live."""

    def doctype(self, *_: object) -> NoReturn:
        raise ConfigError("a document type declaration (DOCTYPE) is not accepted")


def _read_voc_folder(folder: Path) -> dict[str, Tensor]:
    paths = sorted(path for path in folder.rglob("*.xml") if not path.name.startswith("."))
    if not paths:
        _refuse(folder, "the folder has no .xml files")
    return {path.relative_to(folder).with_suffix("").as_posix(): _voc_boxes(path) for path in paths}


def _read_voc(path: Path) -> dict[str, Tensor]:
    return {path.stem: _voc_boxes(path)}


def _voc_boxes(path: Path) -> Tensor:
    try:
        root = ET.fromstring(path.read_bytes(), parser=ET.XMLParser(target=_Elements()))
        if root.tag != "annotation":
            raise ValueError(f"not Pascal VOC: its root is <{root.tag}>, expected <annotation>")
        # The path leaves out the boxes of an object's parts, one level below.
        found = root.findall("object/bndbox")
        return _tensor(_from_voc([box.findtext(c, "") for c in _VOC_COLUMNS]) for box in found)
    except (ET.ParseError, OSError) as error:
        _refuse(path, f"not valid XML: {error}")
    except (ConfigError, ValueError) as error:
        _refuse(path, str(error))


def _read_coco(path: Path) -> dict[str, Tensor]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        boxes: dict[str, list[Box]] = {_normal(name): [] for name in names.values()}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                x, y, width, height = map(float, annotation["bbox"])
                box = (x, y, x + width, y + height)
                boxes[_normal(names[annotation["image_id"]])].append(box)
    except json.JSONDecodeError as error:
        _refuse(path, f"not valid JSON: {error}")
    except KeyError as error:
        _refuse(path, f"not a COCO file: {error} is missing or unknown")
    except (AttributeError, TypeError, ValueError) as error:
        _refuse(path, f"not a COCO file: {error}")
    return {name: _tensor(found) for name, found in boxes.items()}


def _read_csv(path: Path) -> dict[str, Tensor]:
    boxes: defaultdict[str, list[Box]] = defaultdict(list)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        header = reader.fieldnames or []
        own = {"image", *_OWN_COLUMNS} <= set(header)
        if not own and not {"filename", *_VOC_COLUMNS} <= set(header):
            wanted = "image,x0,y0,x1,y1 or filename,xmin,ymin,xmax,ymax"
            _refuse(path, f"its first line is {','.join(header)!r}, expected {wanted}")
        name, columns = ("image", _OWN_COLUMNS) if own else ("filename", _VOC_COLUMNS)
        for row in reader:
            values = [row[column] for column in columns]
            try:
                box = _from_half_open(values) if own else _from_voc(values)
            except (TypeError, ValueError):
                _refuse(path, f"line {reader.line_num}: {values} are not four numbers")
            boxes[_normal(row[name])].append(box)
    return {key: _tensor(found) for key, found in boxes.items()}


def _from_half_open(values: Sequence[str]) -> Box:
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def _from_voc(values: Sequence[str]) -> Box:
    """Half-open corners from zero, of corners counted from one with the last pixel included."""
    xmin, ymin, xmax, ymax = map(float, values)
    return xmin - 1, ymin - 1, xmax, ymax


def _tensor(boxes: Iterable[Box]) -> Tensor:
    return torch.tensor(list(boxes), dtype=torch.float32).reshape(-1, 4)


def _refuse(path: Path, problem: str) -> NoReturn:
    raise ConfigError(f"boxes: {one_line(str(path))}: {one_line(problem)}")


# --- names ---------------------------------------------------------------------------------------


def _normal(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parent.parts


def _fit(key: str, file: str) -> bool:
    first, second = _folders(key), _folders(file)
    common = min(len(first), len(second))
    return first[len(first) - common :] == second[len(second) - common :]


def _closeness(key: str, file: str) -> tuple[bool, bool]:
    return _folders(key) == _folders(file), PurePosixPath(key).name == PurePosixPath(file).name
