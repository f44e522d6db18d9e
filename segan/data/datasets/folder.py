"""Any folder tree of images, with boxes and masks if there are any."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segan.config import settings
from segan.data.boxes import check_boxes, match_boxes, read_boxes
from segan.data.images import (
    UnreadableImage,
    find_images,
    one_line,
    read_image,
    read_mask,
    require_folder,
)
from segan.data.inspection import Picture, Skipped, inspect, require_pairs, require_readable
from segan.data.sample import Mask, Sample, Split
from segan.data.splits import members
from segan.errors import ConfigError, DataError


@settings
class FolderConfig:
    """A folder of images.

    Attributes:
        root: Images at any depth.
        boxes: Pascal VOC, COCO or CSV (see `read_boxes`), for the upright pictures.
        masks: A folder of masks laid out like the images: same relative path, any image suffix,
            any size; objects above gray level 127. Used by evaluation only, so that with them
            training has 60 % of the images by name, and "dev" and "test" 20 % each.
        backgrounds: A second folder of images at any depth: the same kind of place without any
            object, for the methods that need such pictures. Of any number and size.
        split: As with masks, without any; otherwise training has all images.
    """

    type: Literal["folder"] = "folder"
    root: Path
    boxes: Path | None = None
    masks: Path | None = None
    backgrounds: Path | None = None
    split: bool = False


class Folder:
    """The images below a folder; a picture's name is its path below it without suffix.

    Raises:
        ConfigError: A path is missing, there are no images, or the boxes do not fit them.
        DataError: Too many files cannot be read, masks are missing, or the split is empty.
    """

    name = "folder"
    backgrounds: "Folder"

    def __init__(self, config: FolderConfig, split: Split = "train") -> None:
        root = require_folder(config.root)
        empty = _folder_of_backgrounds(config.backgrounds, root) if config.backgrounds else None
        files = _named_files(root, [folder for folder in (config.masks, empty) if folder])
        pictures, self.skipped = inspect(files, root)
        self._masks: dict[str, Path] = {}
        if config.masks:
            self._masks = _find_masks(config.masks, [picture.name for picture in pictures])
            pictures, self.skipped = _with_readable_masks(pictures, self._masks, self.skipped, root)
        self._boxes = _find_boxes(config.boxes, pictures, root) if config.boxes else None
        if split == "train" and not (config.split or config.masks):
            split = "all"
        chosen = members([p.name for p in pictures], [p.digest for p in pictures], split)
        if not chosen:
            raise DataError(
                f"none of the {len(pictures)} images in {one_line(str(root))} falls into the split "
                f"{split!r}; use split 'all'"
            )
        self._pictures = [pictures[i] for i in chosen]
        if empty:
            self.backgrounds = _find_backgrounds(empty, pictures)
            # By the folder as well: the two may hold pictures of the same names.
            self.skipped += tuple(
                Skipped(f"{empty}/{name}", reason) for name, reason in self.backgrounds.skipped
            )
        given = {
            "images": True,
            "boxes": config.boxes,
            "masks": config.masks,
            "backgrounds": config.backgrounds,
        }
        self.provides = frozenset(kind for kind, there in given.items() if there)
        self.box_source = "annotated" if config.boxes else ""

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        boxes = self._boxes[picture.name] if self._boxes is not None else None
        mask = self._masks.get(picture.name)
        truth = Mask(_fit_mask(read_mask(mask), picture.size)) if mask else None
        return Sample(picture.name, read_image(picture.path), boxes, truth)


def _named_files(root: Path, others: Sequence[Path]) -> dict[str, Path]:
    """Images by path below the root, without suffix where that is enough to tell them apart.

    What lies in `others`, folders of something else, is left out.
    """
    paths = find_images(root)
    for other in others:
        inside = other.expanduser().resolve()
        paths = [path for path in paths if not path.resolve().is_relative_to(inside)]
    full = [path.relative_to(root).as_posix() for path in paths]
    short = [path.relative_to(root).with_suffix("").as_posix() for path in paths]
    count = Counter(short)
    names = [a if count[a] == 1 else b for a, b in zip(short, full, strict=True)]
    # "a.png" beside "a.jpg" and "a.png.png": the short name of the last is the first's full name.
    return dict(zip(names if len(set(names)) == len(names) else full, paths, strict=True))


def _find_masks(folder: Path, names: list[str]) -> dict[str, Path]:
    folder = require_folder(folder, "data.masks")
    found: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            both = f"{one_line(found[name].name)} and {one_line(path.name)}"
            raise ConfigError(f"data.masks: {both} are masks of one picture; keep one")
        found[name] = path
    require_pairs(names, found, f"mask in {one_line(str(folder))}")
    return {name: found[name] for name in names}


def _folder_of_backgrounds(path: Path, root: Path) -> Path:
    """The folder of object-free pictures.

    Raises:
        ConfigError: It is missing, holds no images, or is or holds the folder of the others.
    """
    folder = require_folder(path, "data.backgrounds")
    where = f"data.backgrounds: {one_line(str(folder))}"
    if root.resolve().is_relative_to(folder.resolve()):
        relation = "is" if root.resolve() == folder.resolve() else "holds"
        raise ConfigError(
            f"{where} {relation} data.root; name a folder of pictures without objects"
        )
    if not find_images(folder):
        raise ConfigError(f"{where} has no images")
    return folder


def _find_backgrounds(folder: Path, pictures: Sequence[Picture]) -> Folder:
    """The object-free pictures, without those that are also among the pictures with objects.

    Raises:
        DataError: Too many files cannot be read.
        ConfigError: All are also among the others.
    """
    found = Folder(FolderConfig(root=folder), "all")
    known = {picture.digest: picture.name for picture in pictures}
    copies = [p for p in found._pictures if p.digest in known]
    found._pictures = [p for p in found._pictures if p.digest not in known]
    if not found._pictures:
        raise ConfigError(
            f"data.backgrounds: all {len(copies)} pictures in {one_line(str(folder))} are also in "
            "data.root; name a folder of pictures without objects"
        )
    reason = "object-free, yet also in data.root as"
    found.skipped += tuple(Skipped(p.name, f"{reason} {known[p.digest]}") for p in copies)
    return found


def _with_readable_masks(
    pictures: list[Picture], masks: dict[str, Path], skipped: tuple[Skipped, ...], root: Path
) -> tuple[list[Picture], tuple[Skipped, ...]]:
    """The pictures without those whose mask is unreadable, which count as skipped."""
    bad = []
    for picture in pictures:
        try:
            read_mask(masks[picture.name])
        except UnreadableImage as error:
            bad.append(Skipped(picture.name, f"its mask: {error.reason}"))
    everything = (*skipped, *bad)
    require_readable(len(pictures) + len(skipped), everything, root)
    names = {name for name, _ in bad}
    return [picture for picture in pictures if picture.name not in names], everything


def _find_boxes(path: Path, pictures: list[Picture], root: Path) -> dict[str, Tensor]:
    files = [picture.path.relative_to(root).as_posix() for picture in pictures]
    matched = zip(pictures, match_boxes(read_boxes(path), files), strict=True)
    return {p.name: check_boxes(boxes, p.size, p.name) for p, boxes in matched}


def _fit_mask(levels: Tensor, size: tuple[int, int]) -> Tensor:
    """Objects of a mask [H, W] of gray levels, resampled to a picture's size: bool [H', W']."""
    if tuple(levels.shape) != size:
        levels = F.interpolate(levels[None, None].float(), size=size, mode="nearest-exact")[0, 0]
    objects: Tensor = torch.gt(levels, 127)
    return objects
