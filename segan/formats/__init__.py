"""Formats that masks are written in, for labelling tools, for training and for looking at.

`FORMATS[name].encode(found)` is the complete file of one picture, `open_writers` writes many
pictures into a folder.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from segan.errors import ConfigError
from segan.formats.coco import encode_coco, open_coco
from segan.formats.cvat import CvatWriter, encode_cvat
from segan.formats.found import Found as Found
from segan.formats.labelme import encode_labelme
from segan.formats.labelstudio import encode_labelstudio, open_labelstudio
from segan.formats.npz import encode_npz
from segan.formats.png import encode_instances, encode_mask, encode_overlay, encode_soft
from segan.formats.writing import Format, PerPicture
from segan.formats.writing import Writer as Writer
from segan.formats.yolo import YoloWriter, encode_yolo

DEFAULT = ("masks", "overlays")

_PER_PICTURE = {
    "masks": (".png", encode_mask, ()),
    "overlays": (".png", encode_overlay, ("picture",)),
    "soft": (".png", encode_soft, ("probability",)),
    "instances": (".png", encode_instances, ()),
    "npz": (".npz", encode_npz, ()),
    "labelme": (".json", encode_labelme, ()),
}


def _open(name: str, out: Path) -> PerPicture:
    suffix, encode, _ = _PER_PICTURE[name]
    return PerPicture(out / name, suffix, encode)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        name: Format(
            suffix=suffix,
            encode=encode,
            open=partial(_open, name),
            folders=(name,),
            needs=frozenset(needs),
        )
        for name, (suffix, encode, needs) in _PER_PICTURE.items()
    }
    | {
        "coco": Format(suffix=".json", encode=encode_coco, open=open_coco, folders=("coco",)),
        "labelstudio": Format(
            suffix=".json",
            encode=encode_labelstudio,
            open=open_labelstudio,
            folders=("labelstudio",),
        ),
        "cvat": Format(
            suffix=".zip", encode=encode_cvat, open=CvatWriter, folders=("cvat", "cvat.zip")
        ),
        "yolo": Format(suffix=".txt", encode=encode_yolo, open=YoloWriter, folders=("yolo",)),
    }
)
"""Names, as on the command line, to formats."""


def open_writers(names: Sequence[str], out: Path) -> dict[str, Writer]:
    """A writer for each format named, into folders inside `out`.

    Raises:
        ConfigError: There is no such format.
    """
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return {name: FORMATS[name].open(out) for name in dict.fromkeys(names)}


def encode(name: str, found: Found) -> bytes:
    """The complete file of one picture in a format; its suffix is `FORMATS[name].suffix`.

    Raises:
        ConfigError: There is no such format, or it cannot hold what was found.
    """
    if name not in FORMATS:
        raise ConfigError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name].encode(found)
