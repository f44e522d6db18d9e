"""Discriminators: images to realness logits, without normalisation.

Real and fake batches go through separately; a norm that looks at the batch would tell them apart.
"""

from typing import Literal

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
