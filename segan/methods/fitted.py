"""What methods that fit a segmenter to given masks share: the view, the noise, the losses."""

from dataclasses import field

import torch
from pydantic import Field
from torch import Tensor

from segan import networks
from segan.config import settings
from segan.data.targets import TargetBatch, TargetView
from segan.losses.fitting import cross_entropy, soft_dice
from segan.methods.base import Losses, Method, Phase, Preview, losses
from segan.networks import UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter, WindowSpec


@settings
class FittedViewConfig:
    """What is seen of the pictures.

    Attributes:
        size: Side of the parts or windows, network pixels.
        scale: Network pixels per picture pixel of parts, in training and at test.
        zoom: Sizes of parts and windows vary by a factor of up to 1 + zoom either way.
        windows: Windows around boxes, as cut-and-paste sees them, in place of parts of pictures.
        context: Window side over box side.
        square: Windows as high as they are wide, or shaped as their box.
        shift: How far a window's centre may lie off the box's, in box sides.
    """

    size: int = Field(default=48, ge=16)
    scale: float = Field(default=1.0, ge=2**-6, le=2**6)
    zoom: float = Field(default=0.25, ge=0, le=3)
    windows: bool = False
    context: float = Field(default=1.6, ge=1)
    square: bool = True
    shift: float = Field(default=0.0, ge=0, le=0.5)

    def spec(self) -> WindowSpec:
        """The windows."""
        return WindowSpec(size=self.size, context=self.context, square=self.square)


@settings
class FittedConfig:
    """A segmenter fitted to masks.

    Attributes:
        network: The mask generator, as in cut-and-paste.
        view: What is seen of the pictures.
        dice: Weight of the soft Dice loss beside the cross-entropy.
        noise: Largest relative change of brightness, contrast and colour balance in training.
    """

    network: UNetConfig = field(default_factory=UNetConfig)
    view: FittedViewConfig = field(default_factory=FittedViewConfig)
    dice: float = Field(default=1.0, ge=0)
    noise: float = Field(default=0.2, ge=0, lt=1)


class Fitted(Method):
    """A segmenter fitted to the masks of its view, in one phase.

    Args:
        config: Network, view and weights.
        view: A kind of `TargetView`; where its masks come from is all that differs.
    """

    segmenter: MaskSegmenter

    def __init__(self, config: FittedConfig, view: type[TargetView]) -> None:
        super().__init__()
        self.fitting = config
        seen = config.view
        self.window = seen.spec() if seen.windows else None
        self.scale = seen.scale
        self.view = view(
            seen.size, seen.scale, zoom=seen.zoom, windows=self.window, shift=seen.shift
        )
        network = networks.build(config.network)
        self.segmenter = MaskSegmenter(network, stride=network.stride)
        self.phases = (Phase(name="fit", trains=("segmenter",)),)

    def targets(self, batch: TargetBatch) -> Tensor:
        """The masks to fit [N, 1, S, S]."""
        return batch.targets

    def fit_losses(self, batch: TargetBatch) -> Losses:
        """Cross-entropy and soft Dice, each picture by its confidence."""
        return self.fitted(batch, self.logits(batch))

    def logits(self, batch: TargetBatch) -> Tensor:
        """Of the masks of noisy pictures, [N, 1, S, S]."""
        images = noisy(batch.images, self.fitting.noise * batch.photometric)
        return self.segmenter.logits(images)

    def fitted(self, batch: TargetBatch, logits: Tensor) -> Losses:
        """How far logits are from the targets."""
        targets = self.targets(batch)
        entropies = cross_entropy(logits, targets, batch.weights)
        dice = soft_dice(logits.sigmoid(), targets, batch.weights)
        total = (batch.confidence * (entropies + self.fitting.dice * dice)).mean()
        return losses(total, cross_entropy=entropies.mean(), dice=dice.mean())

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: TargetBatch) -> Preview:
        """The masks of a batch without noise."""
        return Preview(images=batch.images, masks=segmenter(batch.images)[:, 1:])


def noisy(images: Tensor, amounts: Tensor) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] of other brightness, contrast and colour balance.

    Args:
        images: What to change.
        amounts: [N, 3] in (-1, 1): factors of 1 + amount of brightness and contrast; the third
            makes red stronger and blue weaker by as much.
    """
    brightness, contrast, balance = amounts.T[:, :, None, None, None]
    images = images * (1 + brightness)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + contrast)
    tilt = torch.cat([1 + balance, torch.ones_like(balance), 1 - balance], dim=1)
    return (images * tilt).clamp(0, 1)
