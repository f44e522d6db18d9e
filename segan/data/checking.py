"""Looking through a folder of pictures, or through a data set with its ground truth."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from segan.data import DataConfig, build
from segan.data.images import find_images, require_folder, stored_mode
from segan.data.inspection import Skipped, look_at
from segan.data.sample import Split
from segan.errors import ConfigError, DataError, SeganError


@dataclass(frozen=True, kw_only=True)
class FolderReport:
    """What is in a folder.

    Attributes:
        files: Image files by suffix.
        unreadable: The bad ones by path below the folder.
        copies: Groups of files with equal pixels.
        sizes: Count by (height, width), upright.
        modes: Count by the way they are stored.
    """

    files: dict[str, int]
    unreadable: tuple[Skipped, ...]
    copies: tuple[tuple[str, ...], ...]
    sizes: dict[tuple[int, int], int]
    modes: dict[str, int]

    def tree(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "files": self.files,
            "unreadable": [bad._asdict() for bad in self.unreadable],
            "copies": [list(group) for group in self.copies],
            "sizes": [{"height": h, "width": w, "count": n} for (h, w), n in self.sizes.items()],
            "modes": self.modes,
        }


def check_folder(root: Path) -> FolderReport:
    """Every image file below a folder, decoded once.

    Raises:
        ConfigError: The folder is missing, or has no image files.
    """
    root = require_folder(root, "DIR")
    paths = find_images(root)
    if not paths:
        raise ConfigError(f"DIR: no images in {root}")
    good, bad = look_at({path.relative_to(root).as_posix(): path for path in paths})
    names = defaultdict(list)
    for picture in good:
        names[picture.digest].append(picture.name)
    return FolderReport(
        files=_counted(path.suffix.lower() for path in paths),
        unreadable=bad,
        copies=tuple(tuple(group) for group in names.values() if len(group) > 1),
        sizes=_counted(picture.size for picture in good),
        modes=_counted(stored_mode(picture.path) for picture in good),
    )


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What a data set gives.

    Attributes:
        name: The set's.
        provides: What its samples have.
        box_source: Where its boxes come from.
        splits: Pictures in each split, or why there are none.
        skipped: Pictures left out.
        wrong: Samples that cannot be read, with the reason.
    """

    name: str
    provides: tuple[str, ...]
    box_source: str
    splits: dict[str, int | str]
    skipped: tuple[Skipped, ...]
    wrong: tuple[Skipped, ...]

    def tree(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "provides": list(self.provides),
            "box_source": self.box_source,
            "splits": self.splits,
            "skipped": [bad._asdict() for bad in self.skipped],
            "wrong": [bad._asdict() for bad in self.wrong],
        }


def check_dataset(config: DataConfig) -> DatasetReport:
    """Every sample of a data set, with its ground truth.

    Raises:
        ConfigError: The set's folder is missing or laid out otherwise.
        DataError: Nothing of it can be used.
    """
    dataset = build(config, "all")
    wrong = []
    for index in range(len(dataset)):
        try:
            dataset[index]
        except SeganError as error:
            wrong.append(Skipped(str(index), str(error)))
    splits: dict[str, int | str] = {}
    for split in get_args(Split):
        try:
            splits[split] = len(build(config, split))
        except DataError as error:
            splits[split] = str(error)
    return DatasetReport(
        name=dataset.name,
        provides=tuple(sorted(dataset.provides)),
        box_source=dataset.box_source,
        splits=splits,
        skipped=getattr(dataset, "skipped", ()),
        wrong=tuple(wrong),
    )


def _counted(values: Any) -> dict[Any, int]:
    """How often each value occurs, the most frequent first."""
    return dict(Counter(values).most_common())
