import pytest
import torch
from torch import nn

from segan.segmenter import MaskSegmenter
from segan.training.ema import AveragedSegmenter


def segmenter(value: float) -> MaskSegmenter:
    network = nn.Conv2d(3, 1, 1)
    network.register_buffer("count", torch.tensor(int(value)))
    network.register_buffer("mean", torch.tensor(value))
    built = MaskSegmenter(network, stride=1)
    set_to(built, value)
    return built


def set_to(built: MaskSegmenter, value: float) -> None:
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.fill_(value)
        built.network.count.fill_(int(value))
        built.network.mean.fill_(value)


def values(built: nn.Module) -> set[float]:
    return {float(v) for p in built.parameters() for v in p.detach().flatten()}


def test_half_of_the_old_weights_is_left_after_the_half_life():
    current = segmenter(1.0)
    average = AveragedSegmenter(current, halflife_images=64)
    set_to(current, 0.0)
    for _ in range(8):
        average.update(current, images_seen=100_000, batch_size=8)
    (left,) = values(average.segmenter)
    assert left == pytest.approx(0.5, abs=1e-6)


def test_average_follows_a_naive_computation_with_its_early_ramp():
    current = segmenter(0.7)
    average = AveragedSegmenter(current, halflife_images=40)
    generator = torch.Generator().manual_seed(0)
    expected = 0.7
    for step in range(1, 101):
        value = float(torch.randn((), generator=generator))
        set_to(current, value)
        average.update(current, images_seen=8 * step, batch_size=8)
        halflife = min(40, 8 * step / 10)
        kept = 0.5 ** (8 / halflife)
        expected = kept * expected + (1 - kept) * value
        (found,) = values(average.segmenter)
        assert found == pytest.approx(expected, abs=1e-5)


def test_initial_weights_are_forgotten_early():
    current = segmenter(1.0)
    average = AveragedSegmenter(current, halflife_images=1e6)
    set_to(current, 0.0)
    average.update(current, images_seen=8, batch_size=8)
    (left,) = values(average.segmenter)
    assert left < 1e-2


def test_counters_are_copied_and_nothing_of_the_average_trains():
    current = segmenter(1.0)
    average = AveragedSegmenter(current, halflife_images=1e6)
    set_to(current, 5.0)
    average.update(current, images_seen=10**9, batch_size=8)
    assert int(average.segmenter.network.count) == 5
    assert not average.segmenter.training
    assert not any(parameter.requires_grad for parameter in average.segmenter.parameters())
    assert values(current) == {5.0}


def test_running_means_are_averaged_like_the_weights_they_belong_to():
    current = segmenter(0.0)
    average = AveragedSegmenter(current, halflife_images=8.0)
    set_to(current, 1.0)
    average.update(current, images_seen=10**9, batch_size=8)
    assert float(average.segmenter.network.mean) == pytest.approx(0.5)
    assert values(average.segmenter) == {0.5}
