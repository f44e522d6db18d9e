"""Invariant information clustering for segmentation (Ji, Henriques & Vedaldi, ICCV 2019, arXiv
1807.06653).

Name each pixel so that the name survives a change of colours or a flip and is shared by its
neighbours, and so that all names are used: maximise the mutual information of the regions of two
views.

Supervision: none. Gaps between the paper, its authors' code and this file are listed in
docs/methods/iic.md.
"""

import math
from dataclasses import field
from typing import Literal

import torch
import torch.nn.functional as F
from kornia.enhance import adjust_hue
from pydantic import Field
from torch import Tensor, nn

from segan.compositing import at_least_fp32
from segan.config import settings
from segan.data.views import PairBatch, PairView
from segan.errors import ConfigError
from segan.losses.mutual_information import (
    collapsed_mutual_information_loss,
    mutual_information_loss,
)
from segan.methods.base import Losses, Method, Phase, Preview, losses
from segan.networks import IICHead, IICNetwork, IICNetworkConfig
from segan.networks.iic import luminance
from segan.segmenter import RegionSegmenter, Segmenter

# Below this, a pixel of the first view was beyond the edge of the second.
_VISIBLE = 0.999


@settings
class PairConfig:
    """How the second view differs from the first; each a largest deviation, drawn uniformly.

    Attributes:
        brightness: Share of the brightness.
        contrast: Share of the contrast.
        saturation: Share of the saturation.
        hue: Share of the colour circle.
        flip: Whether half of the second views are mirrored.
        rotation: Degrees. Not in the authors' commands, like the following.
        zoom: Share of the scale.
        shift: Share of the side.
    """

    brightness: float = Field(default=0.4, ge=0, lt=1)
    contrast: float = Field(default=0.4, ge=0, lt=1)
    saturation: float = Field(default=0.4, ge=0, lt=1)
    hue: float = Field(default=0.125, ge=0, le=0.5)
    flip: bool = True
    rotation: float = Field(default=0.0, ge=0, le=180)
    zoom: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, lt=1)


@settings
class IICConfig:
    """IIC.

    Attributes:
        network: Trunk and heads.
        num_regions: Of the head that is used (the authors' head B).
        num_overclusters: Of the auxiliary head (head A); 0 trains without one.
        size: Side of the training images, network pixels.
        scale: Network pixels per picture pixel, in training and at test.
        radius: Largest displacement T between the pixels that are compared, on either axis.
        collapsed: Whether joint distributions are summed over displacements before the information
            is taken, or after it; the authors' models use the latter.
        entropy_weight: lambda of head B: above 1 asks for clusters of equal size. The authors have
            1.5 for three classes and 1 otherwise; that of head A is always 1.
        turn_steps: Iterations before the other head has its turn; the authors' turn is an epoch.
        pair: The second view.
    """

    type: Literal["iic"] = "iic"
    network: IICNetworkConfig = field(default_factory=IICNetworkConfig)
    num_regions: int = Field(default=3, ge=2, le=255)
    num_overclusters: int = Field(default=15, ge=0, le=1024)
    size: int = Field(default=128, ge=16)
    scale: float = Field(default=0.33, ge=2**-6, le=1)
    radius: int = Field(default=10, ge=0)
    collapsed: bool = False
    entropy_weight: float = Field(default=1.0, gt=0)
    turn_steps: int = Field(default=1, ge=1)
    pair: PairConfig = field(default_factory=PairConfig)


