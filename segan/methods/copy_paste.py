"""Object Discovery with a Copy-Pasting GAN (Arandjelovic & Zisserman 2019, arXiv 1905.11369).

A mask is good if what it copies from one picture into another goes unnoticed there, while what the
same mask copies from a third picture is noticed.

Supervision: backgrounds, or none when pictures of the same set are pasted onto. Gaps between the
paper and this file, and every guard that is not the paper's, are in docs/methods/copy_paste.md.
"""

from dataclasses import field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from segan import networks
from segan.compositing import blur, brighten, composite, zero_border
from segan.config import settings
from segan.data.scenes import PictureSceneView, SceneBatch, SceneView
from segan.errors import ConfigError
from segan.losses.adversarial import discriminator_accuracy, r1_penalty
from segan.losses.masks import area_ceiling, area_floor, binarity, mean_area, total_variation
from segan.methods.base import Losses, Method, Phase, Preview, losses, require_border
from segan.networks import DiscriminatorConfig, UNetConfig
from segan.segmenter import MaskSegmenter, RegionSegmenter, Segmenter

_RISING = ("area", "empty", "binarity", "total_variation")


@settings
class WeightsConfig:
    """Weights of the terms; 0 switches a term off.

    Attributes:
        paste: Adversarial loss on composites (paper: 1).
        irrelevant: What the same mask copies from another picture must look fake (paper: 1). It
            forbids copying nothing and copying all, which look alike whatever the picture.
        auxiliary: The discriminator must find the copied region, up to inversion (paper: 0.1).
        area: Mean opacity, warmed up. Not in the paper.
        area_floor: Penalty on masks below `GuardsConfig.floor`. Not in the paper.
        area_ceiling: Penalty on masks above `GuardsConfig.ceiling`. Not in the paper.
        binarity: Distance of opacities from 0 and 1, warmed up. Not in the paper.
        total_variation: Length of contours per pixel, warmed up, against holes where an object
            has a colour of its surroundings. Not in the paper.
        empty: Mean opacity on backgrounds, where nothing is to be copied, warmed up; only where
            those are a set of backgrounds. Not in the paper.
        r1: Gradient penalty of the discriminator, half the squared norm at real images. Not in the
            paper.
    """

    paste: float = Field(default=1.0, gt=0)
    irrelevant: float = Field(default=1.0, ge=0)
    auxiliary: float = Field(default=0.1, ge=0)
    area: float = Field(default=0.2, ge=0)
    area_floor: float = Field(default=0.0, ge=0)
    area_ceiling: float = Field(default=0.0, ge=0)
    binarity: float = Field(default=0.0, ge=0)
    total_variation: float = Field(default=0.0, ge=0)
    empty: float = Field(default=0.5, ge=0)
    r1: float = Field(default=0.02, ge=0)


@settings
class GuardsConfig:
    """Guards against degenerate masks and against shortcuts of the discriminator.

    Attributes:
        grounded: Whether composites by random polygons are shown as fake too, so that the
            discriminator knows fakes that do not depend on the generator (paper).
        border: Width of the frame where masks are zero, pixels: against copying all but a rim
            (paper: 1).
        blur: Standard deviation of the low-pass before the discriminator, pixels (paper: 1).
        real_target: What the discriminator should say of real pictures; below 1, one-sided
            smoothing (paper: 0.75).
        head_start: Iterations in which the discriminator learns alone (paper: 1000).
        jitter: Brightness added to all pictures apart, each U(0, jitter). Not in the paper.
        floor: Share of the picture below which `area_floor` acts.
        ceiling: Share of the picture above which `area_ceiling` acts.
        delay: Share of training before the weights of area, empty, binarity and total variation
            begin to rise. They flatten all masks, at which a network whose masks do not follow
            their pictures yet gives up on its features. Not in the paper.
        warmup: Share of training over which those weights rise from 0, after the delay; the two
            are at most 1 together. Not in the paper.
    """

    grounded: bool = True
    border: int = Field(default=1, ge=0)
    blur: float = Field(default=0.5, ge=0)
    real_target: float = Field(default=0.75, gt=0.5, le=1)
    head_start: int = Field(default=30, ge=0)
    jitter: float = Field(default=0.25, ge=0, le=1)
    floor: float = Field(default=0.03, ge=0, le=1)
    ceiling: float = Field(default=0.5, ge=0, le=1)
    delay: float = Field(default=0.0, ge=0, lt=1)
    warmup: float = Field(default=0.5, ge=0, le=1)


