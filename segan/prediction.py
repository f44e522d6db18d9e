"""Masks of pictures as files: an index PNG and an overlay for each, in a folder of their own.

Pictures are read, segmented and written at the same time, in order. What is finished stays, so
that the same command goes on where it was stopped.
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from segan.data.boxes import check_boxes, match_boxes, read_boxes
from segan.data.images import UnreadableImage, find_images, image_size, one_line, read_image
from segan.data.inspection import Skipped, require_readable
from segan.errors import ConfigError
from segan.evaluation.polarity import Named
from segan.evaluation.rows import native_regions, probability_in_boxes
from segan.exporting.whole import WholePicture
from segan.files import written_aside
from segan.opening import Opened, open_segmenter
from segan.overlay import MASK_COLOR, index_image, label_overlay, overlay, palette
from segan.segmenter import PartitionSegmenter, RegionSegmenter, Segmenter, WindowSpec

MARKER = "segan-predict.json"
_FOLDERS = ("masks", "overlays")
_AHEAD = 4

Item = TypeVar("Item")
Result = TypeVar("Result")

# A picture uint8 [3, H, W], and its boxes [B, 4] if windows are used, to an int map [H, W]: a mask
# of 0 and 1, or numbers of regions.
Segment = Callable[[Tensor, Tensor | None], Tensor]


# A picture or why it cannot be read, with its map if it can.
Written = tuple["Job", Tensor | Skipped, Tensor | None]


class Job(NamedTuple):
    """One picture to segment.

    Attributes:
        name: What its outputs are called, below their folders and without suffix.
        path: The file.
        boxes: [B, 4] in pixels, inside the picture; None for whole pictures.
    """

    name: str
    path: Path
    boxes: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `predict` did.

    Attributes:
        num_written: Pictures whose mask and overlay were written.
        num_finished: Pictures that had both from an earlier run.
        num_empty: Pictures written in which nothing was found.
        skipped: Pictures that cannot be read, with the reason.
        without_boxes: Pictures for which the file of boxes has none.
        seconds: How long writing took.
        out: Where the files are.
    """

    num_written: int
    num_finished: int
    num_empty: int
    skipped: tuple[Skipped, ...]
    without_boxes: tuple[str, ...]
    seconds: float
    out: Path

    def __str__(self) -> str:
        rate = self.num_written / max(self.seconds, 1e-9)
        parts = [f"{self.num_written} masks written to {self.out} ({rate:.1f} images/s)"]
        if self.num_empty:
            parts.append(f"nothing was found in {self.num_empty} of them: look at the overlays")
        if self.num_finished:
            parts.append(f"{self.num_finished} were there already")
        if self.skipped:
            parts.append(f"{len(self.skipped)} images cannot be read")
        if self.without_boxes:
            parts.append(f"{len(self.without_boxes)} have no boxes")
        return ", ".join(parts)


