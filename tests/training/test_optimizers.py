import pytest
import torch
from torch import nn

from segan.errors import ConfigError
from segan.training.optimizers import (
    OptimizerConfig,
    build_optimizer,
    learning_rate,
    optimizer_configs,
)


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0.0, 0.0),
        (0.05, 0.5),  # half of the warm-up
        (0.1, 1.0),  # warm-up done
        (0.6, 1.0),  # held until here
        (0.8, 0.6),  # halfway down to .2
        (1.0, 0.2),
    ],
)
def test_learning_rate_has_its_closed_form(progress, share):
    config = OptimizerConfig(lr=4e-3, warmup=0.1, hold=0.6, final=0.2)
    assert learning_rate(config, progress) == pytest.approx(4e-3 * share)


def test_learning_rate_without_warmup_or_decay_is_constant():
    config = OptimizerConfig(lr=1e-3, warmup=0.0, hold=1.0, final=0.0)
    assert [learning_rate(config, p / 10) for p in range(11)] == [1e-3] * 11


def test_learning_rate_never_exceeds_its_highest_value():
    config = OptimizerConfig(lr=1.0, warmup=0.9, hold=0.3, final=0.1)
    rates = [learning_rate(config, p / 100) for p in range(101)]
    assert max(rates) < 1
    assert min(rates) >= 0
    assert rates[-1] == pytest.approx(0.1)


def test_settings_of_an_optimizer_that_no_phase_uses_are_refused():
    with pytest.raises(ConfigError, match=r"'train\.optimizers\.critic'.*discriminator, generator"):
        optimizer_configs({"critic": OptimizerConfig()}, ["discriminator", "generator"])


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_optimizers_have_the_settings_they_were_given(kind):
    config = OptimizerConfig(type=kind, lr=0.25, beta1=0.5, beta2=0.75, weight_decay=0.0)
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = build_optimizer(config, [weight])
    values, first, second = [], 0.0, 0.0
    expected = 1.0
    for step, gradient in enumerate([1.0, -3.0, 2.0], start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        if kind == "adam":
            first = 0.5 * first + 0.5 * gradient
            second = 0.75 * second + 0.25 * gradient**2
            expected -= 0.25 * (first / (1 - 0.5**step)) / (second / (1 - 0.75**step)) ** 0.5
        else:
            first = 0.5 * first + gradient
            expected -= 0.25 * first
        values.append(float(weight.detach()) - expected)
    assert max(map(abs, values)) < 1e-7


@pytest.mark.parametrize(("drops", "rates"), [(50, (1, 0.1, 0.01)), (5, (1, 1, 1))])
def test_both_readings_of_the_papers_schedule(drops, rates):
    """W-Net: divided by ten every 1000, or every 10000, of 50000 iterations."""
    config = OptimizerConfig(lr=3e-3, warmup=0.0, hold=1.0, drops=drops)
    found = [learning_rate(config, step / 50_000) for step in (999, 1000, 2500)]
    assert found == pytest.approx([3e-3 * rate for rate in rates])
    assert learning_rate(config, 10_000 / 50_000) == pytest.approx(3e-3 * 0.1 ** (drops // 5))