@settings
class CopyPasteConfig:
    """Copy-pasting GAN.

    Attributes:
        network: The mask generator.
        discriminator: Shape of the discriminator, whose way back up mirrors its way down.
        size: Side of the training images, network pixels.
        scale: Network pixels per picture pixel, in training and at test; None: the largest square
            part of each picture is scaled to `size`.
        mirror: Whether half of all pictures are mirrored (paper).
        destinations: "backgrounds": a set of pictures without objects is pasted onto, which is
            supervision. "pictures": other pictures of the same set, and no supervision; then the
            two regions have no names, as an object or the ground around it is copied.
        saturating: The generator's loss on composites: log(1 - D), as in the paper, whose slope is
            that of the irrelevant term, so that the two are in balance; or -log D, which does not
            level off while the discriminator wins.
        discriminator_steps: Updates of the discriminator per update of the mask generator.
        r1_every: Iterations between penalties.
    """

    type: Literal["copy_paste"] = "copy_paste"
    network: UNetConfig = field(default_factory=UNetConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    size: int = Field(default=56, ge=16)
    scale: float | None = Field(default=None, ge=2**-6, le=1)
    mirror: bool = True
    destinations: Literal["backgrounds", "pictures"] = "backgrounds"
    saturating: bool = True
    discriminator_steps: int = Field(default=1, ge=1)
    r1_every: int = Field(default=8, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)


class Scene(NamedTuple):
    """A batch with its masks.

    Attributes:
        objects: Pictures as the mask generator sees them, [N, 3, S, S].
        backgrounds: Pictures that are pasted onto, [N, 3, S, S].
        others: Other pictures than `objects`, [N, 3, S, S].
        real: `objects` with photometric noise of their own, [N, 3, S, S].
        mask: What is copied, [N, 1, S, S].
    """

    objects: Tensor
    backgrounds: Tensor
    others: Tensor
    real: Tensor
    mask: Tensor

    def pasted(self) -> Tensor:
        """What the mask copies, on the background."""
        return composite(self.objects, self.backgrounds, self.mask)

    def irrelevant(self) -> Tensor:
        """What the same mask copies from a picture that it was not made for."""
        return composite(self.others, self.backgrounds, self.mask)

    def grounded(self, polygons: Tensor) -> Tensor:
        """What polygons copy."""
        return composite(self.objects, self.backgrounds, polygons)


def found_up_to_inversion(logits: Tensor, mask: Tensor) -> Tensor:
    """How far a discriminator is from finding what was copied, E min(BCE(d, m), BCE(d, 1 - m)).

    The minimum is taken image by image: copying a region of A into B, and its complement of B into
    A, give the same picture (paper, appendix A).

    Args:
        logits: Of d, [N, 1, H, W].
        mask: m, [N, 1, H, W] in [0, 1].
    """
    either = [
        F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2, 3))
        for target in (mask, 1 - mask)
    ]
    return torch.minimum(*either).mean()


