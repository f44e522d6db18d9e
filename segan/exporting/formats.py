"""The formats by name, and writing a file of one: made aside, compared, and only then kept."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from segan.config import Tree
from segan.errors import ConfigError
from segan.exporting import int8, onnx, openvino, parity, program
from segan.exporting.opened import OpenFile
from segan.exporting.parity import Parity, Pictures
from segan.exporting.whole import WholePicture
from segan.files import written_aside

TOLERANCE = 1e-4

Write = Callable[[WholePicture, Path, Tree], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of file.

    Attributes:
        title: In words.
        suffix: What its files end in.
        require: Raises ConfigError, with what mends it, where a package or tool is missing.
        write: A model in evaluation mode to a file; None where it takes pictures as well.
        open: Reads a file.
        runs_code: Whether reading a file can run code of whoever wrote it.
        beside: Suffix of a second file that belongs to each; "" for one file.
    """

    title: str
    suffix: str
    require: Callable[[], None]
    write: Write | None
    open: Callable[[Path], OpenFile]
    runs_code: bool = False
    beside: str = ""


FORMATS = {
    "onnx": Format(
        title="ONNX",
        suffix=".onnx",
        require=onnx.require_onnx,
        write=onnx.write_onnx,
        open=onnx.open_onnx,
    ),
    "onnx-int8": Format(
        title="ONNX, 8-bit convolutions",
        suffix=".onnx",
        require=onnx.require_onnx,
        write=None,
        open=onnx.open_onnx,
    ),
    "openvino": Format(
        title="OpenVINO",
        suffix=".xml",
        require=openvino.require_openvino,
        write=openvino.write_openvino,
        open=openvino.open_openvino,
        beside=".bin",
    ),
    "pt2": Format(
        title="torch.export",
        suffix=".pt2",
        require=lambda: None,
        write=program.write_program,
        open=program.open_program,
        runs_code=True,
    ),
    "aot": Format(
        title="AOTInductor, for this machine's CPU",
        suffix=".aot.pt2",
        require=program.require_compiler,
        write=program.write_compiled,
        open=program.open_compiled,
        runs_code=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What `export_file` wrote.

    Attributes:
        path: The file; of OpenVINO the .xml.
        format: By name.
        num_bytes: Its size, with what lies beside it.
        parity: What was measured; None when it was not.
    """

    path: Path
    format: str
    num_bytes: int
    parity: Parity | None

    def __str__(self) -> str:
        title = FORMATS[self.format].title
        written = f"{self.path} ({self.num_bytes / 1e6:.1f} MB, {title})"
        if self.parity is None:
            return f"{written}, not compared with the segmenter"
        said = "compared with" if self.format == "onnx-int8" else "agrees with"
        return f"{written} {said} the segmenter: {self.parity}"


def format_of(path: Path) -> Format | None:
    """The format whose suffix a path has; None of other files."""
    matching = [found for found in FORMATS.values() if path.name.lower().endswith(found.suffix)]
    return max(matching, key=lambda found: len(found.suffix), default=None)


def require_suffix(path: Path, name: str) -> None:
    """Raises ConfigError where a path does not look like a file of the format called `name`."""
    suffix = FORMATS[name].suffix
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    if format_of(path) is not format_of(Path(f"a{suffix}")):
        raise ConfigError(f"{path} must end in {suffix}")


def export_file(
    model: WholePicture,
    out: Path,
    *,
    format: str = "onnx",
    metadata: Tree,
    verify: bool = True,
    tolerance: float = TOLERANCE,
    pictures: Sequence[Pictures] = (),
) -> ExportReport:
    """Writes one file: pictures uint8 [N, H, W, 3] to maps and probabilities, sizes free.

    Args:
        model: What to export, on the CPU.
        out: The file; one already there is replaced whole, or left as it was on any error.
        format: Of `FORMATS`.
        metadata: The header of the segmenter file; goes into the file as JSON values, with
            `export`, which says the format and the version of PyTorch.
        verify: Whether to run the file next to the model, on pictures of several sizes.
        tolerance: Largest difference of a probability that passes; means nothing for int8.
        pictures: For int8, each uint8 [H, W, 3]: every second one sets the ranges of numbers, the
            others say what it cost; without any, synthetic ones.

    Raises:
        ConfigError: There is no such format, a package or a compiler is missing, or the suffix is
            that of another format.
        ParityError: The file's maps are not the model's; it is not kept.
        DataError: The file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"there is no format {format!r}; valid: {', '.join(FORMATS)}")
    require_suffix(out, format)
    kind = FORMATS[format]
    kind.require()
    model = model.eval()
    metadata = metadata | {"export": {"format": format, "torch_version": str(torch.__version__)}}
    with written_aside(out) as aside, TemporaryDirectory() as folder:
        draft = Path(folder) / f"segmenter{kind.suffix}"
        measured = _write(model, draft, format, metadata, pictures, verify, tolerance)
        num_bytes = draft.stat().st_size
        if kind.beside:
            beside = draft.with_suffix(kind.beside)
            num_bytes += beside.stat().st_size
            with written_aside(out.with_suffix(kind.beside)) as other:
                shutil.copyfile(beside, other)
        shutil.copyfile(draft, aside)
    return ExportReport(path=out, format=format, num_bytes=num_bytes, parity=measured)


def _write(
    model: WholePicture,
    draft: Path,
    name: str,
    metadata: Tree,
    pictures: Sequence[Pictures],
    verify: bool,
    tolerance: float,
) -> Parity | None:
    kind = FORMATS[name]
    batches: Iterable[Pictures] = parity.probes()
    min_equal = parity.MIN_EQUAL_PIXELS
    if kind.write is None:
        pictures = pictures or int8.synthetic_pictures()
        if len(pictures) < 2:
            raise ConfigError("int8 needs at least two pictures: ranges come from every second one")
        int8.write_int8(model, draft, metadata, pictures[::2][: int8.MOST_PICTURES])
        batches = [picture[None] for picture in pictures[1::2][: int8.MOST_PICTURES]]
        tolerance, min_equal = 1.0, int8.MIN_EQUAL_INT8
    else:
        kind.write(model, draft, metadata)
    if not verify:
        return None
    found = parity.measure(model, kind.open(draft).run, batches)
    parity.require_parity(found, tolerance=tolerance, min_equal=min_equal)
    return found
