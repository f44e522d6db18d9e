import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segan.losses import mutual_information
from segan.losses.mutual_information import (
    collapsed_mutual_information_loss,
    displaced_joints,
    mutual_information_loss,
    pooled_joint,
)

LOSSES = {"uncollapsed": mutual_information_loss, "collapsed": collapsed_mutual_information_loss}
LEAST = 2.2e-16


def sample(count: int = 2, num_regions: int = 3, height: int = 9, width: int = 12) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height)
    shape = (count, num_regions, height, width)
    logits = [2 * torch.randn(shape, generator=generator).double() for _ in range(2)]
    return [each.softmax(1).requires_grad_() for each in logits]


def convolved(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """The authors' joint: a convolution whose kernel is the image."""
    joint = F.conv2d(first.transpose(0, 1), second.transpose(0, 1), padding=radius)
    return joint.permute(2, 3, 0, 1)


def information(joint: Tensor, entropy_weight: float = 1.0) -> Tensor:
    """The authors' loss of joints [..., K, K], averaged over the leading dimensions."""
    losses = []
    for p in joint.flatten(0, -3) if joint.dim() > 2 else [joint]:
        q = p / p.sum()
        q = (q + q.T) / 2
        rows, columns = q.sum(1, keepdim=True), q.sum(0, keepdim=True)
        q, rows, columns = (x.clamp(min=LEAST) for x in (q, rows, columns))
        parts = q.log() - entropy_weight * rows.log() - entropy_weight * columns.log()
        losses.append(-(q * parts).sum())
    return torch.stack(losses).mean()


def reference(first: Tensor, second: Tensor, *, form: str, radius: int, entropy_weight: float = 1):
    joint = convolved(first, second, radius)
    return information(joint if form == "uncollapsed" else joint.sum((0, 1)), entropy_weight)


def gradients(value: Tensor, maps: list[Tensor]) -> Tensor:
    return torch.stack(torch.autograd.grad(value, maps, retain_graph=True))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


SIZES = [
    (1, 2, 5, 5, 1),
    (2, 3, 17, 23, 4),
    (3, 4, 20, 11, 10),
    (1, 2, 9, 70, 7),
    (2, 5, 33, 8, 2),
    (2, 1, 6, 7, 5),
    (2, 3, 9, 9, 0),
]


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize(("count", "num_regions", "height", "width", "radius"), SIZES)
def test_value_and_gradient_are_those_of_the_convolution(
    form, count, num_regions, height, width, radius
) -> None:
    maps = sample(count, num_regions, height, width)
    settings = {"radius": radius, "entropy_weight": 1.3}
    found, expected = LOSSES[form](*maps, **settings), reference(*maps, form=form, **settings)
    assert abs(found.item() - expected.item()) < 1e-12
    difference = gradients(found, maps) - gradients(expected, maps)
    assert float(difference.abs().max()) < 1e-11 * max(1, float(gradients(expected, maps).max()))


@pytest.mark.parametrize("side", [16, 32, 64])
def test_size_of_transforms_and_of_chunks_does_not_matter(monkeypatch, side) -> None:
    maps = sample(2, 3, 30, 23)
    monkeypatch.setattr(mutual_information, "_transform_side", lambda *_: side)
    monkeypatch.setitem(mutual_information._CHUNK, "cpu", 100 * side)
    for form, loss in LOSSES.items():
        found, expected = loss(*maps, radius=5), reference(*maps, form=form, radius=5)
        assert relative(found, expected) < 1e-11
        assert relative(gradients(found, maps), gradients(expected, maps)) < 1e-10


def test_joint_is_a_count_of_meetings_at_each_displacement() -> None:
    """One pixel of region 1 at (2, 3) in the first and at (1, 1) in the second: t = (1, 2)."""
    first, second = (torch.zeros(1, 2, 5, 6).double() for _ in range(2))
    first[0, 1, 2, 3] = 1
    second[0, 1, 1, 1] = 1
    joints = displaced_joints(first, second, radius=2)
    expected = torch.zeros(5, 5, 2, 2).double()
    expected[2 + 1, 2 + 2, 1, 1] = 1
    assert float((joints - expected).abs().max()) < 1e-14
    assert relative(pooled_joint(first, second, radius=2), expected.sum((0, 1))) < 1e-14


def test_pooled_joint_is_the_sum_of_displaced_ones() -> None:
    maps = sample(2, 4, 19, 14)
    found = pooled_joint(*maps, radius=6)
    assert relative(found, displaced_joints(*maps, radius=6).sum((0, 1))) < 1e-12


@pytest.mark.parametrize("form", LOSSES)
def test_mask_removes_pixels_from_both(form) -> None:
    maps = sample(2, 3, 11, 13)
    mask = torch.ones(2, 1, 11, 13).double()
    mask[0, :, :4] = 0
    mask[1, ..., 9:] = 0.5
    found = LOSSES[form](*maps, radius=3, mask=mask)
    expected = reference(*(x * mask for x in maps), form=form, radius=3)
    assert relative(found, expected) < 1e-12
    assert relative(gradients(found, maps), gradients(expected, maps)) < 1e-11
    assert float(gradients(found, maps)[:, 0, :, :4].abs().max()) == 0
    assert relative(found, LOSSES[form](*maps, radius=3)) > 1e-3


@pytest.mark.parametrize("form", LOSSES)
def test_gradient_is_that_of_finite_differences(form) -> None:
    maps = sample(2, 2, 5, 6)
    loss = LOSSES[form]
    for weight in (1.0, 1.5):
        assert torch.autograd.gradcheck(
            lambda a, b, w=weight: loss(a, b, radius=2, entropy_weight=w), tuple(maps)
        )


@pytest.mark.parametrize("form", LOSSES)
def test_gradient_of_one_argument_alone(form) -> None:
    first, second = sample()
    whole = gradients(LOSSES[form](first, second, radius=2), [first, second])
    for i, maps in enumerate(([first, second.detach()], [first.detach(), second])):
        alone = torch.autograd.grad(LOSSES[form](*maps, radius=2), maps[i])[0]
        assert relative(alone, whole[i]) < 1e-12


@pytest.mark.parametrize("form", LOSSES)
def test_independent_maps_tell_nothing_of_each_other(form) -> None:
    """Constant over pixels, whatever the shares, the joint is the product of marginals."""
    shares = torch.tensor([0.5, 0.3, 0.2]).double()[None, :, None, None]
    maps = shares.expand(2, 3, 12, 12)
    assert abs(float(LOSSES[form](maps, maps, radius=3))) < 1e-12


@pytest.mark.parametrize("form", LOSSES)
def test_permuted_regions_of_equal_size_reach_the_floor(form) -> None:
    """Known from each other, K regions give -log K; the order of one side does not matter.

    Symmetrised, a joint stays a permutation when that is its own inverse.
    """
    labels = torch.arange(4).repeat_interleave(3).view(1, 12, 1).expand(1, 12, 8)
    hard = F.one_hot(labels, 4).permute(0, 3, 1, 2).double()
    other = hard[:, [1, 0, 3, 2]]
    assert float(LOSSES[form](hard, other, radius=0)) == pytest.approx(-math.log(4), abs=1e-9)


def test_forms_are_equal_without_displacements() -> None:
    maps = sample()
    found = [loss(*maps, radius=0, entropy_weight=1.5) for loss in LOSSES.values()]
    assert torch.equal(*found)


@pytest.mark.parametrize("form", LOSSES)
def test_entropy_weight_adds_the_marginals_entropy(form) -> None:
    """Uniform maps: P(i) = 1 / K, so a weight of w costs -(2 w - 2) log K; here K = 5."""
    maps = torch.full((1, 5, 8, 8), 0.2).double()
    for weight in (1.0, 1.5, 2.0):
        found = LOSSES[form](maps, maps, radius=2, entropy_weight=weight)
        assert float(found) == pytest.approx(-(2 * weight - 2) * math.log(5), abs=1e-9)


def test_collapsed_maps_lose_nothing_and_pull_nowhere_wild() -> None:
    """All pixels in one region, the others empty: probabilities are clamped, logarithms finite."""
    for loss in LOSSES.values():
        for dtype in (torch.float32, torch.float64):
            hard = torch.zeros(2, 3, 9, 9, dtype=dtype)
            hard[:, 0] = 1
            maps = [hard.clone().requires_grad_() for _ in range(2)]
            found = loss(*maps, radius=2)
            assert abs(found.item()) < 1e-4
            assert bool(gradients(found, maps).isfinite().all())


@pytest.mark.parametrize("form", LOSSES)
def test_empty_mask_is_finite(form) -> None:
    maps = sample()
    found = LOSSES[form](*maps, radius=2, mask=torch.zeros(2, 1, 9, 12))
    assert found.isfinite()
    assert bool(gradients(found, maps).isfinite().all())


@pytest.mark.parametrize("form", LOSSES)
def test_float32_is_as_exact_as_the_convolution_in_float32(form) -> None:
    maps = sample(2, 6, 40, 40)
    single = [x.detach().float().requires_grad_() for x in maps]
    expected = gradients(reference(*maps, form=form, radius=5), maps)
    value = LOSSES[form](*single, radius=5)
    assert value.dtype == torch.float32
    error = relative(gradients(value, single).double(), expected)
    peer = reference(*single, form=form, radius=5)
    assert error < max(1e-4, 3 * relative(gradients(peer, single).double(), expected))


@pytest.mark.parametrize("form", LOSSES)
def test_under_autocast_it_is_computed_in_float32(form) -> None:
    single = [x.detach().float() for x in sample()]
    narrow = [x.bfloat16().requires_grad_() for x in single]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[form](*single, radius=2)
        rounded = LOSSES[form](*narrow, radius=2)
        # Backward under autocast as well: its products must not be rounded either.
        slope = gradients(rounded, narrow)
    assert found.dtype == rounded.dtype == torch.float32
    assert torch.equal(found, LOSSES[form](*single, radius=2))
    wide = [x.detach().float().requires_grad_() for x in narrow]
    expected = gradients(LOSSES[form](*wide, radius=2), wide)
    assert torch.equal(slope, expected.bfloat16())


@pytest.mark.parametrize("form", LOSSES)
def test_memory_layout_does_not_matter(form) -> None:
    maps = sample(2, 4)
    value = LOSSES[form](*maps, radius=2)
    for layout in (
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        others = [layout(x.detach()).requires_grad_() for x in maps]
        again = LOSSES[form](*others, radius=2)
        assert relative(again, value) < 1e-12
        assert relative(gradients(again, others), gradients(value, maps)) < 1e-10


@pytest.mark.parametrize("form", LOSSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": torch.rand(3, 9, 12)}, "must both be"),
        ({"first": torch.rand(2, 4, 9, 12)}, "must both be"),
        ({"second": torch.rand(2, 3, 12, 9)}, "must both be"),
        ({"radius": 9}, "radius must be from 0 to below the side of 9 x 12: 9"),
        ({"radius": -1}, "radius must be"),
        ({"mask": torch.ones(2, 9, 12)}, "mask must be"),
    ],
)
def test_mistakes_are_one_clear_line(form, change, message) -> None:
    first, second = sample()
    call = {"first": first, "second": second, "radius": 2} | change
    with pytest.raises(ValueError, match=message) as raised:
        LOSSES[form](call.pop("first"), call.pop("second"), **call)
    assert "\n" not in str(raised.value)
