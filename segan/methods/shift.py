"""Shift-and-judge, after MOVE (Bielski & Favaro, NeurIPS 2022, arXiv 2210.07920) and PerturbGAN
(Bielski & Favaro, NeurIPS 2019, arXiv 1905.12663).

A mask is good if its object can be moved a little, over a background that is filled in behind it,
and the picture still looks real; half an object cannot.

Supervision: none. No network is pretrained: the background is filled by push-pull. Gaps between
the papers and this file, and every guard that is not theirs, are in docs/methods/shift.md.
"""

from dataclasses import field
from functools import partial
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from segan import networks
from segan.compositing import (
    blur,
    brighten,
    composite,
    guess_from_around,
    push_pull,
    recolour,
    shift,
    zero_border,
)
from segan.config import settings
from segan.data.views import ShiftBatch, ShiftView
from segan.errors import ConfigError
from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    fooling_loss,
    r1_penalty,
)
from segan.losses.masks import area_ceiling, area_floor, binarity, mean_area, predictability
from segan.methods.base import Losses, Method, Phase, Preview, losses, require_border
from segan.networks import DiscriminatorConfig, UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter


@settings
class WeightsConfig:
    """Weights of the generator's terms; 0 switches a term off.

    Attributes:
        paste: Adversarial loss on moved objects.
        area_floor: Penalty on moved masks below `GuardsConfig.floor` (MOVE: 100).
        area_ceiling: Penalty on moved masks above `GuardsConfig.ceiling` (optional in MOVE).
        area: Mean opacity. Not in the papers.
        binarity: Distance of opacities from 0 and 1, warmed up (MOVE: 12.5).
        predictability: How well the fill guesses what was cut out. Not in the papers: without
            features that know objects, a piece of ground moves as well as an object does.
        r1: Gradient penalty of the discriminator, half the squared norm at real images. Not in the
            papers, whose discriminators rest on pretrained features or on WGAN-GP.
    """

    paste: float = Field(default=1.0, ge=0)
    area_floor: float = Field(default=5.0, ge=0)
    area_ceiling: float = Field(default=1.0, ge=0)
    area: float = Field(default=0.0, ge=0)
    binarity: float = Field(default=0.5, ge=0)
    predictability: float = Field(default=3.0, ge=0)
    r1: float = Field(default=0.02, ge=0)


@settings
class GuardsConfig:
    """Guards against degenerate masks and against shortcuts of the discriminator.

    Attributes:
        shift: Largest displacement, as a share of the picture's side (both papers: 0.125).
        kept: Whether objects pasted back where they were count as real, so that the fill and the
            rim of a mask give nothing away (MOVE).
        decoy: Whether pictures count as real that have the fill beside the object instead of where
            it was, so that the fill's blur gives nothing away. Not in the papers, whose real
            pictures go through the same autoencoder as the fakes.
        copied: Whether pictures with a second, moved copy of their object count as fake (MOVE).
        grounded: Whether pictures count as fake in which a random polygon has been moved instead of
            the object, so that the discriminator learns what a cut looks like before masks are
            worth looking at (Arandjelovic & Zisserman 2019).
        jitter: Brightness added to object and background apart in the fakes, each U(0, jitter)
            (PerturbGAN changes the background's contrast).
        augment: Strength of the change of colours before the discriminator (MOVE: DiffAugment's
            "color").
        blur: Standard deviation of the low-pass before the discriminator, pixels.
        border: Width of the frame of the picture where the mask is zero, pixels.
        price: Error of the fill, in standard deviations of the picture, from which `predictability`
            rewards a pixel's being cut out.
        warmup: Share of training over which the generator is eased in. In its first half it learns
            from `predictability`, with gains and costs in balance, and from the terms of area, but
            not from paste and binarity: pushed one way everywhere, a young network gives up on its
            features and stays constant. In its second half the costs, and the weights of those two,
            rise to their ends. Without predictability there is no first half (MOVE).
        floor: Share of the picture below which `area_floor` acts (MOVE: 0.05).
        ceiling: Share of the picture above which `area_ceiling` acts.
    """

    shift: float = Field(default=0.125, gt=0, le=0.5)
    kept: bool = True
    decoy: bool = True
    copied: bool = True
    grounded: bool = True
    jitter: float = Field(default=0.25, ge=0, le=1)
    augment: float = Field(default=0.5, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0)
    border: int = Field(default=2, ge=0)
    price: float = Field(default=0.5, ge=0)
    warmup: float = Field(default=0.8, ge=0, le=1)
    floor: float = Field(default=0.03, ge=0, le=1)
    ceiling: float = Field(default=0.6, ge=0, le=1)


