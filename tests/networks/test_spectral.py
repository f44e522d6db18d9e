"""Spectral normalisation: against the exact singular value, and free of state."""

import pytest
import torch
from torch import nn

from segan.networks.spectral import SpectralConv2d, SpectralLinear, largest_singular_value


def start(rows: int) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(rows), dim=0)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (24, 24, 3, 3), (1, 48), (64, 16)])
def test_the_estimate_is_close_to_the_singular_value_and_never_above(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    exact = float(torch.linalg.matrix_norm(weight.flatten(1), ord=2))
    found = float(largest_singular_value(weight, start(min(weight.flatten(1).shape))))
    assert 0.97 * exact < found <= exact * (1 + 1e-5)


def test_thirty_two_iterations_are_made():
    """Of values 1 and .99, begun in between, from where 16 or 64 would come elsewhere."""
    weight, even = torch.diag(torch.tensor([1.0, 0.99])), torch.tensor([0.5, 0.5]).sqrt()
    left = torch.tensor([1.0, 0.99**64])  # (M M^T)^32 on it
    expected = (left / left.norm() @ weight).norm()
    assert float(largest_singular_value(weight, even)) == pytest.approx(float(expected), rel=1e-5)


def test_a_dominant_direction_is_found_exactly():
    torch.manual_seed(0)
    left, right = start(6), start(10)
    weight = 5 * torch.outer(left, right) + 0.01 * torch.randn(6, 10)
    exact = torch.linalg.matrix_norm(weight, ord=2)
    torch.testing.assert_close(largest_singular_value(weight, start(6)), exact)


def test_the_gradient_is_that_of_the_singular_value():
    torch.manual_seed(0)
    weight = (5 * torch.outer(start(6), start(10)) + 0.01 * torch.randn(6, 10)).requires_grad_()
    (found,) = torch.autograd.grad(largest_singular_value(weight, start(6)), weight)
    (exact,) = torch.autograd.grad(torch.linalg.matrix_norm(weight, ord=2), weight)
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(lambda: SpectralConv2d(3, 8, 3), (2, 3, 9, 9)), (lambda: SpectralLinear(12, 5), (2, 12))],
)
def test_a_layer_does_not_depend_on_the_scale_of_its_weight_nor_on_earlier_passes(layer, shape):
    torch.manual_seed(0)
    made, features = layer(), torch.randn(shape)
    state = {name: value.clone() for name, value in made.state_dict().items()}
    first = made(features)
    assert torch.equal(made(features), first)
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
    assert float(made.bias.detach().abs().max()) == 0
    with torch.no_grad():
        made.weight.mul_(30)
    torch.testing.assert_close(made(features), first)


def test_a_linear_layer_amplifies_nothing():
    torch.manual_seed(0)
    layer, features = SpectralLinear(12, 5), torch.randn(100, 12)
    with torch.no_grad():
        layer.weight.normal_(std=3)
        gain = layer(features).norm(dim=1) / features.norm(dim=1)
    assert float(gain.max()) < 1.05


def test_the_estimate_is_fp32_under_autocast():
    torch.manual_seed(0)
    weight, begin = torch.randn(8, 20), start(8)
    expected = largest_singular_value(weight, begin)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(largest_singular_value(weight, begin), expected)
