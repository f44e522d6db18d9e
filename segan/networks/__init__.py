"""Networks by configuration: the one place where numbers become modules."""

from typing import Annotated

from pydantic import Field

from segan.networks.discriminators import (
    Discriminator,
    DiscriminatorConfig,
    MaskDiscriminator,
    PooledConfig,
)
from segan.networks.iic import IICHead, IICNetwork, IICNetworkConfig, IICTrunk
from segan.networks.painters import Enhancer, EnhancerConfig, Inpainter, InpainterConfig
from segan.networks.redrawing import (
    NoiseEncoder,
    Redrawer,
    RedrawerConfig,
    ResidualConfig,
    ResidualDiscriminator,
)
from segan.networks.unet import UNet, UNetConfig
from segan.networks.wnet import WNetNetwork, WNetNetworkConfig

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Enhancer",
    "EnhancerConfig",
    "IICHead",
    "IICNetwork",
    "IICNetworkConfig",
    "IICTrunk",
    "Inpainter",
    "InpainterConfig",
    "MaskDiscriminator",
    "NoiseEncoder",
    "PooledConfig",
    "Redrawer",
    "RedrawerConfig",
    "ResidualConfig",
    "ResidualDiscriminator",
    "SegmenterNetwork",
    "SegmenterNetworkConfig",
    "UNet",
    "UNetConfig",
    "WNetNetwork",
    "WNetNetworkConfig",
    "build",
]

SegmenterNetworkConfig = Annotated[
    UNetConfig | WNetNetworkConfig | IICNetworkConfig, Field(discriminator="type")
]

SegmenterNetwork = UNet | WNetNetwork | IICNetwork


def build(config: SegmenterNetworkConfig, *, out_channels: int = 1) -> SegmenterNetwork:
    """The network of a segmenter: [N, 3, H, W] in [0, 1] to logits [N, out_channels, H, W]."""
    match config:
        case WNetNetworkConfig():
            return WNetNetwork(config, out_channels)
        case IICNetworkConfig():
            return IICNetwork(config, out_channels)
        case _:
            return UNet(config, out_channels)
