"""Networks by configuration: the one place where numbers become modules."""

from segan.networks.discriminators import Discriminator, DiscriminatorConfig
from segan.networks.unet import UNet, UNetConfig

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "SegmenterNetworkConfig",
    "UNet",
    "UNetConfig",
    "build",
]

SegmenterNetworkConfig = UNetConfig


def build(config: SegmenterNetworkConfig, *, out_channels: int = 1) -> UNet:
    """The network of a segmenter: [N, 3, H, W] in [0, 1] to logits [N, out_channels, H, W]."""
    return UNet(config, out_channels)
