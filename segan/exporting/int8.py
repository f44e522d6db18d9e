"""ONNX with 8-bit convolutions: a quarter of the size, and masks that differ a little.

Ranges of activations come from pictures (static quantisation, as QuantizeLinear and
DequantizeLinear pairs); weights have a range per channel. What it costs is measured on other
pictures and said; below `MIN_EQUAL_INT8` of the mask pixels the file is not kept.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from segan.config import Tree
from segan.exporting.onnx import write_onnx
from segan.exporting.opened import entries_of
from segan.exporting.parity import soft_shapes
from segan.exporting.whole import WholePicture

MIN_EQUAL_INT8 = 0.9

# Of pictures that are given, every second one up to so many sets ranges, the others measure.
MOST_PICTURES = 64

_SHAPES = ((96, 96), (64, 128), (120, 80), (144, 112))


def synthetic_pictures() -> list[NDArray[np.uint8]]:
    """Soft shapes uint8 [H, W, 3], for want of pictures of one's own."""
    random = np.random.default_rng(1)
    return [
        picture for height, width in _SHAPES for picture in soft_shapes(random, 8, height, width)
    ]


def write_int8(
    model: WholePicture, path: Path, metadata: Tree, pictures: Sequence[NDArray[np.uint8]]
) -> None:
    """Writes a model in evaluation mode with ranges from `pictures`, each uint8 [H, W, 3]."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.pictures: Iterator[NDArray[np.uint8]] = iter(pictures)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            picture = next(self.pictures, None)
            return None if picture is None else {"pictures": picture[None]}

    with TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.onnx"
        write_onnx(model, exact, metadata)
        with _quiet():
            quantization.quantize_static(
                exact,
                path,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                # Seven bits: products of eight saturate on CPUs without VNNI instructions.
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                activation_type=quantization.QuantType.QUInt8,
            )
        quantised = onnx.load_model(path)
        del quantised.metadata_props[:]  # the quantiser drops ours and adds its own
        onnx.helper.set_model_props(quantised, entries_of(metadata))
        onnx.save_model(quantised, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, to the root logger, on a step that changes nothing here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
