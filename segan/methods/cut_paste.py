"""Learning to Segment via Cut-and-Paste (Remez, Huang & Brown, ECCV 2018, arXiv 1803.06414).

A mask is good if the object it cuts out still looks real when pasted elsewhere in the image, and if
what it leaves behind looks like background with a hole.

Supervision: boxes. Gaps between the paper and this file, and every guard that is not the paper's,
are listed in docs/methods/cut_paste.md.
"""

from dataclasses import field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from segan import networks
from segan.compositing import blur, brighten, composite, cut_out, zero_border
from segan.config import settings
from segan.data.views import CutPasteBatch, CutPasteView, Placement
from segan.errors import ConfigError
from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from segan.losses.masks import area_ceiling, area_floor, binarity, mean_area
from segan.methods.base import Losses, Method, Phase, Preview, losses
from segan.networks import DiscriminatorConfig, SegmenterNetworkConfig, UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter, WindowSpec
from segan.windows import boxes_to_mask


@settings
class WeightsConfig:
    """Weights of the generator's terms; 0 switches a term, and the network it needs, off.

    Attributes:
        paste: Adversarial loss on composites (paper, Eq. 2).
        cut: Adversarial loss on what is left after cutting (paper, section 3).
        presence: The composite must hold an object, against object-free windows (paper, section 3).
        empty: Mean opacity on object-free windows, where nothing is to be cut. Not in the paper.
        area_floor: Penalty on masks below `GuardsConfig.floor` of their box. Not in the paper.
        area_ceiling: Penalty on masks above `GuardsConfig.ceiling` of their box. Not in the paper.
        area: Mean opacity inside the box. Not in the paper.
        binarity: Distance of opacities from 0 and 1, warmed up. Not in the paper.
        r1: Gradient penalty of the discriminators (Mescheder et al. 2018). Not in the paper.
    """

    paste: float = Field(default=1.0, ge=0)
    cut: float = Field(default=0.5, ge=0)
    presence: float = Field(default=0.0, ge=0)
    empty: float = Field(default=2.0, ge=0)
    area_floor: float = Field(default=0.0, ge=0)
    area_ceiling: float = Field(default=0.0, ge=0)
    area: float = Field(default=0.4, ge=0)
    binarity: float = Field(default=0.0, ge=0)
    r1: float = Field(default=0.02, ge=0)


@settings
class GuardsConfig:
    """Guards against degenerate masks and against shortcuts of the discriminators.

    Attributes:
        jitter: Brightness added to object, background and real windows, each U(0, jitter).
        blur: Standard deviation of the low-pass before the discriminators, pixels.
        feather: Standard deviation of the mask's blur before pasting, pixels.
        border: Width of the frame of the window where the mask is zero, pixels.
        grounded: Whether composites by random polygons are also shown as fake
            (Arandjelovic & Zisserman 2019).
        floor: Share of the box below which `area_floor` acts.
        ceiling: Share of the box above which `area_ceiling` acts.
        binarity_warmup: Share of training over which the binarity weight rises from 0.
    """

    jitter: float = Field(default=0.25, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0)
    feather: float = Field(default=0.0, ge=0)
    border: int = Field(default=0, ge=0)
    grounded: bool = False
    floor: float = Field(default=0.1, ge=0, le=1)
    ceiling: float = Field(default=0.9, ge=0, le=1)
    binarity_warmup: float = Field(default=0.25, ge=0, le=1)


