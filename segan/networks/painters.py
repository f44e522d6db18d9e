"""Networks that paint pictures: SEIGAN's inpainter and enhancer, both around a small U-Net."""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32, composite
from segan.config import settings
from segan.networks.blocks import Norm
from segan.networks.unet import UNet, UNetConfig


@settings
class PainterConfig:
    """A U-Net that paints.

    Attributes:
        width: Channels of the first level; each level below has twice as many.
        depth: Number of times the resolution is halved.
        norm: As in `UNetConfig`.
        shrink: It paints pictures this many times smaller; its residual is enlarged again.
    """

    width: int = Field(default=8, ge=4)
    depth: int = Field(default=3, ge=1, le=6)
    norm: Norm = "channel"
    shrink: int = Field(default=1, ge=1, le=4)

    @property
    def stride(self) -> int:
        """What the sides of pictures must be multiples of."""
        stride: int = self.shrink * 2**self.depth
        return stride


@settings
class InpainterConfig(PainterConfig):
    """A painter of holes; texture that cannot be known need not be painted at full size."""

    shrink: int = Field(default=2, ge=1, le=4)


@settings
class EnhancerConfig(PainterConfig):
    """A painter of seams, which are small."""

    width: int = Field(default=4, ge=4)
    depth: int = Field(default=1, ge=1, le=6)


class Painter(nn.Module):
    """A picture of differences: images [N, C, H, W] to [N, 3, H, W] in [-1, 1].

    Args:
        config: Its shape.
        in_channels: C.
    """

    def __init__(self, config: PainterConfig, *, in_channels: int) -> None:
        super().__init__()
        shape = UNetConfig(width=config.width, depth=config.depth, norm=config.norm, inputs="range")
        self.network = UNet(shape, out_channels=3, in_channels=in_channels)
        self.shrink = config.shrink
        with torch.no_grad():
            # Near nothing at first: what is painted on stays as it is.
            self.network.head.weight.mul_(0.1)
            self.network.head.bias.zero_()  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        """Differences at the resolution of the images; H and W are multiples of the stride."""
        if self.shrink == 1:
            painted: Tensor = self.network(images).tanh()
            return painted
        painted = self.network(F.avg_pool2d(images, self.shrink)).tanh()
        return F.interpolate(painted, scale_factor=float(self.shrink), mode="bilinear")


class Inpainter(nn.Module):
    """Fills holes: a smooth fill from around, and a residual that the U-Net paints on it.

    Starting from the smooth fill, the network has texture to learn and nothing else.
    """

    def __init__(self, config: InpainterConfig) -> None:
        super().__init__()
        self.painter = Painter(config, in_channels=4)

    def forward(self, images: Tensor, hole: Tensor) -> Tensor:
        """What could be in the hole: [N, 3, H, W] in [0, 1], of use inside the hole only.

        Args:
            images: [N, 3, H, W] in [0, 1]; where the hole is 1, it does not matter what they are.
            hole: [N, 1, H, W] in [0, 1]. H and W are multiples of the configuration's stride.
        """
        smooth = smooth_fill(images, hole)
        known = composite(smooth, images, hole)
        # Half of the range either way reaches every colour from nearly every other.
        residual = 0.5 * self.painter(torch.cat([known, at_least_fp32(hole)], dim=1))
        painted: Tensor = (smooth + residual).clamp(0, 1)
        return painted


class Enhancer(nn.Module):
    """Harmonises a composite by a bounded residual, which is too small to repaint it.

    Args:
        config: Its shape.
        bound: Largest change of a pixel, in units of [0, 1].
    """

    def __init__(self, config: EnhancerConfig, bound: float) -> None:
        super().__init__()
        self.painter = Painter(config, in_channels=3)
        self.bound = bound

    def forward(self, images: Tensor) -> Tensor:
        """The pictures [N, 3, H, W] in [0, 1], each pixel changed by at most the bound."""
        residual: Tensor = self.bound * self.painter(images)
        return (at_least_fp32(images) + residual).clamp(0, 1)


def smooth_fill(images: Tensor, hole: Tensor) -> Tensor:
    """Colours of the surroundings carried into the hole, from coarse to fine (push-pull).

    On every level of a pyramid a pixel is the mean of the known pixels below it, as far as there
    are any, and otherwise what the level above says.

    Args:
        images: [N, 3, H, W] in [0, 1].
        hole: [N, 1, H, W] in [0, 1].

    Returns:
        [N, 3, H, W] in [0, 1]: inside the hole the fill, outside a smoothed picture.
    """
    known = 1 - at_least_fp32(hole)
    colours = at_least_fp32(images) * known
    levels = []
    while min(colours.shape[-2:]) > 1:
        colours, known = (
            F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)
            for values in (colours, known)
        )
        levels.append((colours, known))
    mean = colours.mean((2, 3), keepdim=True) / known.mean((2, 3), keepdim=True).clamp(min=1e-3)
    fill = mean
    for colours, known in reversed(levels):
        fill = F.interpolate(fill, size=colours.shape[-2:], mode="bilinear", align_corners=False)
        fill = colours + (1 - known) * fill
    fill = F.interpolate(fill, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return fill.clamp(0, 1)
