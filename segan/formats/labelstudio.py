"""Label Studio: one JSON file of tasks, each object a brush predicted for its picture."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from segan.formats.found import Found
from segan.formats.rle import encode_brush
from segan.formats.writing import Assembled

FILE_NAME = "tasks.json"
INTERFACE = "interface.xml"

_LABELS, _IMAGE = "tag", "image"  # names inside the labelling interface


def encode_task(found: Found) -> bytes:
    """A picture's task. Its image is the picture's path, to be prefixed with where it is served."""
    height, width = found.size
    results: list[dict[str, Any]] = []
    for number, each in enumerate(found.each(), start=1):
        whole = np.zeros(found.size, np.bool_)
        rows, columns = each.mask.shape
        whole[each.top : each.top + rows, each.left : each.left + columns] = each.mask
        result: dict[str, Any] = {
            "id": f"object-{number}",
            "type": "brushlabels",
            "from_name": _LABELS,
            "to_name": _IMAGE,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {
                "format": "rle",
                "rle": encode_brush(whole),
                "brushlabels": [found.category_names[each.category]],
            },
        }
        if each.score is not None:
            result["score"] = round(each.score, 4)
        results.append(result)
    prediction = {"model_version": "segan", "result": results}
    return json.dumps({"data": {"image": found.file}, "predictions": [prediction]}).encode()


def assemble(fragments: Sequence[Path]) -> Iterator[str]:
    """The parts of the list of all tasks."""
    yield "["
    for number, path in enumerate(fragments):
        yield ("\n" if number == 0 else ",\n") + path.read_text(encoding="utf-8")
    yield "\n]\n"


def interface(fragments: Sequence[Path]) -> Iterator[str]:
    """The parts of the labelling interface that a project needs for these tasks."""
    labels: dict[str, None] = {}
    for path in fragments:
        task = json.loads(path.read_text(encoding="utf-8"))
        for result in task["predictions"][0]["result"]:
            labels.update(dict.fromkeys(result["value"]["brushlabels"]))
    yield f'<View>\n  <Image name="{_IMAGE}" value="$image"/>\n'
    yield f'  <BrushLabels name="{_LABELS}" toName="{_IMAGE}">\n'
    yield from (f"    <Label value={quoteattr(name)}/>\n" for name in sorted(labels))
    yield "  </BrushLabels>\n</View>\n"


def encode_labelstudio(found: Found) -> bytes:
    """The complete file of one picture: a list of its one task."""
    return b"[" + encode_task(found) + b"]\n"


def open_labelstudio(out: Path) -> Assembled:
    """A writer into out/labelstudio."""
    files = {FILE_NAME: assemble, INTERFACE: interface}
    return Assembled(out / "labelstudio", encode_task, files)
