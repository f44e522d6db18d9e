"""Which arithmetic pays on this machine, and the accelerator that uses it."""

import os
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from segan.device import use_full_precision
from segan.errors import ConfigError

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
    """Device, precision and processes of a run, as the trainer needs them.

    Raises:
        ConfigError: A launcher started several processes that do not find each other.
    """
    precision = resolve_precision(wanted, _new_accelerator("no").device)
    if precision == "fp32":
        use_full_precision()
    # Kernels chosen by timing them are others in the next run.
    torch.backends.cudnn.benchmark = False
    accelerator = _new_accelerator("no" if precision == "fp32" else "bf16")
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise ConfigError(
            f"{launched} processes were started that would each train alone; "
            "on CPUs, set ACCELERATE_USE_CPU=true for torchrun"
        )
    return accelerator


def _new_accelerator(mixed_precision: str) -> Accelerator:
    # Accelerate keeps the precision of the first accelerator of a process for all later ones.
    AcceleratorState._reset_state()
    # A phase leaves the networks it does not train out of its graph.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(mixed_precision=mixed_precision, kwargs_handlers=handlers)
