"""Discriminators: images to realness logits, without normalisation.

Real and fake batches go through separately; a norm that looks at the batch would tell them apart.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.errors import ConfigError
from segan.networks.blocks import Inputs, normalise


@settings
class DiscriminatorConfig:
    """A stack of strided convolutions.

    Attributes:
        type: "global": one logit per image, from all of it. "patch": a map of logits, each of a
            part of the image (PatchGAN, Isola et al. 2017, arXiv 1611.07004). "pooled": one logit,
            of the largest value of each feature anywhere; finds an object wherever it is, many
            times faster than a mean over patches that mostly do not show it.
        width: Channels of the first level; each level below has twice as many.
        depth: Number of times the resolution is halved.
        inputs: As in `UNetConfig`.
    """

    type: Literal["global", "patch", "pooled"] = "global"
    width: int = Field(default=24, ge=4)
    depth: int = Field(default=3, ge=1, le=6)
    inputs: Inputs = "standard"


@settings
class PooledConfig(DiscriminatorConfig):
    """A discriminator that pools its features: an object may be anywhere in its picture."""

    type: Literal["global", "patch", "pooled"] = "pooled"
    width: int = Field(default=16, ge=4)


class MaskDiscriminator(nn.Module):
    """Images [N, 3, S, S] in [0, 1] to logits [N, 1], and logits [N, 1, S, S] of what was pasted.

    Strided convolutions give the first, and a way back up, with skip connections, the second
    (Arandjelovic & Zisserman 2019: a U-Net with two heads).

    Args:
        config: Its shape; "patch" has no score of the whole image.
        size: Side S of the images, a multiple of 2 to the power of the depth.

    Attributes:
        encoder: What the first logits depend on.
        decoder: What only the second depend on.

    Raises:
        ConfigError: The images cannot be halved `depth` times, or the type is "patch".
    """

    def __init__(self, config: DiscriminatorConfig, size: int) -> None:
        super().__init__()
        if config.type == "patch":
            raise ConfigError(
                "a discriminator that also finds what was pasted is 'global' or 'pooled'"
            )
        if size % 2**config.depth:
            raise ConfigError(
                f"a discriminator of depth {config.depth} that also finds what was pasted needs "
                f"images whose side is a multiple of {2**config.depth}; it is {size}"
            )
        self.inputs = config.inputs
        widths = [config.width * 2**level for level in range(config.depth)]
        self.encoder = _Encoder(widths, None if config.type == "pooled" else size)
        self.decoder = _Decoder(widths)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits: positive means real, and pasted."""
        score, features = self.encoder(normalise(images, self.inputs))
        return at_least_fp32(score), at_least_fp32(self.decoder(features))


class _Encoder(nn.Module):
    def __init__(self, widths: list[int], size: int | None) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _convolution(above, below, kernel=4, stride=2)
            for above, below in pairwise([3, *widths])
        )
        self.deepest = _convolution(widths[-1], widths[-1])
        side = 1 if size is None else size // 2 ** len(widths)
        self.pool = nn.AdaptiveMaxPool2d(1) if size is None else nn.Identity()
        self.score = nn.Linear(widths[-1] * side**2, 1)

    def forward(self, values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the features of each level from half the resolution down."""
        features = []
        for layer in self.down:
            values = F.leaky_relu(layer(values), 0.2)
            features.append(values)
        features[-1] = F.leaky_relu(self.deepest(values), 0.2)
        return self.score(self.pool(features[-1]).flatten(1)), features


class _Decoder(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.up = nn.ModuleList(
            _convolution(below + above, above) for above, below in pairwise(widths)
        )
        self.mask = nn.Conv2d(widths[0], 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits at twice the resolution of the first of these features."""
        *skips, values = features
        for layer in reversed(self.up):
            values = F.interpolate(values, scale_factor=2.0, mode="nearest")
            values = F.leaky_relu(layer(torch.cat([values, skips.pop()], dim=1)), 0.2)
        return F.interpolate(self.mask(values), scale_factor=2.0, mode="bilinear")


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution for a leaky rectifier; the default initialisation loses 2 to 3 a layer."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Discriminator(nn.Module):
    """Images [N, 3, S, S] in [0, 1] to logits, fp32: [N, 1], or [N, 1, h, w] for patches.

    Args:
        config: Its shape.
        size: Side S of the images.

    Raises:
        ConfigError: The images are too small to be halved `depth` times.
    """

    def __init__(self, config: DiscriminatorConfig, size: int) -> None:
        super().__init__()
        if size < 2**config.depth:
            raise ConfigError(
                f"a discriminator of depth {config.depth} is too deep for images of {size} pixels; "
                f"its depth can be at most {size.bit_length() - 1}"
            )
        self.inputs = config.inputs
        layers: list[nn.Module] = []
        channels, side = 3, size
        for level in range(config.depth):
            width = config.width * 2**level
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, side = width, side // 2
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2)]
        if config.type == "global":
            layers += [nn.Flatten(), nn.Linear(channels * side**2, 1)]
        elif config.type == "pooled":
            layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, 1)]
        else:
            layers += [nn.Conv2d(channels, 1, 1)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                # Without norms, the default initialisation loses a factor of 2 to 3 a layer.
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits: positive means real."""
        logits: Tensor = self.layers(normalise(images, self.inputs))
        return at_least_fp32(logits)
