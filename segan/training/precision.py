"""Which arithmetic pays on this machine, and the accelerator that uses it."""

from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState

Precision = Literal["fp32", "bf16"]


def resolve_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """The precision to train in.

    bf16 is several times faster on CUDA from Ampere on and on CPUs with AMX, and slower than fp32
    on CPUs without; "supported" says nothing about that.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16"
    return "fp32"


def build_accelerator(wanted: Literal["auto", "fp32", "bf16"]) -> Accelerator:
    """Device, precision and processes of a run, as the trainer needs them."""
    precision = resolve_precision(wanted, PartialState().device)
    # Accelerate keeps the precision of the first accelerator of a process for all later ones.
    AcceleratorState._reset_state()
    # A phase leaves the networks it does not train out of its graph.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else "bf16", kwargs_handlers=handlers
    )
