"""Layers by their largest singular value (Miyato et al., ICLR 2018, arXiv 1802.05957).

A weight is divided by its largest singular value as a matrix of one row per output, so that a
linear layer amplifies nothing, and a convolution of k by k pixels at most k times. PyTorch's own
normalisation carries its estimate from one forward pass to the next; here it is a function of the
weight alone, so that passes over micro-batches, processes and phases all see one network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# 2^5 = 32 power iterations per pass, where the paper carries on from the last pass with one.
_SQUARINGS = 5
# Of orthogonal weights, as in the authors' code of ReDO.
_GAIN = 0.8


def largest_singular_value(weight: Tensor, start: Tensor) -> Tensor:
    """Of a weight [O, ...] as a matrix of O rows, by power iteration; never too large.

    The singular vectors count as constants, as in the paper: the gradient is u v^T. Products are
    few because iterations double: (M M^T)^32 takes five squarings.

    Args:
        weight: At least two axes.
        start: Where the iteration begins, as long as the shorter side of the matrix.
    """
    # bf16 would be too coarse to divide by.
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1)
        matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
        with torch.no_grad():
            power = matrix @ matrix.T
            for _ in range(_SQUARINGS):
                power = power / power.trace()  # which is at least the largest eigenvalue
                power = power @ power
            left = F.normalize(power @ start, dim=0)
        value: Tensor = torch.linalg.vector_norm(left @ matrix)
        return value


class SpectralConv2d(nn.Conv2d):
    """A convolution, padded to keep the size, by its weight over the largest singular value."""

    start: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        _prepare(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, outputs, H, W]."""
        weight = self.weight / largest_singular_value(self.weight, self.start)
        convolved: Tensor = self._conv_forward(features, weight, self.bias)
        return convolved


class SpectralLinear(nn.Linear):
    """A linear layer by its weight over the largest singular value."""

    start: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        _prepare(self)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, outputs]."""
        weight = self.weight / largest_singular_value(self.weight, self.start)
        return F.linear(features, weight, self.bias)


def _prepare(layer: nn.Conv2d | nn.Linear) -> None:
    """Orthogonal weights, no bias, and where power iterations begin."""
    nn.init.orthogonal_(layer.weight, gain=_GAIN)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    shorter = min(layer.weight.flatten(1).shape)
    layer.register_buffer("start", F.normalize(torch.randn(shorter), dim=0))
