"""Masks of pictures and videos as files, in formats of choice, in a folder of their own.

Pictures are read, segmented and written at the same time, in order. What is finished stays, so
that the same command goes on where it was stopped.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from torch import Tensor

from segan.data.boxes import read_boxes
from segan.data.images import one_line
from segan.data.inspection import Skipped, require_readable
from segan.errors import ConfigError
from segan.formats import DEFAULT, FORMATS, Writer, open_writers
from segan.formats.writing import files_below
from segan.opening import open_segmenter
from segan.predicting.engines import Engine, build_engine
from segan.predicting.finding import Options, check_options, find
from segan.predicting.folder import VIDEOS, claim
from segan.predicting.pipeline import Loaded, Pipeline
from segan.predicting.sources import Job, frame_jobs, list_sources, picture_jobs, video_names
from segan.predicting.video import Video, join
from segan.progress import Steps
from segan.refining import FLIPS
from segan.segmenter import WindowSpec


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `predict` did.

    Attributes:
        num_written: Pictures of which files were written.
        num_finished: Pictures that had all of them from an earlier run.
        num_empty: Pictures written in which nothing was found.
        skipped: Pictures that cannot be read, with the reason.
        without_boxes: Pictures for which the file of boxes has none.
        notes: What formats have to say, such as what polygons lost.
        seconds: How long writing took.
        out: Where the files are.
    """

    num_written: int
    num_finished: int
    num_empty: int
    skipped: tuple[Skipped, ...]
    without_boxes: tuple[str, ...]
    notes: tuple[str, ...]
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
            one = len(self.skipped) == 1
            parts.append(f"{len(self.skipped)} image{'' if one else 's'} cannot be read")
        if self.without_boxes:
            parts.append(f"{len(self.without_boxes)} have no boxes")
        return "\n".join([", ".join(parts), *self.notes])


def predict(
    model: str | Path,
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    boxes: str | Path | None = None,
    window: WindowSpec | None = None,
    overwrite: bool = False,
    formats: Sequence[str] = DEFAULT,
    options: Options | None = None,
    join_videos: bool = False,
    trust: bool = False,
) -> Summary:
    """Segments image files, folders of them at any depth, patterns, and videos.

    Writes `out/FORMAT/NAME.SUFFIX` for each format; those of one file for all pictures have it in
    their folder. Without formats named, that is `out/masks/NAME.png` (8-bit index, 0 background, 1
    object) and `out/overlays/NAME.png`. A segmenter of unnamed regions writes their numbers from 0,
    in 16 bits where there are more than 256; only a training-free one of two regions has the object
    named, by the border. NAME is the picture's path below the one folder given, or below what all
    sources have in common, without suffix; with it in folders where two pictures differ in suffix
    alone. Frames of a video are NAME/000000 and so on.

    Args:
        model: A segmenter file, a run directory, an exported `.onnx` file, or the name of a
            training-free segmenter; of unnamed regions, the rarer along the border is the object.
        sources: Image files, folders, patterns and video files; one or several.
        out: A new or empty folder, or one from an earlier run of the same command.
        boxes: Boxes to look into, as `read_boxes` takes; the mask stays inside them.
        window: The windows around boxes, for a model that has none of its own.
        overwrite: Start over in a folder from an earlier run.
        formats: Names in `segan.formats.FORMATS`.
        options: Threshold, refinements, separation, tiles, limits; the defaults without it.
        join_videos: Whether the overlays of a video's frames become `out/videos/NAME.mp4`.
        trust: Allow exported files that can run code of whoever made them.

    Raises:
        ConfigError: A path, the model, a box, the folder or an option is wrong; nothing is written.
        DataError: More than max(10 files, 20 %) of the images cannot be read, or none can.
    """
    out, boxes = Path(out), None if boxes is None else Path(boxes)
    sources = [sources] if isinstance(sources, str | Path) else sources
    options = options or Options()
    writers = open_writers(formats, out)
    opened = open_segmenter(str(model), trust=trust)
    engine = build_engine(
        opened,
        in_boxes=boxes is not None,
        window=window,
        flips=FLIPS in options.refine,
        tile=options.tile,
    )
    check_options(options, formats, engine, opened.name)
    listed = list_sources([Path(source) for source in sources], out)
    names = video_names(listed.root, listed.videos)
    opened_videos = (Video(path, max_pixels=options.max_pixels) for path in listed.videos)
    videos = dict(zip(names, opened_videos, strict=True))
    if join_videos and not (videos and "overlays" in formats):
        raise ConfigError("--join-videos joins overlays of a video's frames: give both")
    if boxes and videos:
        raise ConfigError("--boxes are for pictures; leave them out for videos")
    found = read_boxes(boxes) if boxes else None
    jobs = picture_jobs(listed.root, listed.images, found)
    if boxes and not any(len(job.boxes) for job in jobs if job.boxes is not None):
        raise ConfigError(f"no picture has boxes in {one_line(str(boxes))}")
    settings = {
        "segmenter_sha256": opened.sha256 or opened.name,
        "window": str(window) if window else None,
        "root": str(listed.root),
        "boxes_sha256": None if found is None else _digest(found),
        "threshold": options.threshold,
        "refine": list(options.refine),
        "instances": options.instances,
        "min_area": options.min_area,
        "max_area": options.max_area,
        "tile": options.tile,
    }
    claim(out, settings, overwrite=overwrite)
    run = _Run(engine=engine, options=options, writers=writers)
    return run.all(jobs, videos, listed.root, out, join_videos=join_videos)


