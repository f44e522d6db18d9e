"""The networks of ReDO beside its segmenter: what draws a region, and what reads a picture.

Residual networks with spectral normalisation throughout, after self-attention GANs (Zhang et al.,
ICML 2019, arXiv 1805.08318), without the attention.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.errors import ConfigError
from segan.networks.blocks import ChannelNorm, Inputs, normalise
from segan.networks.spectral import SpectralConv2d, SpectralLinear


@settings
class RedrawerConfig:
    """A generator of regions.

    Attributes:
        width: Channels at full resolution; each level below has twice as many.
        depth: Number of times the resolution is doubled.
    """

    width: int = Field(default=8, ge=4)
    depth: int = Field(default=3, ge=1, le=6)


@settings
class ResidualConfig:
    """A discriminator, or an encoder.

    Attributes:
        width: Channels of the first level; each level below has twice as many.
        depth: Number of times the resolution is halved.
        inputs: As in `UNetConfig`; each picture by its own contrast would hide some of what the
            encoder has to read.
    """

    width: int = Field(default=12, ge=4)
    depth: int = Field(default=3, ge=1, le=6)
    inputs: Inputs = "range"


class Redrawer(nn.Module):
    """Draws one region from noise, seeing nothing of the picture but the region's mask.

    The noise makes the coarsest features and scales and shifts all others; the mask joins them at
    each resolution.

    Args:
        config: Its shape.
        size: Side S of the pictures.
        num_noise: Z, the length of the noise.

    Raises:
        ConfigError: The side cannot be halved `depth` times.
    """

    def __init__(self, config: RedrawerConfig, size: int, *, num_noise: int) -> None:
        super().__init__()
        if size % 2**config.depth:
            raise ConfigError(
                f"'method.size' is {size}; with a generator of depth {config.depth} it must be a "
                f"multiple of {2**config.depth}"
            )
        widths = [config.width * 2**level for level in range(config.depth, -1, -1)]
        self.coarsest = (widths[0], size // 2**config.depth, size // 2**config.depth)
        self.first = SpectralLinear(num_noise, widths[0] * self.coarsest[1] ** 2)
        self.blocks = nn.ModuleList(
            _Up(below, above, num_noise=num_noise) for below, above in pairwise(widths)
        )
        self.norm = _NoiseNorm(widths[-1], num_noise=num_noise)
        self.head = SpectralConv2d(widths[-1], 3, 3)

    def forward(self, mask: Tensor, noise: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] in [0, 1], of use where the mask is.

        Args:
            mask: Of the region, [N, 1, S, S] in [0, 1].
            noise: [N, Z].
        """
        features = self.first(noise).unflatten(1, self.coarsest)
        for block in self.blocks:
            features = block(features, mask, noise)
        drawn = self.head(F.relu(self.norm(features, noise)))
        return (at_least_fp32(drawn).tanh() + 1) / 2


class ResidualDiscriminator(nn.Module):
    """Pictures [N, 3, S, S] in [0, 1] to logits [N, 1], fp32, of bounded slope.

    Args:
        config: Its shape.
        size: Side S of the pictures.

    Raises:
        ConfigError: The pictures are too small to be halved `depth` times.
    """

    def __init__(self, config: ResidualConfig, size: int) -> None:
        super().__init__()
        self.trunk = _Trunk(config, size)
        self.score = SpectralLinear(self.trunk.channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: positive means real."""
        logits: Tensor = self.score(self.trunk(images).sum((2, 3)))
        return at_least_fp32(logits)


class NoiseEncoder(nn.Module):
    """Pictures [N, 3, S, S] in [0, 1] to the noise they were drawn from [N, K, Z], fp32.

    Up to the last layer its slope is bounded, so that what it is to read must be seen.

    Args:
        config: Its shape.
        size: Side S of the pictures.
        num_regions: K.
        num_noise: Z.

    Raises:
        ConfigError: The pictures are too small to be halved `depth` times.
    """

    def __init__(
        self, config: ResidualConfig, size: int, *, num_regions: int, num_noise: int
    ) -> None:
        super().__init__()
        self.trunk = _Trunk(config, size)
        # Bounded as well, means of features could not reach the noise's unit variance.
        self.guess = nn.Linear(self.trunk.channels, num_regions * num_noise)
        self.shape = (num_regions, num_noise)

    def forward(self, images: Tensor) -> Tensor:
        """What the noise of each region would be, were it the one that was redrawn."""
        guesses: Tensor = self.guess(self.trunk(images).mean((2, 3)))
        return at_least_fp32(guesses).view(-1, *self.shape)


class _Trunk(nn.Module):
    """Pictures to features, each level of half the resolution."""

    def __init__(self, config: ResidualConfig, size: int) -> None:
        super().__init__()
        if size < 2**config.depth:
            raise ConfigError(
                f"'method.size' is {size}; a discriminator or encoder of depth {config.depth} "
                f"needs at least {2**config.depth}"
            )
        widths = [3, *(config.width * 2**level for level in range(config.depth))]
        self.inputs: Inputs = config.inputs
        self.channels = widths[-1]
        self.blocks = nn.Sequential(*(_Down(above, below) for above, below in pairwise(widths)))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(normalise(images, self.inputs))
        return F.relu(features)


class _NoiseNorm(nn.Module):
    """Channel normalisation whose scales and shifts are linear in the noise."""

    def __init__(self, channels: int, *, num_noise: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.modulate = SpectralLinear(num_noise, 2 * channels)

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        scale, shift = self.modulate(noise)[:, :, None, None].chunk(2, dim=1)
        modulated: Tensor = (1 + scale) * self.norm(features) + shift
        return modulated


class _Up(nn.Module):
    """A residual block to twice the resolution."""

    def __init__(self, inputs: int, outputs: int, *, num_noise: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_NoiseNorm(c, num_noise=num_noise) for c in (inputs, outputs))
        self.convolutions = nn.ModuleList(
            (SpectralConv2d(inputs + 1, outputs, 3), SpectralConv2d(outputs, outputs, 3))
        )
        self.shortcut = SpectralConv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        first, second = self.convolutions
        values = _doubled(F.relu(self.norms[0](features, noise)))
        small = F.avg_pool2d(mask, mask.shape[-1] // values.shape[-1])
        values = first(torch.cat([values, small.to(values)], dim=1))
        values = second(F.relu(self.norms[1](values, noise)))
        doubled: Tensor = values + _doubled(self.shortcut(features))
        return doubled


class _Down(nn.Module):
    """A residual block to half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.is_first = inputs == 3
        self.first = SpectralConv2d(inputs, outputs, 3)
        self.second = SpectralConv2d(outputs, outputs, 3)
        self.shortcut = SpectralConv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        # Rectified, a picture would lose its darker half.
        values = features if self.is_first else F.relu(features)
        values = F.avg_pool2d(self.second(F.relu(self.first(values))), 2)
        return values + F.avg_pool2d(self.shortcut(features), 2)


def _doubled(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")
