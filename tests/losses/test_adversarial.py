import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segan.losses.adversarial import (
    AdversarialLoss,
    discriminator_accuracy,
    discriminator_loss,
    fooling_loss,
    generator_loss,
    r1_penalty,
    wasserstein_gradient_penalty,
)

KINDS = get_args(AdversarialLoss)


def pairs(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return real.requires_grad_(True), fake.requires_grad_(True)


def smooth_critic(images: Tensor) -> Tensor:
    """A patch critic [N, 1, 2, 2] whose gradient depends on the image."""
    weight = torch.linspace(-1, 1, 27, dtype=images.dtype).view(1, 3, 3, 3)
    return F.conv2d(images, weight, stride=3).tanh()


def reference(real: list[float], fake: list[float], kind: str) -> tuple[float, float]:
    """Both losses from the papers' formulas, one number at a time."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def log_sigmoid(x: float) -> float:
        return math.log(1 / (1 + math.exp(-x)))

    if kind == "non_saturating":
        return (
            -mean([log_sigmoid(r) for r in real]) - mean([log_sigmoid(-f) for f in fake]),
            -mean([log_sigmoid(f) for f in fake]),
        )
    if kind == "hinge":
        return (
            -mean([min(0, r - 1) for r in real]) - mean([min(0, -f - 1) for f in fake]),
            -mean(fake),
        )
    if kind == "least_squares":
        return (
            0.5 * mean([(r - 1) ** 2 for r in real]) + 0.5 * mean([f**2 for f in fake]),
            0.5 * mean([(f - 1) ** 2 for f in fake]),
        )
    if kind == "wasserstein":
        return mean(fake) - mean(real), -mean(fake)
    both = list(zip(real, fake, strict=True))
    return -mean([log_sigmoid(r - f) for r, f in both]), -mean(
        [log_sigmoid(f - r) for r, f in both]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6,), (6, 1), (3, 1, 2, 2)])
def test_losses_match_the_papers_formulas(kind: AdversarialLoss, shape: tuple[int, ...]) -> None:
    real, fake = pairs(*shape)
    critic, generator = reference(real.flatten().tolist(), fake.flatten().tolist(), kind)
    assert discriminator_loss(real, fake, kind=kind).item() == pytest.approx(critic, abs=1e-12)
    actual = generator_loss(fake, kind=kind, real=real)
    assert actual.item() == pytest.approx(generator, abs=1e-12)


def test_non_saturating_is_cross_entropy_with_logits() -> None:
    real, fake = pairs(8, 1)
    both = torch.cat([real, fake])
    targets = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    # Cross-entropy averages over both halves, the GAN loss adds them.
    expected = 2 * F.binary_cross_entropy_with_logits(both, targets)
    torch.testing.assert_close(discriminator_loss(real, fake, kind="non_saturating"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_pass_gradcheck(kind: AdversarialLoss) -> None:
    real, fake = pairs(4)
    assert torch.autograd.gradcheck(lambda r, f: discriminator_loss(r, f, kind=kind), (real, fake))
    assert torch.autograd.gradcheck(lambda f, r: generator_loss(f, kind=kind, real=r), (fake, real))


@pytest.mark.parametrize("kind", KINDS)
def test_descent_separates_the_critic_and_lifts_the_fakes(kind: AdversarialLoss) -> None:
    real, fake = (logits.detach().mul(0.1).requires_grad_(True) for logits in pairs(8))
    to_real, to_fake = torch.autograd.grad(discriminator_loss(real, fake, kind=kind), (real, fake))
    (to_generator,) = torch.autograd.grad(generator_loss(fake, kind=kind, real=real), fake)
    assert to_real.sum() < 0 < to_fake.sum()
    assert (to_generator < 0).all()


def test_relativistic_loss_ignores_a_common_shift_and_refuses_unpaired_logits() -> None:
    real, fake = pairs(6, 1)
    loss = discriminator_loss(real, fake, kind="relativistic")
    shifted = discriminator_loss(real + 5, fake + 5, kind="relativistic")
    torch.testing.assert_close(loss, shifted)
    with pytest.raises(AssertionError, match="pairs"):
        discriminator_loss(real, fake.squeeze(1), kind="relativistic")


def test_large_logits_stay_finite() -> None:
    real, fake = torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4])
    for kind in KINDS:
        assert discriminator_loss(real, fake, kind=kind).isfinite()
        assert generator_loss(fake, kind=kind, real=real).isfinite()


def test_accuracy_is_the_area_under_the_roc_curve() -> None:
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    real, fake = pairs(7, 1, 2, 2)
    per_image = torch.cat([real, fake]).detach().mean((1, 2, 3)).tolist()
    expected = roc_auc_score([1] * 7 + [0] * 7, per_image)
    assert discriminator_accuracy(real, fake).item() == pytest.approx(expected)
    assert discriminator_accuracy(torch.zeros(3), torch.zeros(5)) == 0.5
    assert discriminator_accuracy(torch.ones(3), torch.zeros(5)) == 1


def test_r1_of_a_linear_critic_is_its_squared_weight() -> None:
    weight = torch.randn(3 * 4 * 4, 1, dtype=torch.float64, requires_grad=True)
    images = torch.rand(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(images.flatten(1) @ weight, images)
    torch.testing.assert_close(penalty, weight.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight)


def test_r1_matches_one_image_at_a_time() -> None:
    images = torch.rand(4, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    expected = 0.0
    for image in images.detach():
        jacobian = torch.autograd.functional.jacobian(
            lambda x: smooth_critic(x).mean(), image[None]
        )
        expected += float((jacobian**2).sum()) / 4
    assert r1_penalty(smooth_critic(images), images).item() == pytest.approx(expected)


def test_r1_does_not_depend_on_how_many_patches_repeat_a_logit() -> None:
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    logits = images.flatten(1).square().sum(1)
    patches = logits[:, None, None, None].expand(2, 1, 3, 3)
    torch.testing.assert_close(r1_penalty(logits, images), r1_penalty(patches, images))


def test_penalties_can_be_differentiated_again() -> None:
    images = torch.rand(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    real, fake = images.detach(), images.detach().flip(0)
    mix = torch.tensor([0.2, 0.7], dtype=torch.float64).view(2, 1, 1, 1)
    assert torch.autograd.gradcheck(
        lambda s, x: r1_penalty(smooth_critic(s * x), x), (scale, images)
    )
    assert torch.autograd.gradcheck(
        lambda s: wasserstein_gradient_penalty(lambda x: smooth_critic(s * x), real, fake, mix),
        (scale,),
    )


def test_wasserstein_penalty_is_zero_exactly_for_slope_one() -> None:
    real, fake = torch.rand(2, 4, 3, 5, 5, dtype=torch.float64)
    mix = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    weight = torch.randn(75, dtype=torch.float64)
    weight /= weight.norm()
    for slope in (1.0, 3.0):
        penalty = wasserstein_gradient_penalty(
            lambda x, slope=slope: slope * (x.flatten(1) @ weight), real, fake, mix
        )
        assert penalty.item() == pytest.approx((slope - 1) ** 2)


def test_wasserstein_penalty_is_taken_between_real_and_fake() -> None:
    real, fake = torch.full((2, 1, 1, 1), 4.0), torch.zeros(2, 1, 1, 1)
    # D(x) = x^2 / 2 has slope x: 4 at the real end, 0 at the fake end, 1 at a quarter.
    for mix, expected in ((1.0, 9.0), (0.0, 1.0), (0.25, 0.0)):
        penalty = wasserstein_gradient_penalty(
            lambda x: x.square() / 2, real, fake, torch.full((2, 1, 1, 1), mix)
        )
        assert penalty.item() == pytest.approx(expected)


def test_wasserstein_penalty_of_a_flat_critic_has_finite_gradients() -> None:
    scale = torch.zeros((), requires_grad=True)
    images = torch.rand(2, 3, 4, 4)
    penalty = wasserstein_gradient_penalty(
        lambda x: scale * x.flatten(1).sum(1), images, images, torch.rand(2, 1, 1, 1)
    )
    (gradient,) = torch.autograd.grad(penalty, scale)
    assert penalty.item() == 1
    assert gradient.isfinite()


def test_reals_are_asked_for_by_the_form_that_compares_and_give_no_gradient() -> None:
    fake, real = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    weight = torch.tensor(2.0, requires_grad=True)

    def judge(images: Tensor) -> Tensor:
        return weight * images.mean((1, 2, 3))

    def never() -> Tensor:
        raise AssertionError("not asked for")

    for kind in get_args(AdversarialLoss):
        made = (lambda: real) if kind == "relativistic" else never
        found = fooling_loss(judge, fake, made, kind=kind)
        expected = generator_loss(judge(fake), kind=kind, real=judge(real).detach())
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(loss, weight)[0] for loss in (found, expected)]
        torch.testing.assert_close(*gradients)
