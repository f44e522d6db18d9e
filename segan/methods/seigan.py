"""SEIGAN (Ostyakov, Suvorov, Logacheva, Khomenko & Nikolenko, 2018, arXiv 1811.07630).

Segmentation, inpainting and enhancement learn each other: a mask is good if the object that it cuts
out looks real in another scene, if the hole it leaves can be filled so that nothing shows, and if
doing both a second time gives back what was there.

Supervision: object-free pictures, or boxes, between which windows are object-free. The paper's
weights are not known; every choice made here is listed in docs/methods/seigan.md.
"""

import math
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from segan import networks
from segan.compositing import blur, brighten, composite, zero_border
from segan.config import settings
from segan.data.scenes import BoxedSceneView, SceneBatch, SceneView
from segan.errors import ConfigError
from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    fooling_loss,
    r1_penalty,
)
from segan.losses.masks import area_floor, binarity, mean_area
from segan.losses.texture import texture_distance
from segan.methods.base import Losses, Method, Phase, Preview, losses, require_border
from segan.networks import EnhancerConfig, InpainterConfig, PooledConfig, UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter, WindowSpec


@settings
class WeightsConfig:
    """Weights of the terms; 0 switches a term off, of the first two its discriminator too.

    Attributes:
        background: Adversarial: x^, its object cut out, against object-free pictures (D_bg).
        object: Adversarial: y^, the object in a new scene, against pictures with objects (D_obj).
        background_cycle: L1 between the scene y and what a second swap makes of it.
        object_cycle: L1 between the picture x and what a second swap makes of it.
        mask_cycle: L1 between the object's mask in x and the mask found in y^.
        enhancement_identity: L1 between a real picture and what the enhancer makes of it.
        background_identity: L1 between an object-free picture and itself with random holes filled.
        texture: Distance of the texture in the filled hole from that around it.
        empty: Mean opacity on object-free pictures. This and what follows is not in the paper.
        area: Mean opacity.
        area_floor: Penalty on masks below `GuardsConfig.floor`.
        binarity: Distance of opacities from 0 and 1.
        r1: Gradient penalty of the discriminators (Mescheder et al. 2018).
    """

    background: float = Field(default=1.0, ge=0)
    object: float = Field(default=1.0, ge=0)
    background_cycle: float = Field(default=3.0, ge=0)
    object_cycle: float = Field(default=3.0, ge=0)
    mask_cycle: float = Field(default=1.0, ge=0)
    enhancement_identity: float = Field(default=5.0, ge=0)
    background_identity: float = Field(default=5.0, ge=0)
    texture: float = Field(default=1.0, ge=0)
    empty: float = Field(default=2.0, ge=0)
    area: float = Field(default=1.0, ge=0)
    area_floor: float = Field(default=10.0, ge=0)
    binarity: float = Field(default=0.0, ge=0)
    r1: float = Field(default=0.02, ge=0)


@settings
class GuardsConfig:
    """Guards against degenerate masks, hidden messages and shortcuts of the discriminators.

    Attributes:
        warmup: Share of training in which polygons stand for masks: only painters and
            discriminators learn.
        filled_reals: Show D_bg object-free pictures with holes of the same shape, filled by the
            same inpainter, so that it looks for what is left of the object and not for filling.
        residual: Largest change that the enhancer may make to a pixel; 0: no enhancer. A larger
            one could repaint the object, and hide messages from the first swap to the second.
        second_noise: Standard deviation of noise on what enters the second swap.
        second_blur: That of a low-pass there, pixels.
        second_detached: Keep the second swap from teaching the first.
        dilation: Pixels by which the inpainter's hole is wider than the mask.
        jitter: Brightness added to picture, scene and real picture, each U(0, jitter).
        blur: Standard deviation of the low-pass before the discriminators, pixels.
        feather: Standard deviation of the mask's blur before it is used, pixels.
        border: Width of the frame where the mask is zero, pixels.
        grounded: Show pastes by random polygons as fake too (Arandjelovic & Zisserman 2019).
        floor: Share of the picture below which `area_floor` acts.
    """

    warmup: float = Field(default=0.1, ge=0, lt=1)
    filled_reals: bool = True
    residual: float = Field(default=0.1, ge=0, le=1)
    second_noise: float = Field(default=0.02, ge=0)
    second_blur: float = Field(default=0.0, ge=0)
    second_detached: bool = False
    dilation: int = Field(default=1, ge=0)
    jitter: float = Field(default=0.25, ge=0, le=1)
    blur: float = Field(default=0.0, ge=0)
    feather: float = Field(default=0.0, ge=0)
    border: int = Field(default=0, ge=0)
    grounded: bool = False
    floor: float = Field(default=0.05, ge=0, le=1)


