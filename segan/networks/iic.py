"""The segmentation network of IIC (Ji, Henriques & Vedaldi, ICCV 2019; SegmentationNet10a).

A small VGG-like trunk that sees about 30 x 30 pixels, and 1 x 1 heads that name what it sees.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.networks.blocks import BatchNorm, Inputs, normalise

# Channels over the first layer's, and dilation; "pool" halves the resolution.
_TRUNK: tuple[tuple[int, int] | Literal["pool"], ...] = (
    (1, 1),
    (2, 1),
    "pool",
    (4, 1),
    (4, 1),
    (8, 2),
    (8, 2),
)

# Half of it, less four pixels, is still something.
_LEAST_SIDE = 12


@settings
class IICNetworkConfig:
    """Trunk and heads. The defaults are the authors', but for their padding.

    Attributes:
        width: Channels of the first layer; the authors' 64 end at 512.
        sobel: Whether horizontal and vertical gradients of the gray levels join the colours.
        padding: "same": every convolution keeps the size, and logits are resampled before the
            softmax. "authors": dilated convolutions lose four pixels, the head gains two of zeros,
            and probabilities of that smaller map are stretched over the picture after the softmax,
            which leaves a rim that says nothing.
        sub_heads: Heads trained side by side; the one with the lowest loss is used.
        inputs: As in `UNetConfig`; gradients are of the normalised picture.
    """

    type: Literal["iic"] = "iic"
    width: int = Field(default=64, ge=4)
    sobel: bool = True
    padding: Literal["same", "authors"] = "same"
    sub_heads: int = Field(default=1, ge=1, le=16)
    inputs: Inputs = "range"


class IICTrunk(nn.Module):
    """Images [N, 3, H, W] in [0, 1] to features [N, 8 * width, H / 2, W / 2], or a bit smaller."""

    def __init__(self, config: IICNetworkConfig) -> None:
        super().__init__()
        self.inputs: Inputs | None = config.inputs
        self.sobel = config.sobel
        self.padding = config.padding
        self.out_channels = 8 * config.width
        layers: list[nn.Module] = []
        channels = 5 if config.sobel else 3
        for layer in _TRUNK:
            if layer == "pool":
                layers += [nn.MaxPool2d(2, 2)]
                continue
            width, dilation = layer
            padding = dilation if config.padding == "same" else 1
            outputs = width * config.width
            convolution = nn.Conv2d(
                channels, outputs, 3, padding=padding, dilation=dilation, bias=False
            )
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, BatchNorm(outputs), nn.ReLU()]
            channels = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Features at half the resolution."""
        images = normalise(images, self.inputs)
        if self.sobel:
            images = torch.cat([images, sobel(images)], dim=1)
        features: Tensor = self.layers(images)
        return features


class IICHead(nn.Module):
    """Sub-heads of 1 x 1 convolutions without bias, from features to maps of the picture's size.

    Args:
        config: Padding and number of sub-heads.
        in_channels: Of the trunk.
        num_regions: K, of each sub-head.
    """

    losses: Tensor

    def __init__(self, config: IICNetworkConfig, in_channels: int, num_regions: int) -> None:
        super().__init__()
        self.padding = config.padding
        self.num_regions = num_regions
        self.weight = nn.Parameter(torch.empty(config.sub_heads, num_regions, in_channels, 1, 1))
        nn.init.kaiming_normal_(self.weight.view(-1, in_channels, 1, 1))
        # A running mean of each sub-head's loss, by which one is chosen without labels.
        self.register_buffer("losses", torch.zeros(config.sub_heads))

    def forward(self, features: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
        """Logits [N, K, H, W] of the sub-head whose loss is lowest."""
        best = self.losses.argmin().reshape(1)
        return self._logits(features, self.weight.index_select(0, best)[0], size)

    def all_regions(self, features: Tensor, size: tuple[int, int] | torch.Size) -> list[Tensor]:
        """Regions [N, K, H, W] of every sub-head."""
        return [self._logits(features, weight, size).softmax(1) for weight in self.weight]

    def _logits(
        self, features: Tensor, weight: Tensor, size: tuple[int, int] | torch.Size
    ) -> Tensor:
        if self.padding == "same":
            return at_least_fp32(_resample(F.conv2d(features, weight), size))
        logits = at_least_fp32(F.conv2d(features, weight, padding=1))
        # The logarithm of probabilities is a logit of them.
        stretched = _resample(logits.softmax(1), size)
        return stretched.clamp(min=torch.finfo(stretched.dtype).tiny).log()

    @torch.no_grad()
    def note(self, losses: Tensor) -> None:
        """Take the loss of each sub-head [S] into the running means."""
        self.losses.lerp_(losses.detach().to(self.losses), 0.02)


class IICNetwork(nn.Module):
    """Images [N, 3, H, W] in [0, 1] to logits [N, K, H, W], fp32, for even H and W."""

    stride = 2

    def __init__(self, config: IICNetworkConfig, out_channels: int) -> None:
        super().__init__()
        self.trunk = IICTrunk(config)
        self.head = IICHead(config, self.trunk.out_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the resolution of the images."""
        if self.trunk.padding == "authors":
            return self._padded(images)
        logits: Tensor = self.head(self.trunk(images), images.shape[-2:])
        return logits

    def _padded(self, images: Tensor) -> Tensor:
        """Logits of images that may be smaller than what the unpadded convolutions take away."""
        height, width = images.shape[-2:]
        below, right = max(_LEAST_SIDE - height, 0), max(_LEAST_SIDE - width, 0)
        padded = F.pad(images, (0, right, 0, below), mode="replicate")
        logits: Tensor = self.head(self.trunk(padded), padded.shape[-2:])
        return logits[..., :height, :width]


def sobel(images: Tensor) -> Tensor:
    """Horizontal and vertical Sobel gradients [N, 2, H, W] of the gray levels of images."""
    gray = luminance(images)
    across = gray.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.stack([across, across.T])[:, None])


def luminance(images: Tensor) -> Tensor:
    """Gray levels [N, 1, H, W] of images [N, 3, H, W], by the weights of BT.601."""
    weights = images.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]
    return (images * weights).sum(1, keepdim=True)


def _resample(maps: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear")