@settings
class ShiftConfig:
    """Shift-and-judge.

    Attributes:
        network: The mask generator.
        discriminator: Shape of the discriminator.
        size: Side of the training images, network pixels.
        scale: Network pixels per picture pixel, in training and at test.
        adversarial: Form of the adversarial losses (MOVE: hinge).
        discriminator_steps: Updates of the discriminator per update of the mask generator.
        r1_every: Iterations between penalties.
    """

    type: Literal["shift"] = "shift"
    network: UNetConfig = field(default_factory=UNetConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    size: int = Field(default=56, ge=16)
    scale: float = Field(default=0.5, ge=2**-6, le=1)
    adversarial: AdversarialLoss = "non_saturating"
    discriminator_steps: int = Field(default=1, ge=1)
    r1_every: int = Field(default=8, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)


class Scene(NamedTuple):
    """Pictures with their masks, and what becomes of them when the objects move.

    Attributes:
        images: As the mask generator sees them, [N, 3, S, S].
        mask: Opacity of the objects, [N, 1, S, S].
        offsets: int64 [N, 2], pixels to the right and down.
        jitter: Brightness of objects and rest in the fakes, [N, 2].
    """

    images: Tensor
    mask: Tensor
    offsets: Tensor
    jitter: Tensor

    def filled(self) -> Tensor:
        """The pictures without their objects."""
        return push_pull(self.images, self.mask)

    def moved_mask(self) -> Tensor:
        """Where the objects are after the move; zero is what comes in from outside."""
        return shift(self.mask, self.offsets)

    def kept(self) -> Tensor:
        """The objects pasted back where they were: nothing but the fill's trace is new."""
        return composite(self.images, self.filled(), self.mask)

    def decoy(self) -> Tensor:
        """Pictures filled where their object would be if moved the other way, but not in it."""
        beside = shift(self.mask, -self.offsets)
        return composite(self.images, push_pull(self.images, beside), self.mask)

    def moved(self) -> Tensor:
        """The objects moved over the filled background."""
        return self._pasted_on(self.filled())

    def copied(self) -> Tensor:
        """Pictures that show a part of themselves twice: as it is, and moved."""
        return self._pasted_on(self.images)

    def _pasted_on(self, backgrounds: Tensor) -> Tensor:
        objects = brighten(shift(self.images, self.offsets), self.jitter[:, 0])
        return composite(objects, brighten(backgrounds, self.jitter[:, 1]), self.moved_mask())


class Shift(Method):
    """The objective of shift-and-judge over a mask generator and one discriminator.

    Raises:
        ConfigError: There is nothing to learn from, or the border leaves no room for a mask.
    """

    name = "shift"
    supervision = "none"

    def __init__(self, config: ShiftConfig) -> None:
        super().__init__()
        if not (config.weights.paste or config.weights.predictability):
            raise ConfigError("'method.weights': paste or predictability must be above 0")
        require_border(config.guards.border, config.size)
        self.config = config
        self.scale = config.scale
        self.view = ShiftView(config.size, config.scale)
        network = networks.build(config.network)
        self.segmenter = MaskSegmenter(network, stride=network.stride)
        generator = Phase(name="generator", trains=("segmenter",))
        self.phases = (generator,)
        if not config.weights.paste:
            return
        self.discriminator = networks.Discriminator(config.discriminator, config.size)
        trains = ("discriminator",)
        judge = Phase(name="discriminator", trains=trains, repeat=config.discriminator_steps)
        penalty = Phase(
            name="penalty", trains=trains, optimizer="discriminator", every=config.r1_every
        )
        # An update on no gradient at all would still move weights by their momentum.
        penalised = (penalty,) if config.weights.r1 else ()
        self.phases = (judge, *penalised, generator)

    # The composition.

    def scene(self, batch: ShiftBatch, segmenter: Segmenter | None = None) -> Scene:
        """Pictures with their masks, and by how much objects move and brighten.

        Args:
            batch: The pictures.
            segmenter: What makes the masks; None: the one that is trained.
        """
        guards = self.config.guards
        largest = guards.shift * self.config.size
        return Scene(
            images=batch.images,
            mask=self.cut_mask(self.segmenter if segmenter is None else segmenter, batch.images),
            offsets=(largest * batch.offsets).round().long(),
            jitter=guards.jitter * batch.jitter,
        )

    def cut_mask(self, segmenter: Segmenter, images: Tensor) -> Tensor:
        """Masks [N, 1, S, S], zero in the frame, as they are moved."""
        return zero_border(segmenter(images)[:, 1:], self.config.guards.border)

    def reals(self, scene: Scene) -> dict[str, Tensor]:
        """Everything that is shown as real, by name."""
        guards = self.config.guards
        shown = {"real": scene.images}
        if guards.kept:
            shown["kept"] = scene.kept()
        if guards.decoy:
            shown["decoy"] = scene.decoy()
        return shown

    def judge(self, images: Tensor, batch: ShiftBatch) -> Tensor:
        """The discriminator's logits of low-passed pictures in other colours."""
        guards = self.config.guards
        seen = recolour(blur(images, guards.blur), batch.colour, guards.augment)
        logits: Tensor = self.discriminator(seen)
        return logits

    # One function per phase.

    def discriminator_losses(self, batch: ShiftBatch) -> Losses:
        """Pictures, restored and decoys as real against moved and copied objects as fake."""
        with torch.no_grad():
            scene = self.scene(batch)
            shown = self.reals(scene)
            fakes = {"moved": scene.moved()}
            if self.config.guards.copied:
                fakes["copied"] = scene.copied()
            if self.config.guards.grounded:
                fakes["grounded"] = scene._replace(mask=batch.polygons).moved()
        real = {name: self.judge(images, batch) for name, images in shown.items()}
        fake = {name: self.judge(images, batch) for name, images in fakes.items()}
        kind = self.config.adversarial
        # Every kind of real beside every kind of fake: with all the forms but the relativistic,
        # the mean over kinds of each.
        pairs = [discriminator_loss(r, f, kind=kind) for r in real.values() for f in fake.values()]
        adversarial = torch.stack(pairs).mean()
        watched = {f"logit_{name}": logits.mean() for name, logits in (real | fake).items()}
        accuracy = discriminator_accuracy(torch.cat([*real.values()]), fake["moved"])
        return losses(adversarial, adversarial=adversarial, accuracy=accuracy, **watched)

    def penalty_losses(self, batch: ShiftBatch) -> Losses:
        """R1 at the pictures."""
        # Gradients of gradients are too coarse in bf16.
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.detach().requires_grad_(True)
            penalty = r1_penalty(self.judge(images, batch), images)
        # Applied every r1_every iterations, so scaled up to keep its mean strength.
        weight = self.config.weights.r1 / 2 * self.config.r1_every
        return losses(weight * penalty, r1=penalty)

    def generator_losses(self, batch: ShiftBatch) -> Losses:
        """The moved object must look real; MOVE's mask losses are on the moved mask."""
        weights, guards = self.config.weights, self.config.guards
        scene = self.scene(batch)
        mask = scene.moved_mask()
        terms = {"area": mean_area(mask), "binarity": binarity(mask)}
        if weights.paste:
            terms["paste"] = self.fool(scene, batch)
        if weights.area_floor:
            terms["area_floor"] = area_floor(mask, floor=guards.floor)
        if weights.area_ceiling:
            terms["area_ceiling"] = area_ceiling(mask, ceiling=guards.ceiling)
        if weights.predictability:
            terms["predictability"] = predictability(
                scene.images,
                guess_from_around(scene.images, scene.mask),
                scene.mask,
                price=guards.price,
                rise=self.rise(),
            )
        weight = {
            name: getattr(weights, name) * (self.rise() if name in ("paste", "binarity") else 1)
            for name in terms
        }
        total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
        return losses(total, **terms)

    def fool(self, scene: Scene, batch: ShiftBatch) -> Tensor:
        """The generator's adversarial loss on moved objects, paired where its form asks."""
        judge = partial(self.judge, batch=batch)
        kind = self.config.adversarial
        return fooling_loss(judge, scene.moved(), lambda: scene.images, kind=kind)

    def rise(self) -> float:
        """How far the costs of predictability, paste and binarity have risen, in [0, 1]."""
        share = self.progress / max(self.config.guards.warmup, 1e-9)
        return min(1.0, max(0.0, 2 * share - 1 if self.config.weights.predictability else share))

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: ShiftBatch) -> Preview:
        """What a mask generator makes of a batch, for sample panels and the health monitor."""
        scene = self.scene(batch, segmenter)
        return Preview(
            images=batch.images,
            masks=scene.mask,
            composites=scene.moved().clamp(0, 1),
            inside=zero_border(torch.ones_like(scene.mask), self.config.guards.border),
        )
