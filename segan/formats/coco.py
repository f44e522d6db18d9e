"""COCO: one JSON file for all pictures, with run lengths for every object, holes included."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segan.formats.found import Found
from segan.formats.rle import encode_coco_rle
from segan.formats.writing import Assembled

FILE_NAME = "annotations.json"


def encode_fragment(found: Found) -> bytes:
    """A picture's image, annotations and categories, still without numbers of their own."""
    height, width = found.size
    annotations = []
    for each in found.each():
        rows, columns = each.mask.shape
        annotation: dict[str, Any] = {
            "category_id": each.category + 1,
            "bbox": [each.left, each.top, columns, rows],
            "area": int(np.count_nonzero(each.mask)),
            "iscrowd": 0,
            "segmentation": encode_coco_rle(
                each.mask, left=each.left, top=each.top, size=found.size
            ),
        }
        if each.score is not None:
            annotation["score"] = round(each.score, 4)
        annotations.append(annotation)
    fragment = {
        "image": {"file_name": found.file, "width": width, "height": height},
        "annotations": annotations,
        "category_names": found.category_names,
    }
    return json.dumps(fragment).encode()


def assemble(fragments: Sequence[Path]) -> Iterator[str]:
    """The parts of the whole file; only one picture is held at a time."""
    return _assemble(lambda: (path.read_bytes() for path in fragments))


def encode_coco(found: Found) -> bytes:
    """The complete file of one picture."""
    return "".join(_assemble(lambda: iter([encode_fragment(found)]))).encode()


def open_coco(out: Path) -> Assembled:
    """A writer into out/coco."""
    return Assembled(out / "coco", encode_fragment, {FILE_NAME: assemble})


def _assemble(read: Any) -> Iterator[str]:
    names: list[str] = []
    yield '{"images": ['
    for number, fragment in enumerate(map(json.loads, read()), start=1):
        names = max(names, fragment["category_names"], key=len)
        yield _separated(number, {"id": number, **fragment["image"]})
    yield '\n],\n"annotations": ['
    identity = 0
    for number, fragment in enumerate(map(json.loads, read()), start=1):
        for annotation in fragment["annotations"]:
            identity += 1
            yield _separated(identity, {"id": identity, "image_id": number, **annotation})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    yield f'\n],\n"categories": {json.dumps(categories)}}}\n'


def _separated(number: int, entry: dict[str, Any]) -> str:
    return ("\n" if number == 1 else ",\n") + json.dumps(entry)
