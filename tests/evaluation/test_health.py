import json
import math

import pytest
import torch
from torch import Tensor

from segan.evaluation.health import (
    HealthConfig,
    HealthMonitor,
    HealthWarning,
    standing,
)
from segan.evaluation.statistics import (
    MaskStatistics,
    in_boxes,
    mask_statistics,
    region_statistics,
    shared_variation,
)
from segan.windows import boxes_to_mask

SIZE = 48
DRAW = {"accuracy": 0.6}


def boxes(count: int, generator: torch.Generator, aspect: float) -> Tensor:
    """Centred boxes of 30 px along the longer side, as in windows of 1.6 times the box."""
    ratio = aspect ** (2 * torch.rand(count, generator=generator) - 1)
    width, height = 30 * ratio.clamp(max=1), 30 / ratio.clamp(min=1)
    return torch.stack(
        [SIZE / 2 - width / 2, SIZE / 2 - height / 2, SIZE / 2 + width / 2, SIZE / 2 + height / 2],
        dim=1,
    )


def box_coordinates(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels as x [N, 1, 1, S] and y [N, 1, S, 1], -1 to 1 across each box."""
    x0, y0, x1, y1 = boxes[:, :, None, None, None].unbind(1)
    pixels = torch.arange(SIZE) + 0.5
    x = (2 * pixels - x0 - x1) / (x1 - x0)
    y = ((2 * pixels)[:, None] - y0 - y1) / (y1 - y0)
    return x, y


def healthy_masks(seed: int, *, roughness: float, areas: tuple[float, float]) -> tuple[Tensor, ...]:
    """Soft centred blobs of varied outline that cover `areas` of their boxes, and the boxes."""
    generator = torch.Generator().manual_seed(seed)
    around = boxes(16, generator, aspect=1 + seed % 3)
    x, y = box_coordinates(around)
    angle, radius = torch.atan2(y, x), torch.hypot(x, y)
    outline = torch.ones_like(radius)
    for k in range(2, 7):
        cosine, sine = roughness / k * (2 * torch.rand(2, 16, 1, 1, 1, generator=generator) - 1)
        outline += cosine * torch.cos(k * angle) + sine * torch.sin(k * angle)
    low, high = areas
    area = low + (high - low) * torch.rand(16, 1, 1, 1, generator=generator)
    scale = (4 / math.pi * area).sqrt()
    inside = boxes_to_mask(around, (SIZE, SIZE))
    return torch.sigmoid(12 * (scale * outline - radius)) * inside, inside, around


def collapsed(kind: str, inside: Tensor, around: Tensor) -> Tensor:
    x, y = box_coordinates(around)
    noise = 0.05 * torch.randn(inside.shape, generator=torch.Generator().manual_seed(0))
    masks = {
        "everything": 0.97 + 0 * x * y,
        "nothing": 0.003 + 0 * x * y,
        "same_blob": torch.sigmoid(6 * (0.8 - torch.hypot(x, y))) + noise,
        "border": torch.sigmoid(12 * (torch.hypot(x, y) - 1)),
    }
    return masks[kind].clamp(0, 1) * inside


def watch(
    statistics: list[MaskStatistics], monitor: HealthMonitor, discriminator: dict[str, float]
) -> list[HealthWarning]:
    every = monitor.config.every
    return [
        warning
        for check, each in enumerate(statistics, start=1)
        for warning in monitor.update(check * every, each, discriminator)
    ]


@pytest.mark.parametrize("roughness", [0.15, 0.5])
@pytest.mark.parametrize("areas", [(0.2, 0.8), (0.2, 0.3), (0.7, 0.8)])
def test_no_alarm_on_healthy_masks(roughness: float, areas: tuple[float, float]) -> None:
    monitor = HealthMonitor(HealthConfig(grace=0, patience=1))
    batches = [healthy_masks(seed, roughness=roughness, areas=areas) for seed in range(12)]
    statistics = [mask_statistics(masks, inside) for masks, inside, _ in batches]
    assert watch(statistics, monitor, DRAW) == []


@pytest.mark.parametrize("kind", ["everything", "nothing", "same_blob", "border"])
def test_each_collapse_is_named_within_200_steps_of_its_onset(kind: str) -> None:
    monitor = HealthMonitor(HealthConfig())
    onset = 500
    warnings = []
    for step in range(50, 1000, 50):
        masks, inside, around = healthy_masks(step, roughness=0.4, areas=(0.3, 0.8))
        if step > onset:
            masks = collapsed(kind, inside, around)
        found = monitor.update(step, mask_statistics(masks, inside), DRAW)
        assert not (found and step <= onset)
        warnings += found
    # A frame left over by a blob is also the same frame everywhere: that may be said too.
    assert kind in [warning.failure for warning in warnings]
    assert {warning.failure for warning in warnings} <= {kind, "same_blob"}
    assert all(warning.step <= onset + 200 for warning in warnings)
    assert all("\n" not in warning.message for warning in warnings)


def test_a_discriminator_that_won_is_seen_by_accuracy_or_by_logits() -> None:
    masks, inside, _ = healthy_masks(0, roughness=0.4, areas=(0.3, 0.8))
    statistics = [mask_statistics(masks, inside)] * 10

    def failures(values: dict[str, float]) -> list[str]:
        monitor = HealthMonitor(HealthConfig())
        found = [warning.failure for warning in watch(statistics, monitor, values)]
        assert not monitor.collapsed
        return found

    assert failures({"discriminator/accuracy": 0.999}) == ["discriminator"]
    assert failures({"paste_real": 8.0, "paste_fake": -7.0}) == ["discriminator"]
    # A Wasserstein critic has no scale: a reported accuracy outweighs distant logits.
    assert failures({"accuracy": 0.7, "paste_real": 80.0, "paste_fake": -70.0}) == []
    assert failures({"paste_real": 1.0, "paste_fake": -1.0, "r1": 300.0}) == []
    assert failures({}) == []


def test_a_warning_comes_once_and_again_only_after_it_cleared() -> None:
    bad = MaskStatistics(
        area=0.99, empty=0, full=1, undecided=0.01, border_touch=1, diversity=0.001
    )
    good = MaskStatistics(area=0.5, empty=0, full=0, undecided=0.1, border_touch=0.3, diversity=0.3)
    monitor = HealthMonitor(HealthConfig(grace=0, patience=3, every=10))
    sequence = [bad] * 2 + [good] + [bad] * 6 + [good] + [bad] * 3
    assert [warning.step for warning in watch(sequence, monitor, {})] == [60, 130]
    assert monitor.active == ["everything"]
    watch([good], monitor, {})
    assert monitor.active == []


def test_nothing_is_said_during_grace() -> None:
    bad = MaskStatistics(area=0.5, empty=0, full=0, undecided=0.5, border_touch=1, diversity=0)
    monitor = HealthMonitor(HealthConfig(grace=200, patience=1, every=50))
    assert [warning.step for warning in watch([bad] * 6, monitor, {})] == [200]


def test_grace_is_counted_from_the_first_step_that_trains_the_segmenter() -> None:
    bad = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    config = HealthConfig(grace=200, patience=1, stop_after=1, every=50)
    monitor = HealthMonitor(config, learns_from=100)
    assert watch([bad] * 5, monitor, {}) == []
    assert not monitor.collapsed
    assert [warning.step for warning in monitor.update(300, bad, {})] == [300]
    assert monitor.collapsed


def test_masks_are_collapsed_after_stop_after_bad_checks_and_not_once_recovered() -> None:
    bad = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    good = MaskStatistics(
        area=0.5, empty=0, full=0, undecided=0.1, border_touch=0.3, diversity=None
    )
    monitor = HealthMonitor(HealthConfig(grace=0, stop_after=5))
    watch([bad] * 4, monitor, {})
    assert not monitor.collapsed
    watch([bad], monitor, {})
    assert monitor.collapsed
    watch([good], monitor, {})
    assert not monitor.collapsed


def test_masks_that_flicker_between_kinds_of_collapse_have_collapsed() -> None:
    nothing = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    alike = MaskStatistics(
        area=0.05, empty=0.2, full=0, undecided=0, border_touch=0.1, diversity=0.001
    )
    monitor = HealthMonitor(HealthConfig(grace=0, stop_after=6))
    warnings = watch([nothing, alike] * 3, monitor, {})
    assert [(warning.step, warning.failure) for warning in warnings] == [(150, "nothing")]
    assert monitor.collapsed
    assert monitor.active == monitor.collapse == ["same_blob"]
    assert standing(monitor.state(), patience=3) == ["same_blob"]
    # A winning discriminator, or a border, is no collapse between two.
    touching = MaskStatistics(
        area=0.3, empty=0, full=0, undecided=0, border_touch=2.5, diversity=0.3
    )
    monitor = HealthMonitor(HealthConfig(grace=0, stop_after=6))
    watch([nothing] * 5 + [touching] + [nothing] * 5, monitor, {"accuracy": 1.0})
    assert not monitor.collapsed


def test_regions_are_collapsed_while_one_has_everything_and_a_discriminator_can_win() -> None:
    one = region_statistics(torch.tensor([0.99, 0.01]).view(1, 2, 1, 1).expand(4, -1, 8, 8))
    monitor = HealthMonitor(HealthConfig(grace=0))
    found = watch([one] * 6, monitor, {"discriminator/accuracy": 0.999})
    assert {warning.failure for warning in found} == {"one_region", "discriminator"}
    assert monitor.collapsed


def test_a_stop_before_any_warning_names_what_was_seen() -> None:
    nothing = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    monitor = HealthMonitor(HealthConfig(grace=0, patience=3, stop_after=1, stop=True))
    assert watch([nothing], monitor, {"accuracy": 1.0}) == []
    assert monitor.ends_run
    # Of collapses alone: a discriminator that has won is none.
    assert monitor.collapse == ["nothing"]


def test_a_run_that_had_collapsed_before_flickers_were_counted_stays_so() -> None:
    nothing = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    first = HealthMonitor(HealthConfig(grace=0, restarts=1))
    watch([nothing] * 6, first, {})
    older = {name: count for name, count in first.state().items() if name != "fatal"}
    second = HealthMonitor(HealthConfig(grace=0, restarts=1))
    second.load_state(older)
    assert second.ends_run


@pytest.mark.parametrize(("steps", "checks"), [(449, 0), (450, 1), (599, 6), (600, 7)])
def test_checks_of_a_run_are_those_after_its_grace(steps: int, checks: int) -> None:
    config = HealthConfig(grace=200, every=25, patience=1)
    monitor = HealthMonitor(config, learns_from=250)
    assert monitor.checks_of(steps) == checks
    bad = MaskStatistics(area=0, empty=1, full=0, undecided=0, border_touch=0, diversity=0)
    watch([bad] * (steps // config.every), monitor, {})
    assert monitor.state()["nothing"] == checks


def test_a_monitor_resumed_from_json_says_what_the_first_would_have() -> None:
    bad = MaskStatistics(
        area=0.4, empty=0, full=0, undecided=0.1, border_touch=2.5, diversity=0.001
    )
    whole = HealthMonitor(HealthConfig(grace=0))
    first, second = HealthMonitor(HealthConfig(grace=0)), HealthMonitor(HealthConfig(grace=0))
    expected = watch([bad] * 4, whole, {"accuracy": 1.0})
    found = watch([bad] * 2, first, {"accuracy": 1.0})
    second.load_state(json.loads(json.dumps(first.state())))
    for step in (150, 200):
        found += second.update(step, bad, {"accuracy": 1.0})
    assert found == expected
    assert len(found) == 3
    assert second.state() == whole.state()


def test_statistics_of_known_masks() -> None:
    inside = torch.zeros(2, 1, 12, 12)
    inside[..., 1:11, 1:11] = 1
    masks = torch.zeros(2, 1, 12, 12)
    masks[0] = 1  # outside the box it does not count
    masks[1, :, 3:8, 3:8] = 0.2
    statistics = mask_statistics(masks, inside)
    assert statistics.area == pytest.approx((1 + 0.05) / 2)
    assert (statistics.empty, statistics.full) == (0, 0.5)
    assert statistics.undecided == pytest.approx(0.05 / 2)
    # All 36 frame pixels of the first mask; uniform masks of this mass would have 36 % on them.
    assert statistics.border_touch == pytest.approx(36 / ((100 + 5) * 0.36))
    json.dumps([statistics.area, statistics.diversity], allow_nan=False)


def test_border_touch_is_one_for_uniform_masks_and_zero_within() -> None:
    uniform = torch.full((3, 1, 10, 10), 0.4)
    assert mask_statistics(uniform).border_touch == pytest.approx(1)
    middle = torch.zeros(3, 1, 10, 10)
    middle[..., 1:-1, 1:-1] = 1
    assert mask_statistics(middle).border_touch == 0
    assert mask_statistics(1 - middle).border_touch == pytest.approx(100 / 36)
    assert mask_statistics(torch.zeros(3, 1, 10, 10)).border_touch == 0


def test_diversity_is_zero_for_equal_one_for_independent_and_none_for_single_masks() -> None:
    noise = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)).round()
    assert mask_statistics(noise).diversity == pytest.approx(1, abs=0.05)
    assert mask_statistics(noise[:1].expand(8, -1, -1, -1)).diversity == pytest.approx(0, abs=1e-6)
    assert mask_statistics(noise[:1]).diversity is None


def test_masks_that_only_follow_their_box_are_one_blob() -> None:
    generator = torch.Generator().manual_seed(0)
    around = boxes(16, generator, aspect=2.0)
    x, y = box_coordinates(around)
    masks = torch.sigmoid(12 * (0.9 - torch.hypot(x, y)))
    inside = boxes_to_mask(around, (SIZE, SIZE))
    in_box = mask_statistics(masks * inside, inside).diversity
    in_window = mask_statistics(masks * inside).diversity
    assert in_box is not None
    assert in_window is not None
    assert in_box < HealthConfig().least_diversity < in_window


def test_box_coordinates_take_nothing_from_outside_the_box() -> None:
    around = torch.tensor([[3.0, 5.0, 20.0, 9.0], [0.0, 0.0, 48.0, 48.0], [46.0, 1.0, 47.0, 2.0]])
    inside = boxes_to_mask(around, (SIZE, SIZE))
    torch.testing.assert_close(in_boxes(inside, inside), torch.ones(3, 1, 32, 32))


def test_shared_variation_is_bounded_by_the_variation_of_each_reading() -> None:
    masks = torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(0)).round()
    assert shared_variation(masks, masks) == pytest.approx(1, abs=0.05)
    assert shared_variation(masks, masks.roll(1, dims=0)) == pytest.approx(0, abs=0.05)
    assert shared_variation(masks, 1 - masks) == pytest.approx(-1, abs=0.05)


def test_region_statistics_of_one_region_of_none_and_of_equal_ones():
    one = torch.zeros(2, 4, 8, 8)
    one[:, 1] = 1
    found = region_statistics(one)
    assert (found.largest, found.certainty) == (1.0, 1.0)
    assert found.used == pytest.approx(1.0)
    undecided = region_statistics(torch.full((2, 4, 8, 8), 0.25))
    assert undecided.certainty == pytest.approx(0.0, abs=1e-6)
    assert undecided.largest == 0
    labels = torch.arange(4).repeat_interleave(16).view(1, 8, 8).expand(2, -1, -1)
    equal = region_statistics(torch.nn.functional.one_hot(labels).permute(0, 3, 1, 2).float())
    assert equal.largest == 0.25
    assert equal.used == pytest.approx(4.0)


def test_one_region_for_everything_is_warned_of_and_counts_as_collapse():
    one = torch.zeros(2, 4, 8, 8)
    one[:, 1] = 1
    monitor = HealthMonitor(HealthConfig(grace=0, patience=2, stop_after=4))
    warnings = [w for step in range(5) for w in monitor.update(step, region_statistics(one), {})]
    assert [(w.step, w.failure) for w in warnings] == [(1, "one_region")]
    assert "100% of pixels" in warnings[0].message
    assert monitor.collapsed


def test_an_undecided_partition_is_no_region_that_has_taken_everything():
    """ReDO's masks start at .5 everywhere: which side of it they lie on says nothing."""
    undecided = torch.tensor([0.51, 0.49])[:, None, None].expand(8, 2, 16, 16)
    statistics = region_statistics(undecided)
    assert (statistics.largest, statistics.used) == (0, pytest.approx(1.0))
    monitor = HealthMonitor(HealthConfig(grace=0, patience=1, stop_after=1, most_of_one=0.9))
    monitor.update(1, statistics, {})
    assert not monitor.collapsed


@pytest.mark.parametrize(("count", "best"), [(2, 0.85), (32, 0.8)])
def test_a_region_likeliest_everywhere_has_taken_everything_without_being_certain(count, best):
    regions = torch.full((8, count, 16, 16), (1 - best) / (count - 1))
    regions[:, 1] = best
    monitor = HealthMonitor(HealthConfig(grace=0, patience=1, stop_after=1, most_of_one=0.97))
    warnings = monitor.update(1, region_statistics(regions), {})
    assert [warning.failure for warning in warnings] == ["one_region"]
    assert monitor.collapsed


def test_of_confident_partitions_the_largest_region_is_what_its_pixels_say():
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.9, 0.07, 0.03]), 2048, True, generator=generator)
    confident = torch.nn.functional.one_hot(labels).T.reshape(1, 3, 32, 64).float()
    regions = (12 * confident).softmax(1)
    share = float((labels == 0).float().mean())
    assert region_statistics(regions).largest == pytest.approx(share, abs=1e-4)
