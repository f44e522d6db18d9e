"""ONNX: one file for ONNX Runtime, in many languages and on most devices."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segan.config import Tree
from segan.errors import ConfigError
from segan.exporting.opened import OpenFile, entries_of, metadata_of
from segan.exporting.whole import WholePicture

OPSET = 20


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


def write_onnx(model: WholePicture, path: Path, metadata: Tree) -> None:
    """Writes a model in evaluation mode as one file; parity is not looked at."""
    example = torch.zeros(2, 3 * 2**5, 5 * 2**5, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        model,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["pictures"],
        output_names=list(model.outputs),
        dynamic_shapes=({0: "batch", 1: "height", 2: "width"},),
        verbose=False,
    )
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    program.model.metadata_props.update(entries_of(metadata))
    program.save(path, external_data=False)


def open_session(path: Path) -> Any:
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


def open_onnx(path: Path) -> OpenFile:
    """Opens a file that segan exported.

    Raises:
        ConfigError: It cannot be read, or segan did not export it.
    """
    session = open_session(path)
    entries = session.get_modelmeta().custom_metadata_map
    metadata = metadata_of(entries, path, "an ONNX model")

    def run(
        pictures: NDArray[np.uint8],
    ) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
        maps, probabilities = session.run(None, {"pictures": pictures})
        return maps, probabilities

    return OpenFile(run=run, metadata=metadata)