@settings
class SEIGANConfig:
    """SEIGAN.

    Attributes:
        network: The segmentation network.
        inpainter: The network that fills holes.
        enhancer: The network that harmonises composites.
        discriminator: Shape of both discriminators.
        backgrounds: "set": the data set's object-free pictures. "windows": windows of its pictures
            that overlap no box; supervision is then boxes, and pictures are windows around boxes.
        size: Side of the pictures, pixels.
        scale: Network pixels per picture pixel, of a "set"; null: each picture's largest square.
        context: Window side over box side, with "windows".
        mirror: Mirror pictures left and right at random.
        adversarial: Form of the adversarial losses.
        cycle_every: Iterations between second swaps and identities, whose terms count for as many.
        r1_every: Iterations between penalties.
    """

    type: Literal["seigan"] = "seigan"
    network: UNetConfig = field(default_factory=UNetConfig)
    inpainter: InpainterConfig = field(default_factory=InpainterConfig)
    enhancer: EnhancerConfig = field(default_factory=EnhancerConfig)
    discriminator: PooledConfig = field(default_factory=PooledConfig)
    backgrounds: Literal["set", "windows"] = "set"
    size: int = Field(default=64, ge=16)
    scale: float | None = Field(default=0.5, ge=2**-6, le=1)
    context: float = Field(default=1.6, ge=1)
    mirror: bool = True
    adversarial: AdversarialLoss = "non_saturating"
    cycle_every: int = Field(default=8, ge=1)
    r1_every: int = Field(default=8, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)


class Swap(NamedTuple):
    """A picture x with an object and a scene y without, and what the swap makes of them.

    Attributes:
        mask: The object's opacity in x, [N, 1, S, S].
        filled: x^: the object cut out of x and its hole filled, [N, 3, S, S].
        pasted: y^: the object in the scene y, enhanced, [N, 3, S, S].
    """

    mask: Tensor
    filled: Tensor
    pasted: Tensor


