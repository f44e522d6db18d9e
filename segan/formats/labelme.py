"""labelme: one JSON file per picture; polygons, and bitmaps for what has holes."""

import base64
import io
import json
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from segan.formats.found import Found, Object
from segan.formats.polygons import outlines

# Files of this version may hold bitmaps.
_VERSION = "5.5.0"


def encode_labelme(found: Found) -> bytes:
    """A picture's file, to be laid beside it: labelme looks for the picture in its own folder.

    An object without holes is a polygon per piece, pieces of one object sharing a `group_id`; one
    with holes is a bitmap, as polygons have none.
    """
    height, width = found.size
    shapes: list[dict[str, Any]] = []
    for number, each in enumerate(found.each(), start=1):
        shapes += _shapes(each, found.category_names[each.category], number)
    document: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": PurePosixPath(found.file).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json.dumps(document).encode()


def _shapes(each: Object, label: str, number: int) -> list[dict[str, Any]]:
    pieces = outlines(each.mask, left=each.left, top=each.top)
    common = {"label": label, "description": "", "flags": {}}
    if any(piece.holes for piece in pieces):
        rows, columns = each.mask.shape
        corners = [
            [each.left, each.top],
            [each.left + columns - 1, each.top + rows - 1],  # of the last pixel, included
        ]
        bitmap = {"points": corners, "shape_type": "mask", "mask": _bitmap(each.mask)}
        return [{**common, "group_id": None, **bitmap}]
    group = number if len(pieces) > 1 else None
    return [
        {
            **common,
            "group_id": group,
            "points": piece.outer.tolist(),
            "shape_type": "polygon",
            "mask": None,
        }
        for piece in pieces
    ]


def _bitmap(mask: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode("ascii")
