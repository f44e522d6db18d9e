"""ReDO, "Unsupervised Object Segmentation by Redrawing" (Chen, Artieres & Denoyer, NeurIPS 2019,
arXiv 1905.13539).

A partition is good if one of its regions can be drawn anew from noise, given its outline alone, and
the picture still looks real, while the noise can be read off it again.

Supervision: none; regions have no names. Gaps between the paper and this file are listed in
docs/methods/redo.md.
"""

from dataclasses import field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from segan import networks
from segan.compositing import composite
from segan.config import settings
from segan.data.redraws import RedrawBatch, RedrawView
from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
)
from segan.methods.base import Losses, Method, Phase, Preview, losses
from segan.networks import RedrawerConfig, ResidualConfig, UNetConfig
from segan.segmenter import RegionSegmenter, Segmenter


@settings
class WeightsConfig:
    """Weights of the terms that segmenter, generators and encoder minimise.

    Attributes:
        redraw: Adversarial loss on redrawn pictures (authors: 1).
        information: Error of the noise that is read off a redrawn picture (authors: 5). Without it
            a region may be of no size: to redraw it changes nothing, which looks real.
    """

    redraw: float = Field(default=1.0, gt=0)
    information: float = Field(default=5.0, ge=0)


@settings
class ReDOConfig:
    """ReDO.

    Attributes:
        network: The segmenter f.
        generator: Shape of each region's generator G_k.
        discriminator: Shape of the discriminator D.
        encoder: Shape of the encoder, delta.
        num_regions: K (paper: 2).
        num_noise: Length of the noise z of a region.
        size: Side of the training images, network pixels.
        scale: Network pixels per picture pixel, in training and at test.
        adversarial: Form of the adversarial losses (paper: hinge).
        discriminator_steps: Updates of the discriminator per update of the others.
        weights: Of the terms.
    """

    type: Literal["redo"] = "redo"
    network: UNetConfig = field(default_factory=UNetConfig)
    generator: RedrawerConfig = field(default_factory=RedrawerConfig)
    discriminator: ResidualConfig = field(default_factory=ResidualConfig)
    encoder: ResidualConfig = field(default_factory=ResidualConfig)
    num_regions: int = Field(default=2, ge=2, le=16)
    num_noise: int = Field(default=8, ge=1, le=1024)
    size: int = Field(default=64, ge=16)
    scale: float = Field(default=0.5, ge=2**-6, le=1)
    adversarial: AdversarialLoss = "hinge"
    discriminator_steps: int = Field(default=1, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)