@settings
class CutPasteConfig:
    """Cut-and-paste.

    Attributes:
        network: The mask generator.
        discriminator: Shape of each discriminator.
        size: Side of the windows, pixels.
        context: Window side over box side: the viewport in which a seam can be seen.
        square: Windows as high as they are wide, or shaped as their box.
        placement: Where objects are pasted.
        isolated: Train on objects whose window shows no other object; composites never do.
        adversarial: Form of the adversarial losses; the paper's Eq. 2 is the logistic one.
        discriminator_steps: Updates of the discriminators per update of the mask generator.
        r1_every: Iterations between penalties.
    """

    type: Literal["cut_paste"] = "cut_paste"
    network: SegmenterNetworkConfig = field(default_factory=UNetConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    size: int = Field(default=48, ge=16)
    context: float = Field(default=1.6, ge=1)
    square: bool = True
    placement: Placement = "uniform"
    isolated: bool = True
    adversarial: AdversarialLoss = "non_saturating"
    discriminator_steps: int = Field(default=1, ge=1)
    r1_every: int = Field(default=8, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)


class CutPaste(Method):
    """The objective of cut-and-paste over a mask generator and up to three discriminators.

    Raises:
        ConfigError: There is nothing to train against, or a size does not fit the windows.
    """

    name = "cut_paste"
    supervision = "boxes"

    def __init__(self, config: CutPasteConfig) -> None:
        super().__init__()
        if not (config.weights.paste or config.weights.cut or config.weights.presence):
            raise ConfigError("'method.weights': paste, cut or presence must be above 0")
        if 2 * config.guards.border >= config.size:
            raise ConfigError(
                f"'method.guards.border' is {config.guards.border}; "
                f"it must be less than half of 'method.size', {config.size}"
            )
        self.config = config
        self.window = WindowSpec(size=config.size, context=config.context, square=config.square)
        self.view = CutPasteView(self.window, config.placement, isolated=config.isolated)
        network = networks.build(config.network)
        self.segmenter = MaskSegmenter(network, stride=network.stride)
        self.discriminators = torch.nn.ModuleDict(
            {
                name: networks.Discriminator(config.discriminator, config.size)
                for name in ("paste", "cut", "presence")
                if getattr(config.weights, name) > 0
            }
        )
        self.phases = (
            Phase(
                name="discriminator",
                trains=("discriminators",),
                repeat=config.discriminator_steps,
            ),
            Phase(
                name="penalty",
                trains=("discriminators",),
                optimizer="discriminator",
                every=config.r1_every,
            ),
            Phase(name="generator", trains=("segmenter",)),
        )

    # The composition.

    def jittered(self, batch: CutPasteBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Object, background and real windows, each brightened on its own."""
        offsets = self.config.guards.jitter * batch.jitter
        return (
            brighten(batch.objects, offsets[:, 0]),
            brighten(batch.backgrounds, offsets[:, 1]),
            brighten(batch.objects, offsets[:, 2]),
        )

    def cut_mask(self, segmenter: Segmenter, objects: Tensor, boxes: Tensor) -> Tensor:
        """Masks [N, 1, S, S], zero outside the box, as they are pasted."""
        guards = self.config.guards
        mask = segmenter(objects)[:, 1:] * boxes_to_mask(boxes, objects.shape[-2:])
        return zero_border(blur(mask, guards.feather), guards.border)

    def judge(self, name: str, images: Tensor) -> Tensor:
        """Logits of a discriminator on low-passed images."""
        logits: Tensor = self.discriminators[name](blur(images, self.config.guards.blur))
        return logits

    # One function per phase.

    def discriminator_losses(self, batch: CutPasteBatch) -> Losses:
        """Real object windows against composites; background with a hole against what is left."""
        config = self.config
        objects, backgrounds, real = self.jittered(batch)
        with torch.no_grad():
            mask = self.cut_mask(self.segmenter, objects, batch.boxes)
        terms = {}
        if "paste" in self.discriminators:
            real_logits = self.judge("paste", real)
            fake_logits = self.judge("paste", composite(objects, backgrounds, mask))
            terms["paste"] = discriminator_loss(real_logits, fake_logits, kind=config.adversarial)
            if config.guards.grounded:
                grounded = composite(objects, backgrounds, batch.polygons)
                terms["grounded"] = discriminator_loss(
                    real_logits, self.judge("paste", grounded), kind=config.adversarial
                )
            terms["paste_real"], terms["paste_fake"] = real_logits.mean(), fake_logits.mean()
            terms["paste_accuracy"] = discriminator_accuracy(real_logits, fake_logits)
        if "cut" in self.discriminators:
            terms["cut"] = discriminator_loss(
                self.judge("cut", cut_out(backgrounds, mask)),
                self.judge("cut", cut_out(objects, mask)),
                kind=config.adversarial,
            )
        if "presence" in self.discriminators:
            terms["presence"] = discriminator_loss(
                self.judge("presence", real),
                self.judge("presence", backgrounds),
                kind="non_saturating",
            )
        trained = ("paste", "grounded", "cut", "presence")
        return losses(torch.stack([terms[t] for t in trained if t in terms]).sum(), **terms)

    def penalty_losses(self, batch: CutPasteBatch) -> Losses:
        """R1 at the real images of each discriminator."""
        config = self.config
        objects, backgrounds, real = self.jittered(batch)
        with torch.no_grad():
            mask = self.cut_mask(self.segmenter, objects, batch.boxes)
        reals = {"paste": real, "cut": cut_out(backgrounds, mask), "presence": real}
        terms = {}
        for name in self.discriminators:
            images = reals[name].detach().requires_grad_(True)
            # Gradients of gradients are too coarse in bf16.
            with torch.autocast(images.device.type, enabled=False):
                terms[f"r1_{name}"] = r1_penalty(self.judge(name, images), images)
        # Applied every r1_every iterations, so scaled up to keep its mean strength.
        weight = config.weights.r1 / 2 * config.r1_every
        return losses(weight * torch.stack(list(terms.values())).sum(), **terms)

    def generator_losses(self, batch: CutPasteBatch) -> Losses:
        """The composite must look real, and what is left like background (paper, section 3)."""
        config, weights = self.config, self.config.weights
        objects, backgrounds, real = self.jittered(batch)
        mask = self.cut_mask(self.segmenter, objects, batch.boxes)
        inside = boxes_to_mask(batch.boxes, mask.shape[-2:])
        pasted = composite(objects, backgrounds, mask)
        terms = {"binarity": binarity(mask), "area": mean_area(mask, inside)}
        weighted = {"binarity": weights.binarity * self.warmup(), "area": weights.area}
        if weights.paste:
            with torch.no_grad():
                real_logits = self.judge("paste", real)
            terms["paste"] = generator_loss(
                self.judge("paste", pasted), kind=config.adversarial, real=real_logits
            )
        if weights.cut:
            with torch.no_grad():
                real_logits = self.judge("cut", cut_out(backgrounds, mask))
            terms["cut"] = generator_loss(
                self.judge("cut", cut_out(objects, mask)),
                kind=config.adversarial,
                real=real_logits,
            )
        if weights.presence:
            terms["presence"] = generator_loss(
                self.judge("presence", pasted), kind="non_saturating"
            )
        if weights.empty:
            terms["empty"] = self.segmenter(backgrounds)[:, 1:].mean()
        if weights.area_floor:
            terms["area_floor"] = area_floor(mask, inside, floor=config.guards.floor)
        if weights.area_ceiling:
            terms["area_ceiling"] = area_ceiling(mask, inside, ceiling=config.guards.ceiling)
        total = torch.stack(
            [weighted.get(name, getattr(weights, name)) * term for name, term in terms.items()]
        ).sum()
        return losses(total, **terms)

    def warmup(self) -> float:
        """Share of the binarity weight at this point of training."""
        return min(1.0, self.progress / max(self.config.guards.binarity_warmup, 1e-9))

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: CutPasteBatch) -> Preview:
        """What a mask generator makes of a batch, for sample panels and the health monitor."""
        mask = self.cut_mask(segmenter, batch.objects, batch.boxes)
        return Preview(
            images=batch.objects,
            masks=mask,
            composites=composite(batch.objects, batch.backgrounds, mask),
            inside=boxes_to_mask(batch.boxes, mask.shape[-2:]),
        )
