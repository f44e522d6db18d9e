"""W-Net (Xia & Kulis, "W-Net: A Deep Model for Fully Unsupervised Image Segmentation", 2017,
arXiv 1711.08506).

A partition is good if it cuts the picture where pixels differ, and if the picture can be rebuilt
from it: an encoder is trained on the soft normalised cut of its regions, and together with a
decoder on the reconstruction from them.

Supervision: none. Gaps between the paper and this file are listed in docs/methods/wnet.md.
"""

from dataclasses import field
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from segan.config import settings
from segan.data.views import ImageBatch, ImageView
from segan.errors import ConfigError
from segan.losses.ncut import soft_ncut
from segan.methods.base import Losses, Method, Phase, Preview, losses
from segan.networks import WNetNetwork, WNetNetworkConfig
from segan.segmenter import RegionSegmenter, Segmenter


@settings
class WNetConfig:
    """W-Net.

    Attributes:
        network: Encoder and decoder, each of this shape.
        num_regions: K, which the paper does not state.
        size: Side of the training images, network pixels.
        scale: Network pixels per picture pixel, in training and at test.
        radius: Of the soft cut's neighbourhood, network pixels, exclusive (paper, Eq. 6: 5).
        sigma_intensity: Bandwidth of colour differences, of [0, 1] (paper: 10 of 255).
        sigma_distance: Bandwidth of distances, network pixels (paper: 4).
        features: What is compared: colour vectors, or brightness as most implementations do.
        ncut: Weight of the soft cut. The paper minimises the two losses in turn, so that with an
            optimiser that normalises gradients weights hardly matter.
        reconstruction: Weight of the reconstruction error.
        joint: Both losses in one update of both networks, in place of the paper's Algorithm 1.
    """

    type: Literal["wnet"] = "wnet"
    network: WNetNetworkConfig = field(default_factory=WNetNetworkConfig)
    num_regions: int = Field(default=64, ge=2, le=255)
    size: int = Field(default=224, ge=16)
    scale: float = Field(default=0.6, ge=2**-6, le=1)
    radius: int = Field(default=5, ge=2)
    sigma_intensity: float = Field(default=10 / 255, gt=0)
    sigma_distance: float = Field(default=4.0, gt=0)
    features: Literal["colour", "brightness"] = "colour"
    ncut: float = Field(default=1.0, gt=0)
    reconstruction: float = Field(default=1.0, gt=0)
    joint: bool = False


class WNet(Method):
    """An encoder that partitions and a decoder that rebuilds, updated in turn (Algorithm 1).

    Raises:
        ConfigError: The radius is larger than the training images.
    """

    name = "wnet"
    supervision = "none"

    def __init__(self, config: WNetConfig) -> None:
        super().__init__()
        if config.radius > config.size:
            raise ConfigError(
                f"'method.radius' is {config.radius}; it must be at most 'method.size', "
                f"{config.size}"
            )
        self.config = config
        self.scale = config.scale
        self.batch_statistics = config.network.norm == "batch"
        self.view = ImageView(config.size, config.scale)
        encoder = WNetNetwork(config.network, config.num_regions)
        self.segmenter = RegionSegmenter(encoder, stride=encoder.stride)
        self.decoder = WNetNetwork(config.network, 3, in_regions=config.num_regions)
        both = ("segmenter", "decoder")
        self.phases = (
            (Phase(name="joint", trains=both),)
            if config.joint
            else (
                Phase(name="ncut", trains=("segmenter",)),
                Phase(name="reconstruction", trains=both),
            )
        )

    def cut(self, regions: Tensor, images: Tensor) -> Tensor:
        """J_soft-Ncut of a partition (paper, Eq. 2), over K so that it lies in [0, 1]."""
        config = self.config
        cut = soft_ncut(
            regions,
            images,
            radius=config.radius,
            sigma_intensity=config.sigma_intensity,
            sigma_distance=config.sigma_distance,
            features=config.features,
        )
        return cut / config.num_regions

    def rebuild(self, regions: Tensor, images: Tensor) -> Tensor:
        """J_reconstr, the mean squared error of the picture rebuilt from its regions (Eq. 5)."""
        return F.mse_loss(self.decoder(regions), images)

    def ncut_losses(self, batch: ImageBatch) -> Losses:
        """The encoder alone, on the soft normalised cut (Algorithm 1, first update)."""
        ncut = self.cut(self.segmenter(batch.images), batch.images)
        return losses(self.config.ncut * ncut, ncut=ncut)

    def reconstruction_losses(self, batch: ImageBatch) -> Losses:
        """Encoder and decoder, on the reconstruction (Algorithm 1, second update)."""
        error = self.rebuild(self.segmenter(batch.images), batch.images)
        return losses(self.config.reconstruction * error, reconstruction=error)

    def joint_losses(self, batch: ImageBatch) -> Losses:
        """Both at once, as several public implementations do."""
        regions = self.segmenter(batch.images)
        ncut, error = self.cut(regions, batch.images), self.rebuild(regions, batch.images)
        total = self.config.ncut * ncut + self.config.reconstruction * error
        return losses(total, ncut=ncut, reconstruction=error)

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: ImageBatch) -> Preview:
        """The partitions of a batch, for sample panels and the health monitor."""
        return Preview(images=batch.images, masks=segmenter(batch.images))
