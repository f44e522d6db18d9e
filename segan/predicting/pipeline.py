"""Reading, segmenting and writing at once: the network waits for no file, and memory is bounded.

The calling thread feeds the network; a pool reads and prepares what comes next and finishes and
writes what is done. A picture comes in only while few enough pixels are under way.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from torch import Tensor

from segan.data.images import UnreadableImage, image_size, read_image
from segan.data.inspection import Skipped
from segan.predicting.engines import LARGE_PICTURE, Engine
from segan.predicting.sources import Job

BATCH = 8
BATCH_PIXELS = 2**20  # of what the network sees
PIXELS_UNDER_WAY = 2**26
THREADS = max(2, min(8, os.cpu_count() or 1))


class Loaded(NamedTuple):
    """A picture that was read.

    Attributes:
        job: Which.
        image: For the engine.
        size: Height and width of the picture.
        picture: uint8 [3, H, W]; None if only the engine looks at it.
    """

    job: Job
    image: Tensor
    size: tuple[int, int]
    picture: Tensor | None


# Finishes and writes a picture, given the engine's values for it.
Write = Callable[[Loaded, Tensor], None]
Read = Future[Loaded | Skipped | None]  # None: beyond a video's end


@dataclass(kw_only=True)
class Pipeline:
    """Takes pictures through an engine.

    Attributes:
        engine: Segments them.
        write: Called in the pool for each, with what `Engine.segment` gave.
        keep_pictures: Whether `write` looks at pictures.
        max_pixels: Larger ones are skipped.
        on_done: Called as each picture is written or skipped, in the calling thread.
    """

    engine: Engine
    write: Write
    keep_pictures: bool
    max_pixels: int
    on_done: Callable[[Skipped | None], None]
    _reading: deque[tuple[Read, int]] = field(default_factory=deque)
    _writing: deque[tuple[Future[None], int]] = field(default_factory=deque)
    _under_way: int = 0  # pixels

    def run(self, jobs: Iterator[Job]) -> None:
        """Reads, segments and writes all pictures, in order."""
        # Frames of a video are read in order, so by one thread.
        with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(1) as frames:
            while True:
                jobs = self._read_ahead(jobs, pool, frames)
                if self._reading:
                    self._segment(self._next_batch(), pool)
                elif self._writing:
                    self._collect()
                else:
                    return
                while len(self._writing) > 2 * BATCH:
                    self._collect()

    def _read_ahead(
        self, jobs: Iterator[Job], pool: ThreadPoolExecutor, frames: ThreadPoolExecutor
    ) -> Iterator[Job]:
        """Starts reading what comes next; returns the jobs that are left."""
        while len(self._reading) < 2 * BATCH:
            job = next(jobs, None)
            if job is None:
                break
            pixels = _num_pixels(job)
            if self._under_way and self._under_way + pixels > PIXELS_UNDER_WAY:
                return chain([job], jobs)
            self._under_way += pixels
            reader = pool if job.video is None else frames
            self._reading.append((reader.submit(self._load, job), pixels))
        return jobs

    def _load(self, job: Job) -> Loaded | Skipped | None:
        try:
            if job.video is None:
                picture = read_image(job.path, max_megapixels=self.max_pixels / 1e6)
            else:
                frame = job.video.read(job.frame)
                if frame is None:
                    return None
                picture = frame
        except UnreadableImage as error:
            return Skipped(str(job.path), error.reason)
        size = int(picture.shape[1]), int(picture.shape[2])
        if size[0] * size[1] > LARGE_PICTURE:
            _give_memory_back()
        image = self.engine.prepare(picture)
        return Loaded(job, image, size, picture if self.keep_pictures else None)

    def _next_batch(self) -> list[tuple[Loaded, int]]:
        """The next pictures that the network can take together; none if the next is skipped."""
        batch: list[tuple[Loaded, int]] = []
        while self._reading:
            future, pixels = self._reading[0]
            loaded = future.result()
            if not isinstance(loaded, Loaded):
                if batch:
                    return batch
                self._reading.popleft()
                self._under_way -= pixels
                if loaded is not None:
                    self.on_done(loaded)
                return []
            if batch and not self._fits(loaded, batch):
                return batch
            batch.append((loaded, pixels))
            self._reading.popleft()
        return batch

    def _fits(self, loaded: Loaded, batch: list[tuple[Loaded, int]]) -> bool:
        first = batch[0][0].image
        pixels = (len(batch) + 1) * first.shape[-2] * first.shape[-1]
        return (
            not self.engine.one_by_one
            and len(batch) < BATCH
            and pixels <= BATCH_PIXELS
            and loaded.image.shape == first.shape
            and loaded.image.dtype == first.dtype
        )

    def _segment(self, batch: list[tuple[Loaded, int]], pool: ThreadPoolExecutor) -> None:
        if not batch:
            return
        images = [loaded.image for loaded, _ in batch]
        results = self.engine.segment(images, batch[0][0].job.boxes)
        if results[0].shape[-2] * results[0].shape[-1] > LARGE_PICTURE:
            _give_memory_back()
        for (loaded, pixels), values in zip(batch, results, strict=True):
            # The image has done its work; a copy under way to the disk does not hold it.
            done = loaded._replace(image=values)
            self._writing.append((pool.submit(self.write, done, values), pixels))

    def _collect(self) -> None:
        future, pixels = self._writing.popleft()
        future.result()
        self._under_way -= pixels
        self.on_done(None)


def _give_memory_back() -> None:
    """Has the C library hand freed memory to the system, which it keeps in pieces otherwise.

    Decoding leaves four bytes per pixel of those. Only glibc can be asked.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _num_pixels(job: Job) -> int:
    """From the header; 0 where it cannot be read, which reading will report."""
    try:
        height, width = image_size(job.path) if job.video is None else job.video.size
    except UnreadableImage:
        return 0
    return height * width