class IIC(Method):
    """A trunk with a head of the regions that are wanted, and a finer one that helps it learn.

    Raises:
        ConfigError: The radius reaches beyond the training images, or the finer head has one name.
    """

    name = "iic"
    supervision = "none"
    batch_statistics = True

    def __init__(self, config: IICConfig) -> None:
        super().__init__()
        if config.radius >= config.size:
            raise ConfigError(
                f"'method.radius' is {config.radius}; it must be less than 'method.size', "
                f"{config.size}"
            )
        if config.num_overclusters == 1:
            raise ConfigError("'method.num_overclusters' is 1; it must be 0 (none) or at least 2")
        self.config = config
        self.scale = config.scale
        self.view = PairView(config.size, config.scale)
        network = IICNetwork(config.network, config.num_regions)
        self.segmenter = RegionSegmenter(network, stride=network.stride)
        if not config.num_overclusters:
            self.phases = (Phase(name="cluster", trains=("segmenter",), optimizer="adam"),)
            return
        self.overclusters = IICHead(
            config.network, network.trunk.out_channels, config.num_overclusters
        )
        self.phases = tuple(
            Phase(
                name=name,
                trains=trains,
                optimizer="adam",
                every=2,
                turn=turn,
                block=config.turn_steps,
            )
            for turn, (name, trains) in enumerate(
                (("overcluster", ("trunk", "overclusters")), ("cluster", ("segmenter",)))
            )
        )

    @property
    def network(self) -> IICNetwork:
        """Trunk and head B."""
        network = self.segmenter.network
        assert isinstance(network, IICNetwork)
        return network

    @property
    def trunk(self) -> nn.Module:
        """What both heads share."""
        return self.network.trunk

    def information(self, head: IICHead, batch: PairBatch, *, entropy_weight: float) -> Tensor:
        """Minus the mutual information of each sub-head's regions of two views [S] (Eq. 3, 5)."""
        config = self.config
        size = batch.images.shape[-2:]
        second_view = self.second_view(batch)
        first = head.all_regions(self.trunk(batch.images), size)
        second = head.all_regions(self.trunk(second_view), size)
        visible = self.back(torch.ones_like(batch.images[:, :1]), batch)
        loss = collapsed_mutual_information_loss if config.collapsed else mutual_information_loss
        found = [
            loss(
                one,
                self.back(other, batch),
                radius=config.radius,
                entropy_weight=entropy_weight,
                mask=(visible > _VISIBLE).to(one),
            )
            for one, other in zip(first, second, strict=True)
        ]
        return torch.stack(found)

    def overcluster_losses(self, batch: PairBatch) -> Losses:
        """Head A: more clusters than are wanted, for features that tell more apart."""
        found = self.information(self.overclusters, batch, entropy_weight=1.0)
        return losses(found.mean(), information=-found.mean())

    def cluster_losses(self, batch: PairBatch) -> Losses:
        """Head B: the regions that are used."""
        head = self.network.head
        found = self.information(head, batch, entropy_weight=self.config.entropy_weight)
        head.note(found)
        return losses(found.mean(), information=-found.mean(), best=-found.min())

    # The second view.

    def second_view(self, batch: PairBatch) -> Tensor:
        """Images [N, 3, S, S] with other colours, moved and mirrored."""
        moved = warp(batch.images, self.motion(batch)) if self.moves else batch.images
        return mirrored(recoloured(moved, batch.photometric, self.config.pair), self.flips(batch))

    def back(self, maps: Tensor, batch: PairBatch) -> Tensor:
        """Maps of the second view [N, C, S, S] brought back to the pixels of the first.

        Exact for mirrored views; what the second view does not show becomes 0.
        """
        maps = mirrored(maps, self.flips(batch))
        return warp(maps, inverted(self.motion(batch))) if self.moves else maps

    @property
    def moves(self) -> bool:
        """Whether second views are turned, zoomed or shifted."""
        return any((self.config.pair.rotation, self.config.pair.zoom, self.config.pair.shift))

    def flips(self, batch: PairBatch) -> Tensor:
        """Which second views are mirrored: bool [N]."""
        return (batch.flip > 0) & self.config.pair.flip

    def motion(self, batch: PairBatch) -> Tensor:
        """Affine maps [N, 2, 3] from the second view to the first, in the units of `affine_grid`.

        Rotations and zooms are about the centre, so that the inverse is exact.
        """
        pair = self.config.pair
        turn, zoom, across, down = batch.geometric.unbind(1)
        angle = turn * math.radians(pair.rotation)
        scale = (1 + pair.zoom) ** zoom
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        rows = [cosine, -sine, 2 * pair.shift * across, sine, cosine, 2 * pair.shift * down]
        return torch.stack(rows, dim=1).view(-1, 2, 3)

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: PairBatch) -> Preview:
        """The regions of a batch, for sample panels and the health monitor."""
        return Preview(images=batch.images, masks=segmenter(batch.images))


def mirrored(images: Tensor, flips: Tensor) -> Tensor:
    """Images [N, C, H, W], those where `flips` [N] holds with left and right exchanged."""
    return torch.where(flips[:, None, None, None], images.flip(-1), images)


def warp(images: Tensor, motion: Tensor) -> Tensor:
    """Images [N, C, H, W] looked up, bilinearly, where affine maps [N, 2, 3] say; 0 outside."""
    images = at_least_fp32(images)
    grid = F.affine_grid(motion.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def inverted(motion: Tensor) -> Tensor:
    """The inverse of affine maps [N, 2, 3]: x = A y + b gives y = A^-1 x - A^-1 b."""
    inverse = torch.linalg.inv(motion[..., :2])
    return torch.cat([inverse, -inverse @ motion[..., 2:]], dim=-1)


def recoloured(images: Tensor, noise: Tensor, pair: PairConfig) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] of other brightness, contrast, saturation and hue.

    Args:
        images: What to change.
        noise: [N, 4] in [-1, 1], times the largest deviations of `pair`.
        pair: Those deviations.
    """
    brightness, contrast, saturation, hue = noise.T[:, :, None, None, None]
    images = images * (1 + pair.brightness * brightness)
    gray = luminance(images).mean((2, 3), keepdim=True)
    images = gray + (images - gray) * (1 + pair.contrast * contrast)
    gray = luminance(images)
    images = (gray + (images - gray) * (1 + pair.saturation * saturation)).clamp(0, 1)
    if not pair.hue:
        return images
    turned: Tensor = adjust_hue(images, 2 * math.pi * pair.hue * hue.flatten())
    return turned.clamp(0, 1)
