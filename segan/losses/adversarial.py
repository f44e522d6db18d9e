"""Adversarial objectives and gradient penalties: functions of a discriminator's logits.

Logits come as [N], [N, 1] or patch maps [N, 1, h, w], higher for "real"; every mean is over all
of them. They are fp32, as networks end in `.float()`, and so are the results.
"""

from collections.abc import Callable
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

AdversarialLoss = Literal["non_saturating", "hinge", "least_squares", "wasserstein", "relativistic"]


def discriminator_loss(real: Tensor, fake: Tensor, *, kind: AdversarialLoss) -> Tensor:
    """What the discriminator minimises; r and f are its logits of real and fake images.

    - non_saturating: E softplus(-r) + E softplus(f), the cross-entropy (Goodfellow et al. 2014)
    - hinge: E relu(1 - r) + E relu(1 + f) (Lim & Ye 2017)
    - least_squares: E (r - 1)^2 / 2 + E f^2 / 2 (Mao et al. 2017, targets 1 and 0)
    - wasserstein: E f - E r (Arjovsky et al. 2017)
    - relativistic: E softplus(-(r - f)), each real beside its own fake (RpGAN,
      Jolicoeur-Martineau 2018; R3GAN, Huang et al. 2025)

    Args:
        real: Logits of real images, any shape.
        fake: Logits of fake images; of the shape of `real` and in its order for "relativistic".
        kind: Which of the above.
    """
    match kind:
        case "non_saturating":
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "least_squares":
            return ((real - 1).square().mean() + fake.square().mean()) / 2
        case "wasserstein":
            return fake.mean() - real.mean()
        case "relativistic":
            assert real.shape == fake.shape, "relativistic logits come in pairs"
            return F.softplus(fake - real).mean()
        case _:
            assert_never(kind)


def generator_loss(fake: Tensor, *, kind: AdversarialLoss, real: Tensor | None = None) -> Tensor:
    """What the generator minimises; r and f are the discriminator's logits of real and fake images.

    - non_saturating: E softplus(-f) (Goodfellow et al. 2014)
    - hinge, wasserstein: -E f (Lim & Ye 2017; Arjovsky et al. 2017)
    - least_squares: E (f - 1)^2 / 2 (Mao et al. 2017)
    - relativistic: E softplus(-(f - r)) (Jolicoeur-Martineau 2018; Huang et al. 2025)

    Args:
        fake: Logits of fake images, any shape.
        kind: Which of the above.
        real: Logits of the paired real images, of the shape of `fake`; only "relativistic" looks.
    """
    match kind:
        case "non_saturating":
            return F.softplus(-fake).mean()
        case "hinge" | "wasserstein":
            return -fake.mean()
        case "least_squares":
            return (fake - 1).square().mean() / 2
        case "relativistic":
            assert real is not None, "the relativistic loss compares fakes with reals"
            assert real.shape == fake.shape, "relativistic logits come in pairs"
            return F.softplus(real - fake).mean()
        case _:
            assert_never(kind)


def fooling_loss(
    judge: Callable[[Tensor], Tensor],
    fake: Tensor,
    real: Callable[[], Tensor],
    *,
    kind: AdversarialLoss,
) -> Tensor:
    """`generator_loss` of fake images, beside real ones where its form compares the two.

    Args:
        judge: Images to logits.
        fake: Images that carry gradients to the generator, [N, C, H, W].
        real: Makes the paired real images, [N, C, H, W]; only "relativistic" asks for them.
        kind: As in `generator_loss`.
    """
    paired = None
    if kind == "relativistic":
        with torch.no_grad():
            paired = judge(real())
    return generator_loss(judge(fake), kind=kind, real=paired)


def discriminator_accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """Share of (real, fake) pairs whose real image has the higher logit; .5 is chance, ties half.

    The area under the ROC curve, over images (a patch map counts as its mean). Unlike a threshold
    at zero it means the same for every kind of loss, Wasserstein and relativistic included.
    """
    difference = _per_image(real)[:, None] - _per_image(fake)[None, :]
    return (difference.detach().sign() + 1).mean() / 2


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Zero-centred gradient penalty E |d D(x) / d x|^2 (Mescheder et al. 2018); scale by gamma / 2.

    R1 on real images, R2 on fakes. D(x) is the mean of an image's logits, not their sum: the
    penalty then means the same for patch maps of any size, as the losses above do.

    Args:
        logits: The discriminator's [N, ...] of `images`, each depending on its own image only (no
            batch normalisation), computed outside autocast: bf16 gradients are too coarse.
        images: [N, C, H, W], requiring gradients.
    """
    return _gradients(logits, images).square().sum(1).mean()


def wasserstein_gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """One-centred gradient penalty E (|d D(x) / d x| - 1)^2 between real and fake images.

    x = mix * real + (1 - mix) * fake (WGAN-GP, Gulrajani et al. 2017, Algorithm 1; weight 10
    there). As in `r1_penalty`, D(x) is the mean of an image's logits.

    Args:
        critic: Images to logits [N, ...], without batch normalisation, run outside autocast.
        real: [N, C, H, W].
        fake: [N, C, H, W]; the penalty does not train what made it.
        mix: [N, 1, 1, 1], uniform in [0, 1].
    """
    images = torch.lerp(fake.detach(), real.detach(), mix).requires_grad_(True)
    norms: Tensor = torch.linalg.vector_norm(_gradients(critic(images), images), dim=1)
    return (norms - 1).square().mean()


def _per_image(logits: Tensor) -> Tensor:
    return logits.flatten(1).mean(1) if logits.ndim > 1 else logits


def _gradients(logits: Tensor, images: Tensor) -> Tensor:
    """Gradient [N, C * H * W] of each image's mean logit, itself differentiable."""
    score = _per_image(logits).sum()
    (gradients,) = torch.autograd.grad(score, images, create_graph=True)
    return gradients.flatten(1)
