"""The few collective operations that exactness across processes needs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def active() -> bool:
    """Whether this run has more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world_size() -> int:
    """How many processes this run has."""
    return dist.get_world_size() if active() else 1


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


def all_reduce_mean(values: Tensor) -> Tensor:
    """Values averaged over processes, differentiable; for statistics of the whole batch.

    A loss of the average is the same on every process. Backward averages its gradients too, so
    that parameters' gradients, averaged as data-parallel training does, are those of one process
    with the whole batch. Every process must take part, forward and backward.
    """
    if not active():
        return values
    averaged: Tensor = _AllReduceMean.apply(values)
    return averaged


class _AllReduceMean(torch.autograd.Function):
    """A mean over processes is symmetric: backward is the same operation."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return mean_over_ranks(values.contiguous())

    @staticmethod
    @once_differentiable
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return mean_over_ranks(gradient.contiguous())