def predict(
    model: str | Path,
    sources: Sequence[Path],
    out: Path,
    *,
    boxes: Path | None = None,
    window: WindowSpec | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> Summary:
    """Segments image files and folders of them, at any depth.

    Writes `out/masks/NAME.png` (8-bit index, 0 background, 1 object) and `out/overlays/NAME.png`.
    A segmenter of unnamed regions writes their numbers from 0, in 16 bits where there are more than
    256; only a training-free one of two regions has the object named, by the border.
    NAME is the picture's path below the one folder given, or below what all sources have in
    common, without suffix; with it in folders where two pictures differ in suffix alone.

    Args:
        model: A segmenter file, a run directory, an exported file, or the name of a
            training-free segmenter; of unnamed regions, the rarer along the border is the object.
        sources: Image files and folders.
        out: A new or empty folder, or one from an earlier run of the same command.
        boxes: Boxes to look into, as `read_boxes` takes; the mask stays inside them.
        window: The windows around boxes, for a model that has none of its own.
        overwrite: Start over in a folder from an earlier run.
        trust: Allow exported files that can run code of whoever made them.

    Raises:
        ConfigError: A path, the model, a box or the folder is wrong; nothing is written.
        DataError: More than max(10 files, 20 %) of the images cannot be read, or none can.
    """
    opened = open_segmenter(str(model), trust=trust)
    partition = isinstance(opened.segmenter, RegionSegmenter | PartitionSegmenter)
    if partition and boxes:
        raise ConfigError(f"{opened.name} has unnamed regions, not objects; leave out --boxes")
    segment = (
        _segment_in_boxes(opened, window)
        if boxes
        else _segment_regions(opened)
        if partition
        else _segment_whole(opened)
    )
    root, files = _list_images(sources, out)
    found = read_boxes(boxes) if boxes else None
    jobs = _make_jobs(root, files, found)
    if boxes and not any(len(job.boxes) for job in jobs if job.boxes is not None):
        raise ConfigError(f"no picture has boxes in {one_line(str(boxes))}")
    settings = {
        "segmenter_sha256": opened.sha256 or opened.name,
        "window": str(window) if window else None,
        "root": str(root),
        "boxes_sha256": None if found is None else _digest(found),
    }
    _claim(out, settings, overwrite=overwrite)
    with_boxes = [job for job in jobs if job.boxes is None or len(job.boxes)]
    remaining = [job for job in with_boxes if not _is_finished(job, out)]
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    without_boxes = tuple(job.name for job in jobs if job.boxes is not None and not len(job.boxes))
    for name in without_boxes:
        console.print(f"no boxes for {one_line(name)}", markup=False)
    start = time.perf_counter()
    empty: list[int] = []

    def counted(picture: Tensor, boxes: Tensor | None) -> Tensor:
        mask = segment(picture, boxes)
        if not (partition or bool(mask.any())):
            empty.append(1)
        return mask

    skipped = _run(remaining, counted, partial(_write, out, partition), console)
    summary = Summary(
        num_written=len(remaining) - len(skipped),
        num_finished=len(with_boxes) - len(remaining),
        num_empty=len(empty),
        skipped=skipped,
        without_boxes=without_boxes,
        seconds=time.perf_counter() - start,
        out=out,
    )
    require_readable(len(with_boxes), skipped, root)
    return summary


# --- the model -----------------------------------------------------------------------------------


def _segment_whole(opened: Opened) -> Segment:
    if opened.given_boxes:
        raise ConfigError(f"{opened.name} starts from a box around each object; give --boxes")
    whole = WholePicture(_ready(opened), scale=opened.scale)

    @torch.inference_mode()
    def segment(picture: Tensor, _: Tensor | None) -> Tensor:
        masks, _ = whole(picture.to(opened.device).permute(1, 2, 0)[None])
        mask: Tensor = masks[0]
        return mask.cpu()

    return segment


def _segment_regions(opened: Opened) -> Segment:
    """Numbers of regions, from probabilities at the picture's own size."""

    @torch.inference_mode()
    def segment(picture: Tensor, _: Tensor | None) -> Tensor:
        picture = picture.to(opened.device)
        if isinstance(opened.segmenter, PartitionSegmenter):
            return opened.segmenter.partition(picture.float() / 255).cpu()
        return native_regions(opened.segmenter, picture, opened.scale).argmax(0).int().cpu()

    return segment


def _segment_in_boxes(opened: Opened, window: WindowSpec | None) -> Segment:
    windows = opened.windows(window)
    segmenter = _ready(opened)

    @torch.inference_mode()
    def segment(picture: Tensor, boxes: Tensor | None) -> Tensor:
        assert boxes is not None
        picture, boxes = picture.to(opened.device), boxes.to(opened.device)
        probability = probability_in_boxes(segmenter, windows, picture, boxes)
        return (probability > 0.5).to(torch.uint8).cpu()

    return segment


def _ready(opened: Opened) -> Segmenter:
    """The segmenter with a named object."""
    if opened.segmenter.foreground is None:
        return Named(opened.segmenter)
    # Channels last: a third less time on a CPU.
    return opened.segmenter.to(memory_format=torch.channels_last)


# --- what to do ----------------------------------------------------------------------------------


def _list_images(sources: Sequence[Path], out: Path) -> tuple[Path, list[Path]]:
    """The folder that all sources have in common, and the images in them, each once."""
    own = Path(os.path.abspath(out))
    folders: list[Path] = []
    files: dict[Path, None] = {}
    for source in sources:
        path = Path(os.path.abspath(source.expanduser()))
        if not path.exists():
            raise ConfigError(f"there is no image or folder {one_line(str(source))}")
        folders.append(path if path.is_dir() else path.parent)
        found = find_images(path) if path.is_dir() else [path]
        # Our own outputs, when `out` lies inside a source.
        files.update(dict.fromkeys(file for file in found if own not in file.parents))
    if not files and any(own in (folder, *folder.parents) for folder in folders):
        raise ConfigError(f"--out {one_line(str(out))} is where the images are; give a new folder")
    if not files:
        raise ConfigError(f"no images in {', '.join(one_line(str(path)) for path in sources)}")
    return Path(os.path.commonpath(folders)), list(files)


def _make_jobs(root: Path, files: Sequence[Path], boxes: dict[str, Tensor] | None) -> list[Job]:
    paths = [file.relative_to(root) for file in files]
    stems = Counter(path.with_suffix("") for path in paths)
    ambiguous = {stem.parent for stem, count in stems.items() if count > 1}
    names = [
        (path if path.parent in ambiguous else path.with_suffix("")).as_posix() for path in paths
    ]
    if boxes is None:
        return [Job(name, file, None) for name, file in zip(names, files, strict=True)]
    matched = match_boxes(boxes, [path.as_posix() for path in paths])
    return [
        Job(name, file, _checked(own, file, name))
        for name, file, own in zip(names, files, matched, strict=True)
    ]


def _checked(boxes: Tensor, path: Path, name: str) -> Tensor:
    try:
        return check_boxes(boxes, image_size(path), name)
    except UnreadableImage:
        return boxes  # reported when its turn comes


def _digest(boxes: Mapping[str, Tensor]) -> str:
    listed = {name: boxes[name].tolist() for name in sorted(boxes)}
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


# --- the folder ----------------------------------------------------------------------------------


def _claim(out: Path, settings: Mapping[str, str | None], *, overwrite: bool) -> None:
    """Makes `out` ours, or finds that it is, from an earlier run with the same settings."""
    if not out.is_dir() and out.exists():
        raise ConfigError(f"--out {out} is a file; give a folder")
    marker = out / MARKER
    if not marker.exists() and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out} holds files that segan did not write; give a new folder")
    if marker.exists() and not overwrite:
        earlier = _read_marker(marker)
        differs = [key for key in settings if earlier.get(key) != settings[key]]
        if differs:
            raise ConfigError(
                f"--out {out} holds masks made with another {', '.join(differs)}; "
                "give a new folder, or --overwrite to start over"
            )
        return
    for folder in _FOLDERS:
        if marker.exists() and (out / folder).exists():
            shutil.rmtree(out / folder)
    with written_aside(marker) as aside:
        aside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{marker} is damaged; give a new folder, or --overwrite to start over")
    return content


