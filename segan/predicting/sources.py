"""What `segan predict` is given: pictures, folders of them, patterns and videos."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segan.data.boxes import check_boxes, match_boxes
from segan.data.images import UnreadableImage, find_images, image_size, one_line
from segan.errors import ConfigError
from segan.predicting.video import SUFFIXES, Video

_WILD = "*?["


class Job(NamedTuple):
    """One picture, or one frame of a video.

    Attributes:
        name: What its outputs are called, below their folders and without suffix.
        file: Its path below the folder that all sources have in common, with suffix.
        path: The file.
        boxes: [B, 4] in pixels, inside the picture; None for whole pictures.
        video: What it is a frame of, if anything.
        frame: The frame's number, from 0.
    """

    name: str
    file: str
    path: Path
    boxes: Tensor | None = None
    video: Video | None = None
    frame: int = 0


@dataclass(frozen=True)
class Sources:
    """Pictures and videos to segment.

    Attributes:
        root: The folder that all of them have in common.
        images: Each file once.
        videos: Likewise.
    """

    root: Path
    images: list[Path]
    videos: list[Path]


def list_sources(sources: Sequence[Path], out: Path) -> Sources:
    """All pictures and videos named: files, folders at any depth (pictures alone) and patterns.

    A pattern, such as "plates/*/well-??.tif" or "**/*.png", counts when no file has its name.

    Raises:
        ConfigError: A path leads nowhere, or there is nothing to segment.
    """
    own = Path(os.path.abspath(out))
    folders: list[Path] = []
    files: dict[Path, None] = {}
    for source in sources:
        path = Path(os.path.abspath(source.expanduser()))
        if not path.exists() and set(_WILD) & set(str(path)):
            folder, found = _matching(path)
        elif not path.exists():
            raise ConfigError(f"there is no image or folder {one_line(str(source))}")
        else:
            folder = path if path.is_dir() else path.parent
            found = find_images(path) if path.is_dir() else [path]
        folders.append(folder)
        # Our own outputs, when `out` lies inside a source.
        files.update(dict.fromkeys(file for file in found if own not in file.parents))
    if not files and any(own in (folder, *folder.parents) for folder in folders):
        raise ConfigError(f"--out {one_line(str(out))} is where the images are; give a new folder")
    if not files:
        raise ConfigError(f"no images in {', '.join(one_line(str(path)) for path in sources)}")
    root = Path(os.path.commonpath(folders))
    videos = [file for file in files if file.suffix.lower() in SUFFIXES]
    return Sources(root, [file for file in files if file not in set(videos)], videos)


def _matching(pattern: Path) -> tuple[Path, list[Path]]:
    """The folder in front of a pattern's first wild part, and the files that fit, sorted."""
    parts = pattern.parts
    wild = next(i for i, part in enumerate(parts) if set(_WILD) & set(part))
    fitting = (Path(file) for file in glob.glob(str(pattern), recursive=True))
    return Path(*parts[:wild]), sorted(file for file in fitting if file.is_file())


def picture_jobs(
    root: Path, files: Sequence[Path], boxes: Mapping[str, Tensor] | None
) -> list[Job]:
    """A job per picture; the suffix is part of its name where two pictures differ in it alone.

    Raises:
        ConfigError: A box lies outside its picture, or the boxes fit no picture.
    """
    paths = [file.relative_to(root) for file in files]
    stems = Counter(path.with_suffix("") for path in paths)
    ambiguous = {stem.parent for stem, count in stems.items() if count > 1}
    jobs = [
        Job(
            (path if path.parent in ambiguous else path.with_suffix("")).as_posix(),
            path.as_posix(),
            file,
        )
        for path, file in zip(paths, files, strict=True)
    ]
    if boxes is None:
        return jobs
    matched = match_boxes(dict(boxes), [job.file for job in jobs])
    return [job._replace(boxes=_checked(own, job)) for job, own in zip(jobs, matched, strict=True)]


def video_names(root: Path, videos: Sequence[Path]) -> list[str]:
    """What the outputs of videos are called; with the suffix where two differ in it alone."""
    paths = [video.relative_to(root) for video in videos]
    stems = Counter(path.with_suffix("") for path in paths)
    return [
        (path if stems[path.with_suffix("")] > 1 else path.with_suffix("")).as_posix()
        for path in paths
    ]


def frame_jobs(video_name: str, video: Video) -> Iterator[Job]:
    """A job per frame, called NAME/000000 and so on, until reading found the end."""
    number = 0
    while not video.ended:
        name = f"{video_name}/{number:06d}"
        yield Job(name, f"{name}.png", video.path, video=video, frame=number)
        number += 1


def _checked(boxes: Tensor, job: Job) -> Tensor:
    try:
        return check_boxes(boxes, image_size(job.path), job.name)
    except UnreadableImage:
        return boxes  # reported when its turn comes