class CopyPaste(Method):
    """The objective of the copy-pasting GAN over a mask generator and one discriminator.

    Raises:
        ConfigError: A border leaves nothing of the masks, or weights would not rise in time.
    """

    name = "copy_paste"
    supervision = "backgrounds"

    def __init__(self, config: CopyPasteConfig) -> None:
        super().__init__()
        require_border(config.guards.border, config.size)
        if config.guards.delay + config.guards.warmup > 1 + 1e-9:
            raise ConfigError(
                f"'method.guards.delay' is {config.guards.delay} and 'method.guards.warmup' "
                f"{config.guards.warmup}; together they must be at most 1, the whole training"
            )
        self.config = config
        self.known_empty = config.destinations == "backgrounds"
        self.supervision = "backgrounds" if self.known_empty else "none"
        view = SceneView if self.known_empty else PictureSceneView
        self.view: SceneView = view(config.size, config.scale, mirror=config.mirror)
        self.segmenter = self._make_segmenter()
        self.discriminator = networks.MaskDiscriminator(config.discriminator, config.size)
        trains = ("discriminator",)
        judge = Phase(name="discriminator", trains=trains, repeat=config.discriminator_steps)
        penalty = Phase(
            name="penalty", trains=("encoder",), optimizer="discriminator", every=config.r1_every
        )
        generator = Phase(name="generator", trains=("segmenter",), start=config.guards.head_start)
        # An update on no gradient at all would still move weights by their momentum.
        penalised = (penalty,) if config.weights.r1 else ()
        self.phases = (judge, *penalised, generator)

    def _make_segmenter(self) -> MaskSegmenter | RegionSegmenter:
        """Of two unnamed regions where the game cannot tell which of them is the object.

        Onto a picture with an object of its own, an object can be copied, or the ground around it:
        A's object in B is B's ground around A's (paper, appendix A).
        """
        if self.known_empty:
            network = networks.build(self.config.network)
            return MaskSegmenter(network, stride=network.stride)
        network = networks.build(self.config.network, out_channels=2)
        return RegionSegmenter(network, stride=network.stride)

    @property
    def encoder(self) -> nn.Module:
        """The part of the discriminator that tells real from fake."""
        return self.discriminator.encoder

    def picture_scale(self) -> float:
        """As configured, or the median that the view has found."""
        return self.view.scale

    # The composition.

    def scene(self, batch: SceneBatch) -> Scene:
        """Pictures, each brightened on its own, and the masks of the first."""
        offsets = self.config.guards.jitter * batch.jitter
        objects = brighten(batch.images, offsets[:, 0])
        return Scene(
            objects=objects,
            backgrounds=brighten(batch.backgrounds, offsets[:, 1]),
            others=brighten(batch.others, offsets[:, 2]),
            real=brighten(batch.images, offsets[:, 3]),
            mask=self.cut_mask(self.segmenter, objects),
        )

    def cut_mask(self, segmenter: Segmenter, images: Tensor) -> Tensor:
        """Masks [N, 1, S, S], zero in the frame, as they are copied by."""
        return zero_border(segmenter(images)[:, 1:], self.config.guards.border)

    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of low-passed images: real or not [N, 1], and copied or not [N, 1, S, S]."""
        logits, found = self.discriminator(blur(images, self.config.guards.blur))
        return logits, found

    # One function per phase.

    def discriminator_losses(self, batch: SceneBatch) -> Losses:
        """Pictures against composites and grounded fakes, each to be found (appendix A)."""
        weights, guards = self.config.weights, self.config.guards
        with torch.no_grad():
            scene = self.scene(batch)
            fakes = {"pasted": (scene.pasted(), scene.mask)}
            if guards.grounded:
                fakes["grounded"] = (scene.grounded(batch.polygons), batch.polygons)
        real, nothing = self.judge(scene.real)
        # Cross-entropy against the smoothed target.
        terms = {"real": F.softplus(real).mean() - guards.real_target * real.mean()}
        judged = {name: self.judge(images) for name, (images, _) in fakes.items()}
        terms |= {name: F.softplus(logits).mean() for name, (logits, _) in judged.items()}
        total = torch.stack([*terms.values()]).sum()
        if weights.auxiliary:
            pairs = [(nothing, torch.zeros_like(nothing))]
            pairs += [(judged[name][1], mask) for name, (_, mask) in fakes.items()]
            if weights.irrelevant:
                pairs.append((self.judge(scene.irrelevant())[1], scene.mask))
            terms["auxiliary"] = torch.stack([found_up_to_inversion(*p) for p in pairs]).sum()
            total = total + weights.auxiliary * terms["auxiliary"]
        pasted = judged["pasted"][0]
        watched = {"logit_real": real.mean(), "logit_pasted": pasted.mean()}
        watched["accuracy"] = discriminator_accuracy(real, pasted)
        return losses(total, **terms, **watched)

    def penalty_losses(self, batch: SceneBatch) -> Losses:
        """R1 at the pictures."""
        # Gradients of gradients are too coarse in bf16.
        with torch.autocast(batch.images.device.type, enabled=False):
            offsets = self.config.guards.jitter * batch.jitter[:, 3]
            images = brighten(batch.images, offsets).detach().requires_grad_(True)
            penalty = r1_penalty(self.judge(images)[0], images)
        # Applied every r1_every iterations, so scaled up to keep its mean strength.
        weight = self.config.weights.r1 / 2 * self.config.r1_every
        return losses(weight * penalty, r1=penalty)

    def generator_losses(self, batch: SceneBatch) -> Losses:
        """Composites must look real, and irrelevant ones fake (appendix A)."""
        weights, guards = self.config.weights, self.config.guards
        scene = self.scene(batch)
        mask = scene.mask
        pasted, _ = self.judge(scene.pasted())
        fooled = -F.softplus(pasted) if self.config.saturating else F.softplus(-pasted)
        terms = {"paste": fooled.mean(), "area": mean_area(mask), "binarity": binarity(mask)}
        if weights.irrelevant:
            terms["irrelevant"] = F.softplus(self.judge(scene.irrelevant())[0]).mean()
        if weights.area_floor:
            terms["area_floor"] = area_floor(mask, floor=guards.floor)
        if weights.area_ceiling:
            terms["area_ceiling"] = area_ceiling(mask, ceiling=guards.ceiling)
        if weights.total_variation:
            terms["total_variation"] = total_variation(mask)
        if weights.empty and self.known_empty:
            terms["empty"] = self.segmenter(scene.backgrounds)[:, 1:].mean()
        weight = {
            name: getattr(weights, name) * (self.rise() if name in _RISING else 1) for name in terms
        }
        total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
        return losses(total, **terms)

    def rise(self) -> float:
        """How far the weights of `_RISING` have risen, in [0, 1]."""
        guards = self.config.guards
        return min(1.0, max(0.0, self.progress - guards.delay) / max(guards.warmup, 1e-9))

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: SceneBatch) -> Preview:
        """What a mask generator makes of a batch, for sample panels and the health monitor."""
        mask = self.cut_mask(segmenter, batch.images)
        return Preview(
            images=batch.images,
            masks=mask,
            composites=composite(batch.images, batch.backgrounds, mask),
            inside=zero_border(torch.ones_like(mask), self.config.guards.border),
        )
