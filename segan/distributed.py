"""The few collective operations that exactness across processes needs."""

import torch
import torch.distributed as dist
from torch import Tensor


def active() -> bool:
    """Whether this run has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds on some process; every process gets the same answer."""
    if not active():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def mean_over_ranks(values: Tensor) -> Tensor:
    """Detached values averaged over processes, for the log."""
    if not active():
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values / dist.get_world_size()


def barrier() -> None:
    """Wait for all processes."""
    if active():
        dist.barrier()
