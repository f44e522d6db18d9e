"""U-Net (Ronneberger, Fischer & Brox, MICCAI 2015, arXiv 1505.04597), the default mask generator.

Down-sampling with skip connections: the mask follows edges at full resolution and decides with the
context of the deepest level.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.networks.blocks import Inputs, Norm, conv_block, normalise


@settings
class UNetConfig:
    """A U-Net.

    Attributes:
        width: Channels of the first level; each level below has twice as many.
        depth: Number of times the resolution is halved.
        norm: Normalisation between layers; "channel" and "none" keep no statistic of the image.
        inputs: "range": images mapped to [-1, 1]. "standard": each to zero mean and unit variance,
            as sets need whose pictures differ much in brightness and contrast.
    """

    type: Literal["unet"] = "unet"
    width: int = Field(default=8, ge=4)
    depth: int = Field(default=3, ge=1, le=6)
    norm: Norm = "channel"
    inputs: Inputs = "standard"


class UNet(nn.Module):
    """Images [N, in_channels, H, W] in [0, 1] to logits [N, out_channels, H, W], fp32.

    H and W are multiples of `stride`.
    """

    def __init__(self, config: UNetConfig, out_channels: int = 1, *, in_channels: int = 3) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.stride = 2**config.depth
        self.inputs = config.inputs
        self.stem = conv_block(in_channels, widths[0], config.norm)
        self.down = nn.ModuleList(
            conv_block(above, below, config.norm) for above, below in pairwise(widths)
        )
        self.up = nn.ModuleList(
            conv_block(below + above, above, config.norm)
            for above, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.pool = nn.MaxPool2d(2, 2)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the resolution of the images."""
        features = self.stem(normalise(images, self.inputs))
        skips = []
        for block in self.down:
            skips.append(features)
            features = block(self.pool(features))
        for block in self.up:
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, skips.pop()], dim=1))
        logits: Tensor = self.head(features)
        return at_least_fp32(logits)
