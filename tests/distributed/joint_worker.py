"""What each process of `test_joint_of_two_processes.py` does; torchrun runs it."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from segan.losses.mutual_information import (
    collapsed_mutual_information_loss,
    mutual_information_loss,
)

LOSSES = {"uncollapsed": mutual_information_loss, "collapsed": collapsed_mutual_information_loss}
DTYPES = {"float32": torch.float32, "float64": torch.float64}
CASES = [(form, precision) for form in LOSSES for precision in DTYPES]
BATCH = 4


def parameters_and_images(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of a 1 x 1 convolution to regions, and a batch with its noisy copy."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    # Coarse: neighbours are alike, so that the joint is far from one of independent regions.
    coarse = torch.rand(BATCH, 5, 3, 2, generator=generator, dtype=torch.float64)
    images = coarse.repeat_interleave(4, 2).repeat_interleave(5, 3)
    copies = images + 0.3 * torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return weights.to(dtype).requires_grad_(), images.to(dtype), copies.to(dtype)


def value_and_gradient(form: str, precision: str, rank: int, world: int) -> dict[str, Tensor]:
    """Of this process's share of the batch."""
    weights, images, copies = parameters_and_images(DTYPES[precision])
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    first, second = (
        torch.einsum("kc,nchw->nkhw", 4 * weights, x[share]).softmax(1) for x in (images, copies)
    )
    value = LOSSES[form](first, second, radius=2)
    value.backward()
    return {"value": value.detach(), "gradient": weights.grad}


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    assert world == 2
    for form, precision in CASES:
        found = value_and_gradient(form, precision, rank, world)
        # As data-parallel training does with gradients of parameters.
        dist.all_reduce(found["gradient"])
        found["gradient"] /= world
        save_file(found, out / f"{form}-{precision}-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
