"""Every format side by side: size, latency, agreement with the segmenter, and accuracy."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from segan.config import Tree
from segan.errors import ConfigError, ParityError
from segan.exporting.formats import FORMATS, TOLERANCE, export_file
from segan.exporting.opened import Run, as_arrays
from segan.exporting.parity import Parity, Pictures, soft_shapes
from segan.exporting.whole import WholePicture

EAGER = "pytorch"
SIDE = 256

_WARM_UPS = 3
_RUNS = 20

# A score of a segmenter or exported file: its name and its value.
Score = Callable[[Path], tuple[str, float | None]]


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """What is known of one format.

    Attributes:
        format: By name; `EAGER` is the segmenter itself.
        num_bytes: Size on the disk; None where there is no file.
        milliseconds: For a batch of one picture of `SIDE` x `SIDE`, the median of 20 runs.
        cpu_milliseconds: Of all processors, likewise; other programs change it less.
        parity: Agreement with the segmenter; of the segmenter itself None.
        metric: Name of the accuracy, if it was asked for.
        accuracy: By that metric; None where it is undefined or was not asked for.
        reason: Why there is no file, in a line.
        failed: Whether there is none because its maps are not the segmenter's.
    """

    format: str
    num_bytes: int | None = None
    milliseconds: float | None = None
    cpu_milliseconds: float | None = None
    parity: Parity | None = None
    metric: str | None = None
    accuracy: float | None = None
    reason: str = ""
    failed: bool = False

    def as_tree(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def compare_formats(
    model: WholePicture,
    source: Path,
    folder: Path,
    *,
    metadata: Tree,
    formats: Sequence[str] = tuple(FORMATS),
    tolerance: float = TOLERANCE,
    pictures: Sequence[Pictures] = (),
    score: Score | None = None,
) -> list[FormatRow]:
    """Exports to every format in turn, and measures; a format that cannot be made says why.

    Args:
        model: What to export, on the CPU.
        source: The segmenter file.
        folder: Where the files go, as segmenter.onnx, segmenter.pt2, ...
        metadata: As for `export_file`.
        formats: Which, by name.
        tolerance: As for `export_file`.
        pictures: As for `export_file`.
        score: Measures the accuracy of a file.

    Raises:
        ConfigError: There is no such format.
        DataError: A file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ConfigError(f"there is no format {unknown[0]!r}; valid: {', '.join(FORMATS)}")
    model = model.eval()
    console = Console(stderr=True, highlight=False)
    console.print(f"{EAGER}: {'scored and timed' if score else 'timed'}", markup=False)
    metric, accuracy = score(source) if score else (None, None)

    @torch.inference_mode()
    def eager(pictures: Pictures) -> Any:
        return as_arrays(model(torch.from_numpy(pictures)))

    rows = [
        FormatRow(
            format=EAGER,
            num_bytes=source.stat().st_size,
            metric=metric,
            accuracy=accuracy,
            **latency(eager)._asdict(),
        )
    ]
    for name in formats:
        console.print(f"{name}: made and compared, then timed", markup=False)
        kind = FORMATS[name]
        stem = "segmenter-int8" if name == "onnx-int8" else "segmenter"
        out = folder / f"{stem}{kind.suffix}"
        try:
            report = export_file(
                model,
                out,
                format=name,
                metadata=metadata,
                tolerance=tolerance,
                pictures=pictures,
            )
        except (ConfigError, ParityError) as error:
            failed = isinstance(error, ParityError)
            rows.append(FormatRow(format=name, reason=str(error), failed=failed))
            continue
        metric, accuracy = score(out) if score else (None, None)
        rows.append(
            FormatRow(
                format=name,
                num_bytes=report.num_bytes,
                parity=report.parity,
                metric=metric,
                accuracy=accuracy,
                **latency(kind.open(out).run)._asdict(),
            )
        )
    return rows


class Latency(NamedTuple):
    """How long one picture takes, and how much time of processors."""

    milliseconds: float
    cpu_milliseconds: float


def latency(run: Run) -> Latency:
    """For one picture of `SIDE` x `SIDE`: the medians of 20 runs after 3 others."""
    pictures = soft_shapes(np.random.default_rng(2), 1, SIDE, SIDE)
    seconds, cpu_seconds = [], []
    for _ in range(_WARM_UPS + _RUNS):
        start, cpu_start = time.perf_counter(), time.process_time()
        run(pictures)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return Latency(1000 * median(seconds[_WARM_UPS:]), 1000 * median(cpu_seconds[_WARM_UPS:]))


def table(rows: Sequence[FormatRow]) -> Table:
    """The rows for a terminal."""
    metric = rows[0].metric
    found = Table(title=f"latency: one picture of {SIDE} x {SIDE} on {_threads()}")
    for heading in ("format", "MB", "ms", "CPU ms", "equal pixels", "largest difference", metric):
        if heading is not None:
            found.add_column(heading, justify="left" if heading == "format" else "right")
    for row in rows:
        if row.reason:
            found.add_row(row.format, "-", "-", "-", "not kept" if row.failed else "not made", "-")
            continue
        assert row.num_bytes is not None
        times = (f"{value:.1f}" for value in (row.milliseconds, row.cpu_milliseconds))
        cells = [row.format, f"{row.num_bytes / 1e6:.2f}", *times]
        if row.parity is None:
            cells += ["", ""]
        else:
            cells += [f"{row.parity.equal_pixels:.4%}", f"{row.parity.max_difference:.2g}"]
        if metric is not None:
            cells.append("undefined" if row.accuracy is None else f"{row.accuracy:.4f}")
        found.add_row(*cells)
    return found


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} CPU thread{'s'[: count - 1]}"