def _targets(job: Job, out: Path) -> tuple[Path, Path]:
    """Where a picture's mask and overlay go."""
    mask, picture = (out / folder / f"{job.name}.png" for folder in _FOLDERS)
    return mask, picture


def _is_finished(job: Job, out: Path) -> bool:
    return all(path.exists() for path in _targets(job, out))


# --- doing it ------------------------------------------------------------------------------------


def _run(
    jobs: Sequence[Job],
    segment: Segment,
    write: Callable[[Written], Skipped | None],
    console: Console,
) -> tuple[Skipped, ...]:
    """Reads, segments and writes; returns the images that cannot be read."""
    skipped: list[Skipped] = []
    rate = TextColumn("{task.fields[rate]:.1f} images/s")
    with (
        Progress(BarColumn(), MofNCompleteColumn(), rate, console=console) as progress,
        ThreadPoolExecutor(_AHEAD) as pool,
    ):
        task = progress.add_task("", total=len(jobs), rate=0.0)
        pictures = zip(jobs, _ahead(pool, _read, jobs), strict=True)
        masked = (
            (job, picture, segment(picture, job.boxes) if isinstance(picture, Tensor) else None)
            for job, picture in pictures
        )
        for bad in _ahead(pool, write, masked):
            if bad is not None:
                skipped.append(bad)
                console.print(f"skipped {one_line(bad.name)}: {bad.reason}", markup=False)
            progress.update(task, advance=1, rate=progress.tasks[0].speed or 0.0)
    return tuple(skipped)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """`map(function, items)`, a few items ahead in other threads."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) == _AHEAD:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read(job: Job) -> Tensor | Skipped:
    try:
        return read_image(job.path)
    except UnreadableImage as error:
        return Skipped(str(job.path), error.reason)


def _write(out: Path, partition: bool, result: Written) -> Skipped | None:
    """Writes the overlay and the mask or label map, or hands on why there are none."""
    job, picture, mask = result
    if isinstance(picture, Skipped):
        return picture
    assert mask is not None
    mask_path, overlay_path = _targets(job, out)
    with written_aside(overlay_path) as aside:
        draw = label_overlay if partition else overlay
        Image.fromarray(draw(picture.permute(1, 2, 0).numpy(), mask.numpy())).save(aside)
    colors = palette(256).tobytes() if partition else bytes([0, 0, 0, *MASK_COLOR])
    with written_aside(mask_path) as aside:
        index_image(mask.numpy(), colors).save(aside)
    return None
