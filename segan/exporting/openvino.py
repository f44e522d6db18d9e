"""OpenVINO: the graph as .xml, weights beside it as .bin; fastest on Intel's processors."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segan.config import Tree
from segan.errors import ConfigError
from segan.exporting.onnx import require_onnx, write_onnx
from segan.exporting.opened import OpenFile, entries_of, metadata_of
from segan.exporting.whole import WholePicture

_KEY = "segan"


def require_openvino() -> None:
    """Raises ConfigError, with the command that mends it, when a package is missing."""
    _require()
    require_onnx()


def _require() -> None:
    try:
        import openvino  # noqa: F401
    except ImportError:
        raise ConfigError(
            'OpenVINO files need the package openvino: pip install "segan[openvino]"'
        ) from None


def write_openvino(model: WholePicture, path: Path, metadata: Tree) -> None:
    """Writes .xml and .bin by way of ONNX, in full precision; parity is not looked at."""
    import onnx
    import openvino

    with TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.onnx"
        write_onnx(model, exact, metadata)
        converted = openvino.convert_model(exact)
        smooth = {node.output[0] for node in onnx.load_model(exact).graph.node if _is_smooth(node)}
    _resample_smoothly(converted, smooth)
    for key, value in entries_of(metadata).items():
        converted.set_rt_info(value, [_KEY, key])
    openvino.save_model(converted, path, compress_to_fp16=False)


def _is_smooth(node: Any) -> bool:
    """Whether a node of ONNX resamples with a filter against aliasing."""
    return node.op_type == "Resize" and any(
        attribute.name == "antialias" and attribute.i for attribute in node.attribute
    )


def _resample_smoothly(converted: Any, names: set[str]) -> None:
    """Puts back the filters against aliasing, which OpenVINO's reader of ONNX drops in silence.

    Its mode "bilinear_pillow" is the same filter.
    """
    from openvino import opset11

    for node in converted.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not node.output(0).get_names() & names:
            continue
        assert node.get_attributes()["shape_calculation_mode"] == "sizes"
        # Of batch, channels, height, width.
        sizes = opset11.gather(node.input_value(1), np.array([2, 3]), np.array(0))
        smooth = opset11.interpolate(
            node.input_value(0), sizes, "bilinear_pillow", "sizes", axes=np.array([2, 3])
        )
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(smooth.output(0))
        names = names - node.output(0).get_names()
    assert not names, f"OpenVINO has no resampling by the name of {names}"


def open_openvino(path: Path) -> OpenFile:
    """Opens .xml, whose .bin lies beside it.

    Raises:
        ConfigError: It cannot be read, or segan did not export it.
    """
    _require()
    import openvino

    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise ConfigError(f"cannot read model {path}: there is no file {part}")
    core = openvino.Core()
    settings = {
        # bfloat16 is the default where processors have it, and changes masks.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConfigError(f"{path} is not an OpenVINO model: {reason}") from None
    metadata = metadata_of(_entries(model), path, "an OpenVINO model")

    def run(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
        outputs = compiled(pictures)
        return outputs[0], outputs[1]

    return OpenFile(run=run, metadata=metadata)


def _entries(model: Any) -> dict[str, str]:
    if not model.has_rt_info([_KEY]):
        return {}
    return {key: str(value) for key, value in model.get_rt_info([_KEY]).value.items()}