def _digest(boxes: Mapping[str, Tensor]) -> str:
    listed = {name: boxes[name].tolist() for name in sorted(boxes)}
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


@dataclass(kw_only=True)
class _Run:
    """One run: counts what is done, and shows it."""

    engine: Engine
    options: Options
    writers: Mapping[str, Writer]
    num_finished: int = 0
    num_written: int = 0
    empty: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def all(
        self, jobs: Sequence[Job], videos: Mapping[str, Video], root: Path, out: Path, *,
        join_videos: bool,
    ) -> Summary:  # fmt: skip
        """Segments pictures and videos, and closes the formats."""
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        with_boxes = [job for job in jobs if job.boxes is None or len(job.boxes)]
        without = tuple(job.name for job in jobs if job.boxes is not None and not len(job.boxes))
        for name in without:
            console.print(f"no boxes for {one_line(name)}", markup=False)
        start = time.perf_counter()
        remaining = list(self._unfinished(with_boxes))
        of_videos = (frame_jobs(name, video) for name, video in videos.items())
        frames = (job for each in of_videos for job in self._unfinished(each))
        total = len(remaining) + sum(video.num_claimed for video in videos.values())
        self._show_and_run(iter([*remaining]), frames, total, console)
        notes = [note for writer in self.writers.values() if (note := writer.close())]
        if join_videos:
            notes += [_join(name, video, out) for name, video in videos.items()]
        summary = Summary(
            num_written=self.num_written,
            num_finished=self.num_finished,
            num_empty=len(self.empty),
            skipped=tuple(self.skipped),
            without_boxes=without,
            notes=tuple(notes),
            seconds=time.perf_counter() - start,
            out=out,
        )
        if with_boxes:
            require_readable(len(with_boxes), self.skipped, root)
        return summary

    def _unfinished(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            if all(writer.is_finished(job.name) for writer in self.writers.values()):
                self.num_finished += 1
            else:
                yield job

    def _show_and_run(
        self, pictures: Iterator[Job], frames: Iterator[Job], total: int, console: Console
    ) -> None:
        with Steps("masks", total, unit="images", console=console) as steps:

            def on_done(bad: Skipped | None) -> None:
                if bad is None:
                    self.num_written += 1
                else:
                    self.skipped.append(bad)
                    console.print(f"skipped {one_line(bad.name)}: {bad.reason}", markup=False)
                steps.advance()

            looked_at = any("picture" in FORMATS[name].needs for name in self.writers)
            pipeline = Pipeline(
                engine=self.engine,
                write=self.write,
                keep_pictures=looked_at or any(step != FLIPS for step in self.options.refine),
                max_pixels=self.options.max_pixels,
                on_done=on_done,
            )
            for jobs in (pictures, frames):
                pipeline.run(jobs)

    def write(self, loaded: Loaded, values: Tensor) -> None:
        """Finishes a picture and writes what is missing of it."""
        finished = self.engine.finish(values, loaded.size)
        found = find(loaded.job, finished, loaded.picture, self.engine, self.options)
        if self.engine.named and not found.labels.any():
            self.empty.append(found.name)
        for writer in self.writers.values():
            if not writer.is_finished(found.name):
                writer.add(found)


def _join(name: str, video: Video, out: Path) -> str:
    target = out / VIDEOS / f"{name}.mp4"
    join(files_below(out / "overlays" / name, ".png"), target, rate=video.rate)
    return f"overlays of {one_line(video.path.name)} joined in {one_line(str(target))}"
