"""The U-Net of W-Net (Xia & Kulis 2017, arXiv 1711.08506, figure 2 and section 3).

Two of these make a W: an encoder from images to regions and a decoder from regions to images.
"""

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.networks.blocks import BatchNorm, Inputs, make_norm, normalise


@settings
class WNetNetworkConfig:
    """One U-Net of the pair. The defaults are the paper's: 23 convolutions, 46 in the pair.

    Attributes:
        width: Channels of the first module; each level below has twice as many.
        depth: Number of times the resolution is halved; the paper's 4 give 9 modules.
        norm: After each rectifier. "batch" is the paper's; it ties a mask to the training set's
            statistics. "channel" and "none" see one pixel at a time.
        dropout: Share of channels dropped after the modules below full resolution, in training. The
            paper says 0.65 and neither where nor whether it is what is kept.
        separable: Depthwise separable convolutions in all modules but the first and the last.
        inputs: As in `UNetConfig`.
    """

    type: Literal["wnet"] = "wnet"
    width: int = Field(default=64, ge=4)
    depth: int = Field(default=4, ge=1, le=6)
    norm: Literal["batch", "channel", "none"] = "batch"
    dropout: float = Field(default=0.65, ge=0, lt=1)
    separable: bool = True
    inputs: Inputs = "range"


class WNetNetwork(nn.Module):
    """[N, C, H, W] to logits [N, out_channels, H, W], fp32; H and W multiples of `stride`.

    Args:
        config: Its shape.
        out_channels: Regions for an encoder, 3 for a decoder.
        in_regions: None for an encoder, whose images in [0, 1] are normalised as `config.inputs`
            says; the number of regions for a decoder, which takes them as they are.
    """

    def __init__(
        self, config: WNetNetworkConfig, out_channels: int, *, in_regions: int | None = None
    ) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        self.stride = 2**config.depth
        self.inputs: Inputs | None = config.inputs if in_regions is None else None
        self.first = _module(config, in_regions or 3, widths[0], separable=False)
        self.down = nn.ModuleList(
            _module(config, above, below, separable=config.separable, dropout=config.dropout)
            for above, below in pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, above, 2, stride=2)
            for above, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        # The last module of the way up is at full resolution: neither separable nor dropped.
        self.across = nn.ModuleList(
            _module(
                config,
                2 * width,
                width,
                separable=config.separable and level > 0,
                dropout=config.dropout if level > 0 else 0.0,
            )
            for level, width in reversed(list(enumerate(widths[:-1])))
        )
        self.pool = nn.MaxPool2d(2, 2)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the resolution of the input, with no rectifier: they may be negative."""
        features = self.first(normalise(images, self.inputs))
        skips = []
        for module in self.down:
            skips.append(features)
            features = module(self.pool(features))
        for up, module in zip(self.up, self.across, strict=True):
            features = module(torch.cat([skips.pop(), up(features)], dim=1))
        logits: Tensor = self.head(features)
        return at_least_fp32(logits)


def _module(
    config: WNetNetworkConfig, inputs: int, outputs: int, *, separable: bool, dropout: float = 0.0
) -> nn.Sequential:
    """Two 3x3 convolutions, each followed by a rectifier and then a norm (section 3)."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [_convolution(channels, outputs, separable=separable), nn.ReLU()]
        norm = config.norm
        layers += [BatchNorm(outputs) if norm == "batch" else make_norm(norm, outputs)]
    if dropout:
        layers += [nn.Dropout2d(dropout)]
    return nn.Sequential(*layers)


def _convolution(inputs: int, outputs: int, *, separable: bool) -> nn.Module:
    """A 3x3 convolution; separable: depthwise, then pointwise (Xception, Chollet 2017)."""
    if not separable:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        return convolution
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    pointwise = nn.Conv2d(inputs, outputs, 1)
    nn.init.kaiming_normal_(pointwise.weight, nonlinearity="relu")
    return nn.Sequential(depthwise, pointwise)
