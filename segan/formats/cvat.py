"""CVAT's "Segmentation mask 1.1": an archive of two colour images per picture."""

import io
import json
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segan.files import written_aside
from segan.formats.found import Found, Labels
from segan.formats.writing import PerPicture, files_below, write

CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
LABEL_MAP, NAMES = "labelmap.txt", "ImageSets/Segmentation/default.txt"

MOST_OBJECTS = 255
"""CVAT knows the colours of so many objects in a picture."""

_WHEN = (1980, 1, 1, 0, 0, 0)  # equal content makes an equal archive


def voc_colours(count: int) -> NDArray[np.uint8]:
    """The colours [count, 3] of Pascal VOC for the numbers from 0, black first.

    The bits of a number go to red, green and blue in turn, each filled from its highest bit.
    """
    numbers = np.arange(count)
    colours = np.zeros((count, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (numbers >> (3 * bit + channel) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def encode_images(found: Found) -> tuple[bytes, bytes, int]:
    """The class image and the object image of a picture, and how many objects were left out.

    Objects beyond 255 cannot be told apart; the smallest are left out of both.
    """
    objects = found.objects
    areas = np.bincount(objects.ravel(), minlength=len(found.object_categories) + 1)
    areas[0] = 0
    kept = np.sort(np.argsort(-areas, kind="stable")[:MOST_OBJECTS])
    kept = kept[areas[kept] > 0]
    numbers = np.zeros(len(areas), np.uint8)
    numbers[kept] = np.arange(1, len(kept) + 1)
    classes = np.zeros(len(areas), np.intp)
    classes[kept] = found.object_categories[kept - 1] + 1
    left_out = int(np.count_nonzero(areas)) - len(kept)
    colours = voc_colours(max(len(found.category_names) + 1, 256))
    return _painted(objects, colours[classes]), _painted(objects, colours[numbers]), left_out


def label_map(category_names: Iterable[str]) -> str:
    """The content of labelmap.txt: a colour per label."""
    names = ["background", *category_names]
    colours = voc_colours(len(names)).tolist()
    lines = [
        f"{name}:{red},{green},{blue}::"
        for name, (red, green, blue) in zip(names, colours, strict=True)
    ]
    return "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n"


def encode_cvat(found: Found) -> bytes:
    """The complete archive of one picture."""
    classes, objects, _ = encode_images(found)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        _put(archive, LABEL_MAP, label_map(found.category_names).encode())
        name = _entry(found.name)
        _put(archive, NAMES, f"{name}\n".encode())
        _put(archive, f"{CLASSES}/{name}.png", classes)
        _put(archive, f"{OBJECTS}/{name}.png", objects)
    return stream.getvalue()


class CvatWriter(PerPicture):
    """Two images per picture in out/cvat, and out/cvat.zip from all of them.

    Args:
        out: The folder.
    """

    def __init__(self, out: Path) -> None:
        # Written last, the object image says that a picture is finished.
        super().__init__(out / "cvat" / OBJECTS, ".png", lambda found: encode_images(found)[1])
        self.root = out / "cvat"
        self.archive = out / "cvat.zip"
        self.num_left_out = 0
        self.lock = threading.Lock()

    def add(self, found: Found) -> None:
        """Writes the images of a picture, and the names of its categories."""
        classes, objects, left_out = encode_images(found)
        write(
            self.root / "labels" / f"{found.name}.json", json.dumps(found.category_names).encode()
        )
        write(self.root / CLASSES / f"{found.name}.png", classes)
        write(self.path(found.name), objects)
        with self.lock:
            self.num_left_out += left_out

    def close(self) -> str | None:
        """Writes the archive; says how many objects did not fit."""
        names: list[str] = []
        for path in files_below(self.root / "labels", ".json"):
            names = max(names, json.loads(path.read_bytes()), key=len)
        finished = [
            path.relative_to(self.folder).as_posix().removesuffix(".png")
            for path in files_below(self.folder, ".png")
        ]
        with written_aside(self.archive) as aside, zipfile.ZipFile(aside, "w") as archive:
            _put(archive, LABEL_MAP, label_map(names).encode())
            _put(archive, NAMES, "".join(f"{_entry(name)}\n" for name in finished).encode())
            for name in finished:
                for folder in (CLASSES, OBJECTS):
                    image = self.root / folder / f"{name}.png"
                    _put(archive, f"{folder}/{_entry(name)}.png", image.read_bytes())
        if not self.num_left_out:
            return None
        return (
            f"cvat: {self.num_left_out} objects were left out, as CVAT tells {MOST_OBJECTS} apart "
            "in a picture"
        )


def _painted(objects: Labels, colours: NDArray[np.uint8]) -> bytes:
    """Objects [H, W] as a PNG of a colour [B + 1, 3] for each, the first for none."""
    written, content = cv2.imencode(".png", colours[:, ::-1][objects])
    assert written
    return content.tobytes()


def _entry(name: str) -> str:
    """A picture's name as archives can hold it, and nobody unpacks it elsewhere.

    Characters that do not print, those of no encoding among them, and backslashes, which are
    folders to some, become "_"; so do folders without a name or above.
    """
    plain = "".join(c if c.isprintable() and c != "\\" else "_" for c in name)
    return "/".join("_" if part in ("", ".", "..") else part for part in plain.split("/"))


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _WHEN), content)