class ReDO(Method):
    """A segmenter, a generator for each region, an encoder, and a discriminator against them all.

    Segmenter and generators minimise one objective in phases of their own, so that the segmenter
    can learn ten times more slowly, as the authors' does.

    Raises:
        ConfigError: A network does not fit the size of the images.
    """

    name = "redo"
    supervision = "none"
    revision = 1

    def __init__(self, config: ReDOConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        count, length = config.num_regions, config.num_noise
        self.view = RedrawView(config.size, config.scale, num_regions=count, num_noise=length)
        network = networks.build(config.network, out_channels=count)
        self.segmenter = RegionSegmenter(network, stride=network.stride)
        self.generators = nn.ModuleList(
            networks.Redrawer(config.generator, config.size, num_noise=length) for _ in range(count)
        )
        self.discriminator = networks.ResidualDiscriminator(config.discriminator, config.size)
        painters: tuple[str, ...] = ("generators",)
        if config.weights.information:
            self.encoder = networks.NoiseEncoder(
                config.encoder, config.size, num_regions=count, num_noise=length
            )
            painters = ("generators", "encoder")
        steps = config.discriminator_steps
        self.phases = (
            Phase(name="discriminator", trains=("discriminator",), repeat=steps),
            Phase(name="generator", trains=painters),
            Phase(name="segmenter", trains=("segmenter",)),
        )

    # The redrawing.

    def redraw(self, images: Tensor, regions: Tensor, noise: Tensor) -> Tensor:
        """Pictures [N, K, 3, S, S], in the k-th of which region k alone is drawn anew.

            x_k = m_k G_k(m_k, z_k) + (1 - m_k) x

        The paper draws one k at random for each picture; here all have their turn, which is the
        expectation over k.

        Args:
            images: x, [N, 3, S, S] in [0, 1].
            regions: m, [N, K, S, S], summing to one over K.
            noise: z, [N, K, Z].
        """
        redrawn = [
            composite(generator(mask[:, None], z), images, mask[:, None])
            for generator, mask, z in zip(
                self.generators, regions.unbind(1), noise.unbind(1), strict=True
            )
        ]
        return torch.stack(redrawn, dim=1)

    def judge(self, redrawn: Tensor) -> Tensor:
        """The discriminator's logits [N * K, 1] of redrawn pictures [N, K, 3, S, S]."""
        logits: Tensor = self.discriminator(redrawn.flatten(0, 1))
        return logits

    def information(self, redrawn: Tensor, noise: Tensor) -> Tensor:
        """How far the noise is from what can be read off the pictures, E (delta_k(x_k) - z_k)^2.

        0: all is there. 1: nothing is, and the encoder answers with the mean.

        Args:
            redrawn: x_k, [N, K, 3, S, S].
            noise: z, [N, K, Z].
        """
        found: Tensor = self.encoder(redrawn.flatten(0, 1))
        found = found.view(*noise.shape[:2], *noise.shape[1:])
        own = found.diagonal(dim1=1, dim2=2).movedim(-1, 1)
        return (own - noise).square().mean()

    # One function per phase.

    def discriminator_losses(self, batch: RedrawBatch) -> Losses:
        """Pictures against redrawn ones: E (1 - D(x))+ + E (1 + D(x_k))+ for the hinge."""
        with torch.no_grad():
            redrawn = self.redraw(batch.images, self.segmenter(batch.images), batch.noise)
        real, fake = self.discriminator(batch.images), self.judge(redrawn)
        adversarial = discriminator_loss(self.paired(real), fake, kind=self.config.adversarial)
        return losses(
            adversarial,
            adversarial=adversarial,
            accuracy=discriminator_accuracy(real, fake),
            logit_real=real.mean(),
            logit_redrawn=fake.mean(),
        )

    def generator_losses(self, batch: RedrawBatch) -> Losses:
        """Generators and encoder, on the regions as they are."""
        with torch.no_grad():
            regions = self.segmenter(batch.images)
        return self.objective(batch, regions)

    def segmenter_losses(self, batch: RedrawBatch) -> Losses:
        """The segmenter, by what its regions let the generators do."""
        regions = self.segmenter(batch.images)
        found = self.objective(batch, regions)
        # Near 0 where a region is of no size.
        smallest = regions.mean((2, 3)).amin(1).mean()
        return found._replace(terms=found.terms | {"smallest": smallest.detach()})

    def objective(self, batch: RedrawBatch, regions: Tensor) -> Losses:
        """Redrawn pictures must look real and tell their noise: -E D(x_k) + 5 E (delta - z)^2."""
        weights, kind = self.config.weights, self.config.adversarial
        redrawn = self.redraw(batch.images, regions, batch.noise)
        real = None
        if kind == "relativistic":
            with torch.no_grad():
                real = self.paired(self.discriminator(batch.images))
        redraw = generator_loss(self.judge(redrawn), kind=kind, real=real)
        if not weights.information:
            return losses(weights.redraw * redraw, redraw=redraw)
        information = self.information(redrawn, batch.noise)
        total = weights.redraw * redraw + weights.information * information
        return losses(total, redraw=redraw, information=information)

    def paired(self, logits: Tensor) -> Tensor:
        """Logits [N * K, 1] of real pictures, each beside those of its redrawn ones."""
        return logits.repeat_interleave(self.config.num_regions, dim=0)

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: RedrawBatch) -> Preview:
        """Regions, and pictures with one region redrawn: another one from picture to picture."""
        regions = segmenter(batch.images)
        redrawn = self.redraw(batch.images, regions, batch.noise)
        which = torch.arange(len(redrawn), device=redrawn.device)
        composites = redrawn[which, which % self.config.num_regions]
        return Preview(images=batch.images, masks=regions, composites=composites)
