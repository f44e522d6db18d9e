"""Layers of bounded gain: spectral normalisation (Miyato et al., ICLR 2018, arXiv 1802.05957).

A weight is divided by its largest singular value, so that a layer amplifies nothing. PyTorch's own
normalisation carries its estimate from one forward pass to the next; here it is a function of the
weight alone, so that passes over micro-batches, processes and phases all see one network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Power iterations per pass, where the paper carries on from the last pass with one.
_ITERATIONS = 8
# Of orthogonal weights, as in the authors' code of ReDO.
_GAIN = 0.8


def largest_singular_value(weight: Tensor, start: Tensor) -> Tensor:
    """Of a weight [O, ...] as a matrix of O rows, by power iteration; never too large.

    The singular vectors count as constants, as in the paper: the gradient is u v^T.

    Args:
        weight: At least two axes.
        start: [O], where the iteration begins.
    """
    # bf16 would be too coarse to divide by.
    with torch.autocast(weight.device.type, enabled=False):
        matrix = weight.flatten(1)
        with torch.no_grad():
            left = start
            for _ in range(_ITERATIONS):
                right = F.normalize(matrix.T @ left, dim=0)
                left = F.normalize(matrix @ right, dim=0)
        return left @ (matrix @ right)


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
    layer.register_buffer("start", F.normalize(torch.randn(len(layer.weight)), dim=0))
