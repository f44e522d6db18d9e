"""torch.export: the graph for PyTorch itself, as .pt2; and compiled by AOTInductor, as .aot.pt2.

Reading either runs code of whoever wrote it: torch.export.load unpickles and evaluates text, and a
compiled package is machine code. They are opened for those who trust their source only.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from segan.config import Tree
from segan.errors import ConfigError
from segan.exporting.opened import OpenFile, as_arrays, entries_of, metadata_of
from segan.exporting.whole import WholePicture

_ENTRY = "segan.json"
_KEY = "segan"


def traced(model: WholePicture) -> ExportedProgram:
    """The graph of a model in evaluation mode, for pictures of any number and size."""
    example = torch.zeros(2, 3 * 2**5, 5 * 2**5, 3, dtype=torch.uint8)
    sizes = dict.fromkeys((0, 1, 2), Dim.DYNAMIC)
    # Without these a size of 1 would be refused, and with it those the padding makes of few pixels.
    settings: Any = torch.fx.experimental._config
    with settings.patch(backed_size_oblivious=True), torch.no_grad():
        program = torch.export.export(
            model,
            (example,),
            dynamic_shapes=(sizes,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for node in list(program.graph.nodes):
        node.meta.pop("stack_trace", None)  # with the paths of this machine
        node.meta.pop("nn_module_stack", None)
        # That sizes are more than one pixel at the deepest level: assumed, but nothing needs it.
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def write_program(model: WholePicture, path: Path, metadata: Tree) -> None:
    """Writes .pt2; parity is not looked at."""
    program = traced(model)
    program.example_inputs = None
    extra = {_ENTRY: json.dumps(entries_of(metadata))}
    torch.export.save(program, path, extra_files=extra)


def open_program(path: Path) -> OpenFile:
    """Opens .pt2; runs code from the file.

    Raises:
        ConfigError: It cannot be read, or segan did not export it.
    """
    _require_archive(path)
    extra = {_ENTRY: ""}
    try:
        program: Any = torch.export.load(path, extra_files=extra).module(check_guards=False)
    except Exception as error:  # of many kinds
        raise ConfigError(f"{path} is not a whole .pt2 file: {_first_line(error)}") from None
    metadata = metadata_of(_parsed(extra[_ENTRY]), path, "a torch.export program")

    @torch.inference_mode()
    def run(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
        return as_arrays(program(torch.from_numpy(pictures)))

    return OpenFile(run=run, metadata=metadata)


def require_compiler() -> None:
    """Raises ConfigError where there is no C++ compiler, which AOTInductor calls."""
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except (exc.InvalidCxxCompiler, OSError):
        raise ConfigError(
            "AOTInductor needs a C++ compiler and found none: install g++ or clang++, "
            "or name one in the environment variable CXX"
        ) from None


def write_compiled(model: WholePicture, path: Path, metadata: Tree) -> None:
    """Compiles for this machine's CPU into .aot.pt2; parity is not looked at.

    Raises:
        ConfigError: The compiler fails.
    """
    entries = json.dumps(entries_of(metadata))
    program = traced(model)
    try:
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={"aot_inductor.metadata": {_KEY: entries}},
        )
    except RuntimeError as error:
        raise ConfigError(f"AOTInductor cannot compile: {_first_line(error)}") from None


def open_compiled(path: Path) -> OpenFile:
    """Opens .aot.pt2; runs machine code from the file.

    Raises:
        ConfigError: It cannot be read, was compiled for another machine, or is not from segan.
    """
    _require_archive(path)
    try:
        compiled: Any = torch._inductor.aoti_load_package(str(path))
        entries = _parsed(compiled.get_metadata().get(_KEY, ""))
    except Exception as error:  # of many kinds
        raise ConfigError(
            f"{path} is not an AOTInductor package for this machine: {_first_line(error)}"
        ) from None
    metadata = metadata_of(entries, path, "an AOTInductor package")

    @torch.inference_mode()
    def run(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
        return as_arrays(compiled(torch.from_numpy(pictures)))

    return OpenFile(run=run, metadata=metadata)


def _parsed(text: str) -> dict[str, str]:
    try:
        entries = json.loads(text)
    except ValueError:
        return {}
    return entries if isinstance(entries, dict) else {}


def _require_archive(path: Path) -> None:
    try:
        with path.open("rb") as file:
            whole = zipfile.is_zipfile(file)
    except OSError as error:
        raise ConfigError(f"cannot read model {path}: {error.strerror or error}") from None
    if not whole:
        raise ConfigError(f"{path} is not a .pt2 file: it is no zip archive, or damaged")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
