"""Whole pictures to masks as one graph, and that graph as an ONNX file which needs no Python.

What is exported is the very module that predicts here (`WholePicture`), with everything inside
that a caller could get wrong: scaling, resampling, padding, threshold. A file is kept only if its
masks agree with the module's.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segan.errors import ConfigError, ParityError
from segan.files import written_aside
from segan.segmenter import Segmenter

OPSET = 20
MIN_EQUAL_PIXELS = 0.9999
NUM_PIXELS = 1_000_000

# Odd sizes, both orientations, and less than the stride of most networks.
_SIZES = ((64, 64), (65, 97), (200, 120), (257, 129), (13, 7))
_BATCHES = (1, 3)


def scaled_side(side: int, scale: float) -> int:
    """round(scale * side), at least 1; ties go to even numbers, as Python's round() does.

    In integers, because an exported graph rounds products of floats in its own way and one pixel
    more or less would shift the whole mask.
    """
    ratio = Fraction(scale).limit_denominator(2**24)
    twice, quarter = 2 * side * ratio.numerator, ratio.denominator
    # floor(x / 2 + 1 / 4) + ceil(x / 2 - 1 / 4)
    nearest = (twice + quarter) // (4 * quarter) + (twice + 3 * quarter - 1) // (4 * quarter)
    # A symbol while a graph is traced, otherwise an integer.
    return cast(int, torch.sym_max(nearest, 1))


class WholePicture(nn.Module):
    """Pictures as files hold them to masks at their own size; prediction and export share it.

    Args:
        segmenter: One with a named foreground.
        scale: Network pixels per picture pixel, as `WindowSpec.scale`.
    """

    def __init__(self, segmenter: Segmenter, *, scale: float = 1.0) -> None:
        super().__init__()
        if segmenter.foreground is None:
            raise ConfigError(
                "its regions are unnamed clusters; a file can be exported of segmenters that name "
                "an object, such as cut-and-paste's"
            )
        self.segmenter = segmenter
        self.foreground = segmenter.foreground
        self.scale = scale

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Masks and probabilities of pictures of any size.

        Args:
            pictures: uint8 [N, H, W, 3], RGB.

        Returns:
            uint8 [N, H, W], 1 on objects; and their probability, float32 [N, H, W].
        """
        height, width = pictures.shape[1:3]
        images = self.network_images(pictures)
        probabilities = self.network_probabilities(images)
        probabilities = self.native_probabilities(probabilities, (height, width))
        return (probabilities > 0.5).to(torch.uint8), probabilities

    def network_images(self, pictures: Tensor) -> Tensor:
        """What the segmenter sees, [N, 3, h, w] in [0, 1], of pictures uint8 [N, H, W, 3]."""
        height, width = pictures.shape[1:3]
        images = pictures.permute(0, 3, 1, 2).float() / 255
        if self.scale != 1:
            size = scaled_side(height, self.scale), scaled_side(width, self.scale)
            images = _resample(images, size)
        return images

    def network_probabilities(self, images: Tensor) -> Tensor:
        """The object's probability [N, h, w] in what the segmenter sees."""
        probabilities: Tensor = self.segmenter(images)[:, self.foreground]
        return probabilities

    def native_probabilities(self, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
        """Probabilities [N, h, w] at the pictures' own size, [N, H, W]."""
        if self.scale != 1:
            probabilities = _resample(probabilities[:, None], size)[:, 0]
        return probabilities


def _resample(images: Tensor, size: tuple[int, int]) -> Tensor:
    # windows.resize without its shortcut for equal sizes: a traced graph cannot branch on sizes.
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported file is from the segmenter it came from.

    Attributes:
        max_difference: Largest difference of a pixel's probability.
        equal_pixels: Share of pixels with the same mask, in [0, 1].
        num_pixels: How many were compared.
    """

    max_difference: float
    equal_pixels: float
    num_pixels: int


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What `export_onnx` wrote.

    Attributes:
        path: The file.
        num_bytes: Its size.
        opset: Version of the ONNX operators in it.
        parity: What was measured; None when it was not.
    """

    path: Path
    num_bytes: int
    opset: int
    parity: Parity | None

    def __str__(self) -> str:
        written = f"{self.path} ({self.num_bytes / 1e6:.1f} MB, opset {self.opset})"
        if self.parity is None:
            return f"{written}, not compared with the segmenter"
        return (
            f"{written} agrees with the segmenter: probabilities within "
            f"{self.parity.max_difference:.2g}, {self.parity.equal_pixels:.4%} of "
            f"{self.parity.num_pixels:,} mask pixels equal"
        )


def export_onnx(
    model: WholePicture,
    out: Path,
    *,
    metadata: dict[str, Any],
    verify: bool = True,
    tolerance: float = 1e-4,
) -> ExportReport:
    """Writes one ONNX file: pictures uint8 [N, H, W, 3] to masks and probabilities [N, H, W].

    Args:
        model: What to export, on the CPU.
        out: The file; one already there is replaced whole, or left as it was on any error.
        metadata: The header of the segmenter file; goes into the file's metadata as JSON values.
        verify: Whether to run the file in ONNX Runtime next to the model.
        tolerance: Largest difference of a probability that passes.

    Raises:
        ConfigError: The packages for ONNX are not installed.
        ParityError: The file's masks are not the model's; it is not kept.
        DataError: The file cannot be written.
    """
    require_onnx()
    model = model.eval()
    with written_aside(out) as aside:
        _convert(model, aside, metadata)
        parity = check_parity(model, aside, tolerance=tolerance) if verify else None
    return ExportReport(path=out, num_bytes=out.stat().st_size, opset=OPSET, parity=parity)


def require_onnx() -> None:
    """Raises ConfigError, with the command that mends it, when the ONNX packages are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'ONNX files need the package {error.name}: pip install "segan[onnx]"'
        ) from None


def open_onnx(path: Path) -> Any:
    """An ONNX Runtime session on the CPU, with as many threads as torch uses.

    Raises:
        ConfigError: The file cannot be read, or is not an ONNX model.
    """
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except OSError as error:
        raise ConfigError(f"cannot read model {path}: {error.strerror or error}") from None
    except Exception as error:  # its many kinds share no other base class
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not an ONNX model: {reason}") from None


class ExportedSegmenter(Segmenter):
    """An exported file as a segmenter of whole pictures; it scales and resamples by itself.

    Args:
        session: From `open_onnx`.
    """

    foreground = 1

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object; images count at the 8 bits of pictures."""
        levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        pictures = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        (probabilities,) = self.session.run(["probabilities"], {"pictures": pictures})
        mask = torch.from_numpy(probabilities)[:, None].to(images)
        return torch.cat([1 - mask, mask], dim=1)


@dataclass(frozen=True, kw_only=True)
class LoadedExport:
    """What an exported file holds.

    Attributes:
        segmenter: On the CPU.
        metadata: As `export_onnx` was given it.
        sha256: Of the file, hexadecimal.
    """

    segmenter: ExportedSegmenter
    metadata: dict[str, Any]
    sha256: str


def load_exported(path: Path) -> LoadedExport:
    """Reads a file from `export_onnx`.

    Raises:
        ConfigError: It cannot be read, or segan did not export it.
    """
    session = open_onnx(path)
    try:
        entries = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(value) for key, value in entries.items()}
        ours = isinstance(metadata["supervision"]["train"], str) and "segan_version" in metadata
    except (ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise ConfigError(f"{path} is an ONNX model, but not one that segan exported")
    return LoadedExport(
        segmenter=ExportedSegmenter(session),
        metadata=metadata,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def check_parity(model: WholePicture, path: Path, *, tolerance: float) -> Parity:
    """Compares a file with the model it came from on random pictures of several shapes.

    Raises:
        ParityError: A probability differs by more than `tolerance`, or more than 1 of 10,000
            pixels are masked differently.
    """
    session = open_onnx(path)
    largest, num_equal, num_pixels = 0.0, 0, 0
    for pictures in _probes():
        with torch.inference_mode():
            masks, probabilities = (output.numpy() for output in model(torch.from_numpy(pictures)))
        exported_masks, exported = session.run(["masks", "probabilities"], {"pictures": pictures})
        largest = max(largest, float(np.abs(exported - probabilities).max()))
        num_equal += int((exported_masks == masks).sum())
        num_pixels += masks.size
    parity = Parity(
        max_difference=largest, equal_pixels=num_equal / num_pixels, num_pixels=num_pixels
    )
    # Written so that a NaN fails too.
    if not (parity.max_difference <= tolerance and parity.equal_pixels >= MIN_EQUAL_PIXELS):
        raise ParityError(
            f"the exported file differs: probabilities by up to {parity.max_difference:.2g} "
            f"(at most {tolerance:g} is allowed), {parity.equal_pixels:.4%} of "
            f"{parity.num_pixels:,} mask pixels equal (at least {MIN_EQUAL_PIXELS:.2%}); not kept"
        )
    return parity


def _convert(model: WholePicture, path: Path, metadata: dict[str, Any]) -> None:
    example = torch.zeros(2, 3 * 2**5, 5 * 2**5, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["pictures"],
        output_names=["masks", "probabilities"],
        dynamic_shapes=({0: "batch", 1: "height", 2: "width"},),
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    entries = {key: json.dumps(value) for key, value in metadata.items()}
    program.model.metadata_props.update(entries)
    program.save(path, external_data=False)


def _probes() -> Iterator[NDArray[np.uint8]]:
    """Batches of pictures uint8 [N, H, W, 3], noise and soft shapes in turn."""
    random = np.random.default_rng(0)
    num_pixels = 0
    while num_pixels < NUM_PIXELS:
        for batch in _BATCHES:
            for height, width in _SIZES:
                noise = random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
                yield noise
                yield _soft_shapes(random, batch, height, width)
                num_pixels += 2 * batch * height * width


def _soft_shapes(
    random: np.random.Generator, batch: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Pictures of a few overlapping waves, each of its own direction, length and colour."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    direction = random.uniform(-20, 20, (2, batch, 1, 1, 3, 4))
    phase = random.uniform(0, 2 * np.pi, (batch, 1, 1, 3, 4))
    waves = np.sin(direction[0] * x[..., None, None] + direction[1] * y[..., None, None] + phase)
    pictures: NDArray[np.uint8] = (127.5 + 127.5 * waves.mean(-1)).astype(np.uint8)
    return pictures
