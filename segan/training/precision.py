"""Which arithmetic pays on this machine."""

from typing import Literal

import torch

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