class SEIGAN(Method):
    """The objective of SEIGAN over three generators and two discriminators.

    Raises:
        ConfigError: There is nothing to train against, or a size does not fit.
    """

    name = "seigan"
    supervision = "backgrounds"
    revision = 1
    view: SceneView | BoxedSceneView

    def __init__(self, config: SEIGANConfig) -> None:
        super().__init__()
        _check(config)
        self.config = config
        if config.backgrounds == "windows":
            self.supervision = "boxes"
            self.window = WindowSpec(size=config.size, context=config.context)
            self.view = BoxedSceneView(self.window, mirror=config.mirror)
        else:
            self.view = SceneView(config.size, config.scale, mirror=config.mirror)
        network = networks.build(config.network)
        self.segmenter = MaskSegmenter(network, stride=network.stride)
        self.inpainter = networks.Inpainter(config.inpainter)
        bound = config.guards.residual
        self.enhancer = networks.Enhancer(config.enhancer, bound) if bound else nn.Identity()
        judged = [name for name in ("background", "object") if getattr(config.weights, name)]
        self.discriminators = nn.ModuleDict(
            {name: networks.Discriminator(config.discriminator, config.size) for name in judged}
        )
        self.phases = _phases(config)
        self.learns_after = config.guards.warmup

    def picture_scale(self) -> float:
        """That of the view, which has seen how large the pictures are."""
        return self.view.scale if isinstance(self.view, SceneView) else self.scale

    # The swap.

    def mask_of(self, segmenter: Segmenter, images: Tensor) -> Tensor:
        """Opacities [N, 1, S, S] as they are cut and pasted."""
        guards = self.config.guards
        return zero_border(blur(segmenter(images)[:, 1:], guards.feather), guards.border)

    def fill(self, images: Tensor, mask: Tensor) -> Tensor:
        """Pictures with what the mask covers painted over: (1 - m) x + m G_inp((1 - m) x, m).

        What the mask does not cover is copied, so that nothing can be hidden in it.
        """
        reach = self.config.guards.dilation
        hole = nn.functional.max_pool2d(mask, 2 * reach + 1, stride=1, padding=reach)
        return composite(self.inpainter(images, hole), images, mask)

    def swap(self, images: Tensor, backgrounds: Tensor, mask: Tensor) -> Swap:
        """The object out of x into y, the hole in x filled: x^ and y^ = G_enh(m x + (1 - m) y)."""
        pasted = self.enhancer(composite(images, backgrounds, mask))
        return Swap(mask, self.fill(images, mask), pasted)

    def pictures(self, batch: SceneBatch) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and another picture with an object, each brightened on its own."""
        offsets = self.config.guards.jitter * batch.jitter
        x, y, other = (brighten(each, offsets[:, i]) for i, each in enumerate(batch[:3]))
        return x, y, other

    def judge(self, name: str, images: Tensor) -> Tensor:
        """Logits of a discriminator on low-passed pictures."""
        logits: Tensor = self.discriminators[name](blur(images, self.config.guards.blur))
        return logits

    def filled_reals(self, backgrounds: Tensor, mask: Tensor) -> Tensor:
        """The real pictures of D_bg: object-free, with filled holes where the guard is on."""
        return self.fill(backgrounds, mask) if self.config.guards.filled_reals else backgrounds

    def holes(self, images: Tensor, batch: SceneBatch) -> Tensor:
        """What is cut out of pictures: what their masks cover, or polygons while warming up."""
        return batch.polygons if self.warming else self.mask_of(self.segmenter, images)

    @property
    def warming(self) -> bool:
        """Whether the inpainter is still learning on its own."""
        return self.progress < self.learns_after

    # One function per phase.

    def discriminator_losses(self, batch: SceneBatch) -> Losses:
        """Object-free against filled pictures; pictures with objects against pasted ones."""
        kind = self.config.adversarial
        images, backgrounds, others = self.pictures(batch)
        with torch.no_grad():
            mask = self.holes(images, batch)
            made = self.swap(images, backgrounds, mask)
            pairs = {"object": (others, made.pasted)}
            pairs["background"] = (self.filled_reals(backgrounds, mask), made.filled)
        trained, watched = {}, {}
        for name in self.discriminators:
            real, fake = (self.judge(name, pictures) for pictures in pairs[name])
            trained[name] = discriminator_loss(real, fake, kind=kind)
            watched[f"{name}_accuracy"] = discriminator_accuracy(real, fake)
            if name == "object" and self.config.guards.grounded:
                fake = self.judge(name, composite(images, backgrounds, batch.polygons))
                trained["grounded"] = discriminator_loss(real, fake, kind=kind)
        return losses(torch.stack(list(trained.values())).sum(), **trained, **watched)

    def penalty_losses(self, batch: SceneBatch) -> Losses:
        """R1 at what both discriminators are shown as real."""
        images, backgrounds, others = self.pictures(batch)
        with torch.no_grad():
            filled = self.filled_reals(backgrounds, self.holes(images, batch))
        real = {"background": filled, "object": others}
        terms = {}  # outside autocast: gradients of gradients are too coarse in bf16
        with torch.autocast(backgrounds.device.type, enabled=False):
            for name in self.discriminators:
                pictures = real[name].requires_grad_(True)
                terms[f"r1_{name}"] = r1_penalty(self.judge(name, pictures), pictures)
        # Applied every r1_every iterations, so scaled up to keep its mean strength.
        weight = self.config.weights.r1 / 2 * self.config.r1_every
        return losses(weight * torch.stack(list(terms.values())).sum(), **terms)

    def generator_losses(self, batch: SceneBatch) -> Losses:
        """Both results of the swap must look real, and identities must hold."""
        weights, guards = self.config.weights, self.config.guards
        images, backgrounds, others = self.pictures(batch)
        if self.warming:
            return self.weighted(self.identities(images, backgrounds, batch.polygons))
        mask, on_empty = self.mask_of(self.segmenter, torch.cat([images, backgrounds])).chunk(2)
        made = self.swap(images, backgrounds, mask)
        terms = {
            "empty": on_empty.mean(),
            "area": mean_area(mask),
            "area_floor": area_floor(mask, floor=guards.floor),
            "binarity": binarity(mask),
        }
        if "background" in self.discriminators:
            reals = partial(self.filled_reals, backgrounds, mask)
            terms["background"] = self.fool("background", made.filled, reals)
        if "object" in self.discriminators:
            terms["object"] = self.fool("object", made.pasted, lambda: others)
        if weights.texture:
            terms["texture"] = texture_distance(made.filled, images, mask, 1 - mask.detach())
        return self.weighted(terms)

    def identities(self, images: Tensor, backgrounds: Tensor, holes: Tensor) -> dict[str, Tensor]:
        """What the painters should give back: backgrounds with random holes, and real pictures."""
        terms = {"background_identity": self.background_identity(backgrounds, holes)}
        if self.config.guards.residual:
            terms["enhancement_identity"] = (self.enhancer(images) - images).abs().mean()
        return terms

    def background_identity(self, backgrounds: Tensor, holes: Tensor) -> Tensor:
        """L1 between object-free pictures and themselves with holes filled, in the holes."""
        share = holes.mean((1, 2, 3)).clamp(min=1e-3)
        error = (self.fill(backgrounds, holes) - backgrounds).abs().mean((1, 2, 3))
        return (error / share).mean()

    def cycle_losses(self, batch: SceneBatch) -> Losses:
        """A second swap, of the object out of y^ back into x^, must give y and x again.

        This phase also reminds the painters of their identities.
        """
        images, backgrounds, _ = self.pictures(batch)
        terms = self.identities(images, backgrounds, batch.polygons)
        if _swaps_twice(self.config.weights) and not self.warming:
            terms |= self.cycles(images, backgrounds, batch.grain)
        found = self.weighted(terms)
        # Applied every cycle_every iterations, so scaled up to keep its mean strength.
        return found._replace(total=self.config.cycle_every * found.total)

    def cycles(self, images: Tensor, backgrounds: Tensor, grain: Tensor) -> dict[str, Tensor]:
        """L1 between what two swaps make of x, y and the mask, and what they were."""
        first = self.swap(images, backgrounds, self.mask_of(self.segmenter, images))
        pasted, filled = map(self.disturb, (first.pasted, first.filled), grain.chunk(2, dim=1))
        again = self.mask_of(self.segmenter, pasted)
        second = self.swap(pasted, filled, again)
        return {
            "background_cycle": (second.filled - backgrounds).abs().mean(),
            "object_cycle": (second.pasted - images).abs().mean(),
            "mask_cycle": (again - first.mask.detach()).abs().mean(),
        }

    def disturb(self, images: Tensor, grain: Tensor) -> Tensor:
        """Pictures on their way into the second swap, without what was hidden in them."""
        guards = self.config.guards
        images = images.detach() if guards.second_detached else images
        return blur(images + guards.second_noise * grain, guards.second_blur).clamp(0, 1)

    def fool(self, name: str, fake: Tensor, real: Callable[[], Tensor]) -> Tensor:
        """The generator's adversarial loss on a fake, paired with a real where its form asks."""
        return fooling_loss(partial(self.judge, name), fake, real, kind=self.config.adversarial)

    def weighted(self, terms: dict[str, Tensor]) -> Losses:
        """The sum of terms, each with the weight of its name.

        Those of weight 0 stay out of it: no gradient, unlike one of 0, is no update.
        """
        weights = {name: getattr(self.config.weights, name) for name in terms}
        parts = [weights[name] * term for name, term in terms.items() if weights[name]]
        return losses(torch.stack(parts).sum(), **terms)

    @torch.no_grad()
    def preview(self, segmenter: Segmenter, batch: SceneBatch) -> Preview:
        """Masks, the objects in new scenes and the holes filled."""
        made = self.swap(batch.images, batch.backgrounds, self.mask_of(segmenter, batch.images))
        inside = zero_border(torch.ones_like(made.mask), self.config.guards.border)
        return Preview(batch.images, made.mask, made.pasted, inside=inside, filled=made.filled)


