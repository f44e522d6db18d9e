"""`segan export`: one file of one format, or all formats side by side."""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from segan import commands
from segan.checkpoint import FILE_NAME, LoadedSegmenter, load_segmenter
from segan.data.images import UnreadableImage, find_images, read_image
from segan.errors import ConfigError, DataError, ParityError
from segan.exporting.comparison import FormatRow, compare_formats, table
from segan.exporting.formats import FORMATS, TOLERANCE, ExportReport, export_file
from segan.exporting.int8 import MOST_PICTURES
from segan.exporting.parity import Pictures
from segan.exporting.whole import WholePicture
from segan.files import written_aside
from segan.hub import HUB_PREFIX, downloaded
from segan.opening import training_free

# Long lines are left to the terminal to wrap, so that paths can be copied from them.
_OUT = Console(highlight=False, soft_wrap=True)

# The metric that stands for a protocol, in the table of formats.
_METRICS = {
    "foreground": "iou",
    "semantic": "miou",
    "regions": "covering_ods",
    "boundaries": "f_ods",
    "instances": "ap50",
}


def export_segmenter(options: argparse.Namespace) -> int:
    """`segan export`."""
    if options.compare is not None:
        return _compare(options)
    if options.out is None:
        raise ConfigError("--out is missing: name the file, such as --out segmenter.onnx")
    if options.data or options.json:
        raise ConfigError("--data and --json go with --compare; leave them out, or add it")
    report = exported(
        options.segmenter,
        options.out,
        format=options.format,
        verify=not options.no_verify,
        tolerance=options.tolerance,
        pictures=options.pictures,
    )
    _OUT.print(str(report), markup=False)
    return 0


def exported(
    segmenter: str,
    out: Path,
    *,
    format: str = "onnx",
    verify: bool = True,
    tolerance: float = TOLERANCE,
    pictures: Path | None = None,
) -> ExportReport:
    """Exports a segmenter by name to a file.

    Args:
        segmenter: A run, a segmenter file or hf://OWNER/NAME.
        out: The file.
        format: Of `segan.exporting.formats.FORMATS`.
        verify: Compare the file with the segmenter.
        tolerance: Largest difference of a probability that passes.
        pictures: A folder of pictures, for int8.

    Raises:
        ConfigError: Anything named is wrong, or a package or compiler is missing.
        ParityError: The file differs; it is not kept.
        DataError: The file cannot be written, or no picture can be read.
    """
    if pictures is not None and format != "onnx-int8":
        raise ConfigError("--pictures set the ranges of onnx-int8; leave it out")
    _, loaded = _load(segmenter)
    return export_file(
        WholePicture(loaded.segmenter, scale=loaded.scale),
        out,
        format=format,
        metadata=loaded.metadata,
        verify=verify,
        tolerance=tolerance,
        pictures=_read_pictures(pictures),
    )


def compared(
    segmenter: str,
    out: Path,
    *,
    formats: tuple[str, ...] = tuple(FORMATS),
    tolerance: float = TOLERANCE,
    pictures: Path | None = None,
    scored: argparse.Namespace | None = None,
) -> list[FormatRow]:
    """Exports a segmenter by name to several formats, into a folder, and measures each.

    Args:
        segmenter: As for `exported`.
        out: The folder; made if missing.
        formats: Which.
        tolerance: As for `exported`.
        pictures: As for `exported`.
        scored: Options of `segan evaluate`, for accuracy.
    """
    source, loaded = _load(segmenter)

    def score(path: Path) -> tuple[str, float | None]:
        assert scored is not None
        found = commands.scored(argparse.Namespace(**vars(scored) | {"segmenter": str(path)}))
        metric = _METRICS[scored.protocol]
        return metric, next(iter(found.values())).metrics[metric]

    return compare_formats(
        WholePicture(loaded.segmenter, scale=loaded.scale),
        source,
        out,
        metadata=loaded.metadata,
        formats=formats,
        tolerance=tolerance,
        pictures=_read_pictures(pictures),
        score=score if scored else None,
    )


def _compare(options: argparse.Namespace) -> int:
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file; with --compare, name a folder")
    if options.no_verify or options.format != "onnx":
        raise ConfigError("--compare names formats itself and measures all; leave out the others")
    with TemporaryDirectory() as temporary:
        rows = compared(
            options.segmenter,
            options.out or Path(temporary),
            formats=tuple(options.compare) or tuple(FORMATS),
            tolerance=options.tolerance,
            pictures=options.pictures,
            scored=options if options.data else None,
        )
    _OUT.print(table(rows))
    for row in rows:
        if row.reason:
            _OUT.print(f"{row.format}: {row.reason}", markup=False)
    if options.json:
        tree = {"segmenter": options.segmenter, "formats": [row.as_tree() for row in rows]}
        with written_aside(options.json) as aside:
            aside.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return ParityError.exit_code if any(row.failed for row in rows) else 0


def _load(segmenter: str) -> tuple[Path, LoadedSegmenter]:
    """The file of a segmenter, and what it holds."""
    path = downloaded(segmenter) if segmenter.startswith(HUB_PREFIX) else Path(segmenter)
    if segmenter in training_free() and not path.exists():
        raise ConfigError(f"{segmenter} comes without training and has no file; export a run")
    path = path / FILE_NAME if path.is_dir() else path
    return path, load_segmenter(path)


def _read_pictures(folder: Path | None) -> list[Pictures]:
    """Pictures uint8 [H, W, 3] of a folder, evenly over it and no more than are needed."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError(f"--pictures {folder} is not a folder of pictures")
    paths = find_images(folder)
    pictures = []
    for path in paths[:: max(len(paths) // (2 * MOST_PICTURES), 1)][: 2 * MOST_PICTURES]:
        try:
            pictures.append(read_image(path).permute(1, 2, 0).contiguous().numpy())
        except UnreadableImage as error:
            raise DataError(f"--pictures: cannot read {path}: {error.reason}") from None
    if len(pictures) < 2:
        raise DataError(f"--pictures {folder} holds {len(pictures)} pictures; int8 needs two")
    return pictures
