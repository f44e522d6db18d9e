"""YOLO's segmentation labels: a text file per picture, a polygon per line."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segan.formats.found import Found, Object
from segan.formats.polygons import Polygon, fill, outlines, with_slits
from segan.formats.writing import PerPicture, write


def polygons_of(each: Object) -> list[Polygon]:
    """One polygon per piece of an object, with slits to its holes."""
    return [with_slits(piece) for piece in outlines(each.mask, left=each.left, top=each.top)]


def encode_yolo(found: Found) -> bytes:
    """Lines `category x y x y ...`, one per piece of an object, in shares of width and height.

    A pixel's centre is half a pixel from its corner: (x + 1 / 2) / width, (y + 1 / 2) / height.
    """
    return encode_with_overlap(found)[0].encode()


def encode_with_overlap(found: Found) -> tuple[str, float]:
    """The lines, and the IoU of the masks that a reader fills from them with those given."""
    height, width = found.size
    lines: list[str] = []
    common = either = 0
    for each in found.each():
        polygons = polygons_of(each)
        for polygon in polygons:
            shares = (polygon + 0.5) / (width, height)
            lines.append(f"{each.category} " + " ".join(f"{share:.7f}" for share in shares.ravel()))
        filled = fill(polygons, each.mask.shape, left=each.left, top=each.top)
        common += int(np.count_nonzero(filled & each.mask))
        either += int(np.count_nonzero(filled | each.mask))
    overlap = common / either if either else 1.0
    return "".join(f"{line}\n" for line in lines), overlap


class YoloWriter(PerPicture):
    """Text files in out/yolo/labels, and out/yolo/data.yaml with the names of the categories.

    Args:
        out: The folder.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(out / "yolo" / "labels", ".txt", encode_yolo)
        self.data = out / "yolo" / "data.yaml"
        self.overlaps: list[float] = []
        self.names: tuple[str, ...] = ()
        self.lock = threading.Lock()

    def add(self, found: Found) -> None:
        """Writes the lines of a picture, and before the first the names of the categories."""
        text, overlap = encode_with_overlap(found)
        with self.lock:
            if len(found.category_names) > len(self.names):
                self.names = found.category_names
                write(self.data, _data(self.names))
        write(self.path(found.name), text.encode())
        with self.lock:
            self.overlaps.append(overlap)

    def close(self) -> str | None:
        """Says what was lost, if anything."""
        if not self.overlaps or min(self.overlaps) == 1:
            return None
        count = sum(overlap < 1 for overlap in self.overlaps)
        return (
            f"yolo: polygons do not give {count} of {len(self.overlaps)} masks back exactly: IoU "
            f"{np.mean(self.overlaps):.4f} on average, {min(self.overlaps):.4f} at worst"
        )


def _data(names: Sequence[str]) -> bytes:
    lines = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    return f"path: .\ntrain: images\nval: images\nnames:\n{lines}".encode()
