"""Learning to Segment via Cut-and-Paste (Remez, Huang & Brown, ECCV 2018, arXiv 1803.06414).

A mask is good if the object it cuts out still looks real when pasted elsewhere in the image, and if
what it leaves behind looks like background with a hole.

Supervision: boxes. Gaps between the paper and this file, and every guard that is not the paper's,
are listed in docs/methods/cut_paste.md.
"""

from dataclasses import field
from functools import partial
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from segan import networks
from segan.compositing import blur, brighten, composite, cut_out, zero_border
from segan.config import settings
from segan.data.views import CutPasteBatch, CutPasteView, Neighbours, Placement
from segan.errors import ConfigError
from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    fooling_loss,
    generator_loss,
    r1_penalty,
    wasserstein_gradient_penalty,
)
from segan.losses.masks import area_ceiling, area_floor, binarity, mean_area
from segan.methods.base import Losses, Method, Phase, Preview, losses, require_border
from segan.networks import DiscriminatorConfig, UNetConfig
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
        r1: Gradient penalty of the discriminators: half the squared norm at real images
            (R1, Mescheder et al. 2018), or with `adversarial: wasserstein` half that of WGAN-GP,
            whose usual weight of 10 is 20 here. Not in the paper.
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
    floor: float = Field(default=0.3, ge=0, le=1)
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
        shift: How far a window's centre may lie off the box's in training, in box sides.
        placement: Where objects are pasted.
        neighbours: Whether discriminators see other objects in a window, which composites lack.
        smallest_background: Share of an object window that a background window may shrink to where
            the picture has no room for more.
        adversarial: Form of the adversarial losses; the paper's Eq. 2 is the logistic one.
        discriminator_steps: Updates of the discriminators per update of the mask generator.
        r1_every: Iterations between penalties.
    """

    type: Literal["cut_paste"] = "cut_paste"
    network: UNetConfig = field(default_factory=UNetConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    size: int = Field(default=48, ge=16)
    context: float = Field(default=1.6, ge=1)
    square: bool = True
    shift: float = Field(default=0.0, ge=0, le=0.5)
    placement: Placement = "uniform"
    neighbours: Neighbours = "hide"
    smallest_background: float = Field(default=1.0, gt=0, le=1)
    adversarial: AdversarialLoss = "non_saturating"
    discriminator_steps: int = Field(default=1, ge=1)
    r1_every: int = Field(default=8, ge=1)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    guards: GuardsConfig = field(default_factory=GuardsConfig)


class Scene(NamedTuple):
    """A batch with its masks, and the pictures that the discriminators compare.

    Attributes:
        objects: Object windows as the mask generator sees them, [N, 3, S, S].
        backgrounds: Object-free windows, [N, 3, S, S].
        originals: Object windows with photometric noise of their own, [N, 3, S, S].
        mask: Opacity of the objects, [N, 1, S, S], zero outside the boxes.
        inside: The boxes, [N, 1, S, S] of 0 and 1.
        hidden: Other objects' boxes, [N, 1, S, S] of 0 and 1, painted over in every picture.
    """

    objects: Tensor
    backgrounds: Tensor
    originals: Tensor
    mask: Tensor
    inside: Tensor
    hidden: Tensor

    def real(self) -> Tensor:
        """Object windows as they are: the real of the adversarial loss."""
        return self._without(self.originals, self.hidden)

    def pasted(self) -> Tensor:
        """The objects on their backgrounds: the fake of the adversarial loss."""
        return self.pasted_by(self.mask)

    def pasted_by(self, mask: Tensor) -> Tensor:
        """What another mask would paste."""
        return self._without(composite(self.objects, self.backgrounds, mask), self.hidden)

    def left(self) -> Tensor:
        """Object windows with the object cut out: the fake of the cut loss."""
        return self._without(self.objects, self.mask + self.hidden)

    def hole(self) -> Tensor:
        """Backgrounds with the same part cut out: the real of the cut loss."""
        return self._without(self.backgrounds, self.mask + self.hidden)

    def empty(self) -> Tensor:
        """Backgrounds as they are: what the presence loss calls empty."""
        return self._without(self.backgrounds, self.hidden)

    def _without(self, images: Tensor, mask: Tensor) -> Tensor:
        return cut_out(images, mask, outside=(1 - self.inside) * (1 - self.hidden))


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
        require_border(config.guards.border, config.size)
        self.config = config
        self.window = WindowSpec(size=config.size, context=config.context, square=config.square)
        self.view = CutPasteView(
            self.window,
            config.placement,
            neighbours=config.neighbours,
            smallest_background=config.smallest_background,
            shift=config.shift,
        )
        network = networks.build(config.network)
        self.segmenter = MaskSegmenter(network, stride=network.stride)
        self.discriminators = torch.nn.ModuleDict(
            {
                name: networks.Discriminator(config.discriminator, config.size)
                for name in ("paste", "cut", "presence")
                if getattr(config.weights, name) > 0
            }
        )
        discriminator = Phase(
            name="discriminator", trains=("discriminators",), repeat=config.discriminator_steps
        )
        penalty = Phase(
            name="penalty",
            trains=("discriminators",),
            optimizer="discriminator",
            every=config.r1_every,
        )
        generator = Phase(name="generator", trains=("segmenter",))
        # An update on no gradient at all would still move weights by their momentum.
        penalised = (penalty,) if config.weights.r1 else ()
        self.phases = (discriminator, *penalised, generator)

    # The composition.

    def scene(self, batch: CutPasteBatch) -> Scene:
        """Windows, each brightened on its own, and the masks of the objects."""
        offsets = self.config.guards.jitter * batch.jitter
        objects = brighten(batch.objects, offsets[:, 0])
        return Scene(
            objects=objects,
            backgrounds=brighten(batch.backgrounds, offsets[:, 1]),
            originals=brighten(batch.objects, offsets[:, 2]),
            mask=self.cut_mask(self.segmenter, objects, batch.boxes),
            inside=boxes_to_mask(batch.boxes, objects.shape[-2:]),
            hidden=batch.hidden,
        )

    def cut_mask(self, segmenter: Segmenter, objects: Tensor, boxes: Tensor) -> Tensor:
        """Masks [N, 1, S, S], zero outside the box, as they are pasted."""
        guards = self.config.guards
        inside = boxes_to_mask(boxes, objects.shape[-2:])
        mask = blur(segmenter(objects)[:, 1:] * inside, guards.feather) * inside
        return zero_border(mask, guards.border)

    def judge(self, name: str, images: Tensor) -> Tensor:
        """Logits of a discriminator on low-passed images."""
        logits: Tensor = self.discriminators[name](blur(images, self.config.guards.blur))
        return logits

    # One function per phase.

    def discriminator_losses(self, batch: CutPasteBatch) -> Losses:
        """Real object windows against composites; background with a hole against what is left."""
        kind = self.config.adversarial
        with torch.no_grad():
            scene = self.scene(batch)
        trained, watched = {}, {}
        if "paste" in self.discriminators:
            real, fake = self.judge("paste", scene.real()), self.judge("paste", scene.pasted())
            trained["paste"] = discriminator_loss(real, fake, kind=kind)
            watched["paste_real"], watched["paste_fake"] = real.mean(), fake.mean()
            watched["paste_accuracy"] = discriminator_accuracy(real, fake)
            if self.config.guards.grounded:
                fake = self.judge("paste", scene.pasted_by(batch.polygons))
                trained["grounded"] = discriminator_loss(real, fake, kind=kind)
        if "cut" in self.discriminators:
            real, fake = self.judge("cut", scene.hole()), self.judge("cut", scene.left())
            trained["cut"] = discriminator_loss(real, fake, kind=kind)
        if "presence" in self.discriminators:
            present = self.judge("presence", scene.real())
            absent = self.judge("presence", scene.empty())
            trained["presence"] = discriminator_loss(present, absent, kind="non_saturating")
        return losses(torch.stack(list(trained.values())).sum(), **trained, **watched)

    def penalty_losses(self, batch: CutPasteBatch) -> Losses:
        """R1 at the real images of each discriminator, or WGAN-GP between real and fake."""
        config = self.config
        with torch.no_grad():
            scene = self.scene(batch)
        pairs = {
            "paste": (scene.real(), scene.pasted()),
            "cut": (scene.hole(), scene.left()),
            "presence": (scene.real(), scene.empty()),
        }
        terms = {}
        # Gradients of gradients are too coarse in bf16.
        with torch.autocast(batch.objects.device.type, enabled=False):
            for name in self.discriminators:
                real, fake = pairs[name]
                if config.adversarial == "wasserstein" and name != "presence":
                    critic, mix = partial(self.judge, name), batch.jitter[:, 2, None, None, None]
                    terms[f"gp_{name}"] = wasserstein_gradient_penalty(critic, real, fake, mix)
                else:
                    images = real.requires_grad_(True)
                    terms[f"r1_{name}"] = r1_penalty(self.judge(name, images), images)
        # Applied every r1_every iterations, so scaled up to keep its mean strength.
        weight = config.weights.r1 / 2 * config.r1_every
        return losses(weight * torch.stack(list(terms.values())).sum(), **terms)

    def generator_losses(self, batch: CutPasteBatch) -> Losses:
        """The composite must look real, and what is left like background (paper, section 3)."""
        weights, guards = self.config.weights, self.config.guards
        scene = self.scene(batch)
        mask, inside = scene.mask, scene.inside
        terms = {"area": mean_area(mask, inside), "binarity": binarity(mask)}
        if weights.paste:
            terms["paste"] = self.fool("paste", scene.pasted(), scene.real())
        if weights.cut:
            terms["cut"] = self.fool("cut", scene.left(), scene.hole())
        if weights.presence:
            present = self.judge("presence", scene.pasted())
            terms["presence"] = generator_loss(present, kind="non_saturating")
        if weights.empty:
            terms["empty"] = self.segmenter(scene.backgrounds)[:, 1:].mean()
        if weights.area_floor:
            terms["area_floor"] = area_floor(mask, inside, floor=guards.floor)
        if weights.area_ceiling:
            terms["area_ceiling"] = area_ceiling(mask, inside, ceiling=guards.ceiling)
        weight = {name: getattr(weights, name) for name in terms}
        weight["binarity"] *= self.warmup()
        total = torch.stack([weight[name] * term for name, term in terms.items()]).sum()
        return losses(total, **terms)

    def fool(self, name: str, fake: Tensor, real: Tensor) -> Tensor:
        """The generator's adversarial loss on a fake, paired with a real where its form asks."""
        judge = partial(self.judge, name)
        return fooling_loss(judge, fake, lambda: real, kind=self.config.adversarial)

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