def _swaps_twice(weights: WeightsConfig) -> bool:
    return max(weights.background_cycle, weights.object_cycle, weights.mask_cycle) > 0


def _phases(config: SEIGANConfig) -> tuple[Phase, ...]:
    """Discriminators, their penalty now and then, generators, and now and then a second swap."""
    judges, makers = ("discriminators",), ("segmenter", "inpainter", "enhancer")
    penalty = Phase(name="penalty", trains=judges, optimizer="discriminator", every=config.r1_every)
    cycle = Phase(name="cycle", trains=makers, optimizer="generator", every=config.cycle_every)
    weights = config.weights
    # An update on no gradient at all would still move weights by their momentum.
    penalised = (penalty,) if weights.r1 else ()
    enhances = weights.enhancement_identity and config.guards.residual
    cycled = (cycle,) if _swaps_twice(weights) or weights.background_identity or enhances else ()
    judge, make = Phase(name="discriminator", trains=judges), Phase(name="generator", trains=makers)
    return (judge, *penalised, make, *cycled)


def _check(config: SEIGANConfig) -> None:
    if not (config.weights.background or config.weights.object):
        raise ConfigError("'method.weights': background or object must be above 0")
    if config.guards.warmup and not config.weights.background_identity:
        raise ConfigError(
            f"'method.guards.warmup' is {config.guards.warmup}, with nothing for the inpainter to "
            "warm up by; 'method.weights.background_identity' must be above 0"
        )
    require_border(config.guards.border, config.size)
    common = math.lcm(2**config.network.depth, config.inpainter.stride, config.enhancer.stride)
    if config.size % common:
        raise ConfigError(f"'method.size' is {config.size}; it must be a multiple of {common}")
