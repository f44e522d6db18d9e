"""Feature clustering: its losses by hand, and that it finds textures in one picture."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from segan.errors import ConfigError
from segan.methods.feature_clustering import (
    FeatureClustering,
    FeatureClusteringConfig,
    ResponseNetwork,
    continuity_loss,
    majority,
    similarity_loss,
)
from segan.opening import open_segmenter

SMALL = FeatureClusteringConfig(
    channels=24, max_iterations=40, longest_side=None, num_superpixels=120
)
VARIANTS = ("2018", "2020")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textures(height: int = 40, width: int = 48) -> tuple[Tensor, Tensor]:
    """Stripes beside noise of the same mean colour, and which is where."""
    truth = (torch.arange(width) >= width // 2).expand(height, width)
    stripes = (torch.arange(height)[:, None] // 2 % 2).expand(height, width) * 0.8 + 0.1
    grain = 0.5 + 0.05 * torch.randn(height, width, generator=generator())
    image = torch.where(truth, stripes, grain)
    return image.clamp(0, 1).expand(3, height, width).contiguous(), truth


def purity(labels: Tensor, truth: Tensor) -> float:
    """The share of pixels on the majority side of their region."""
    joint = torch.zeros(int(labels.max()) + 1, 2)
    ones = torch.ones(labels.numel())
    joint.index_put_((labels.flatten().long(), truth.flatten().long()), ones, accumulate=True)
    return float(joint.amax(1).sum() / labels.numel())


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_textures_are_told_apart(variant: str) -> None:
    image, truth = textures()
    labels = FeatureClustering(replace(SMALL, variant=variant)).partition(image)
    assert labels.shape == truth.shape
    assert labels.dtype == torch.int32
    assert torch.equal(labels.unique(), torch.arange(int(labels.max()) + 1, dtype=torch.int32))
    assert int(labels.max()) < 40
    assert purity(labels, truth) > 0.9


@pytest.mark.parametrize("variant", VARIANTS)
def test_clusters_become_fewer_with_training(variant: str) -> None:
    image, _ = textures()
    config = replace(SMALL, variant=variant)
    long = FeatureClustering(config).partitions(image, num_levels=12)
    short = FeatureClustering(replace(config, max_iterations=1)).partition(image)
    assert int(long[0].max()) < int(short.max())


def test_levels_go_from_few_regions_to_many() -> None:
    levels = FeatureClustering(SMALL).partitions(textures()[0], num_levels=6)
    counts = [int(level.max()) for level in levels]
    assert len(levels) == 6
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_labels_repeat_and_depend_on_the_seed() -> None:
    image, _ = textures()
    config = replace(SMALL, max_iterations=6)
    labels = FeatureClustering(config).partition(image)
    torch.rand(3)
    assert torch.equal(FeatureClustering(config).partition(image), labels)
    assert not torch.equal(FeatureClustering(replace(config, seed=1)).partition(image), labels)


@pytest.mark.parametrize("variant", VARIANTS)
def test_global_random_numbers_are_left_alone(variant: str) -> None:
    before = torch.get_rng_state()
    config = replace(SMALL, variant=variant, max_iterations=2)
    FeatureClustering(config).partition(textures()[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_training_works_where_gradients_are_off(mode: type) -> None:
    image, _ = textures()
    segmenter = FeatureClustering(replace(SMALL, max_iterations=5))
    expected = segmenter.partition(image)
    with mode():
        inside = image + 0
        assert torch.equal(segmenter.partition(inside), expected)
        regions = segmenter(inside[None])
        assert not torch.is_grad_enabled()
    assert torch.equal(regions[0].argmax(0), expected.long())


def test_the_image_is_not_changed() -> None:
    image, _ = textures()
    before = image.clone()
    FeatureClustering(replace(SMALL, max_iterations=2)).partition(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5)])
def test_tiny_pictures_are_cut_too(variant: str, size: tuple[int, int]) -> None:
    image = torch.rand(3, *size, generator=generator())
    config = replace(SMALL, variant=variant, max_iterations=3)
    for level in FeatureClustering(config).partitions(image, num_levels=2):
        assert level.shape == size


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_picture_of_one_colour_is_one_region(variant: str) -> None:
    config = replace(SMALL, variant=variant)
    assert not FeatureClustering(config).partition(torch.full((3, 20, 30), 0.4)).any()


def test_training_stops_at_few_labels() -> None:
    image, _ = textures()
    one = FeatureClustering(replace(SMALL, max_iterations=1)).partition(image)
    config = replace(SMALL, min_labels=SMALL.channels)
    assert torch.equal(FeatureClustering(config).partition(image), one)


def test_large_pictures_are_cut_at_their_own_size() -> None:
    image, truth = textures(80, 96)
    labels = FeatureClustering(replace(SMALL, longest_side=48)).partition(image)
    assert labels.shape == truth.shape
    assert purity(labels, truth) > 0.8


# --- parts ----------------------------------------------------------------------------------------


def test_majority_equals_a_loop_over_segments() -> None:
    labels = torch.randint(7, (23, 31), generator=generator())
    segments = torch.randint(40, (23, 31), generator=generator(1))
    found = majority(labels, segments)
    for segment in segments.unique():
        members = segments == segment
        counts = [int((labels[members] == label).sum()) for label in range(7)]
        assert bool((found[members] == counts.index(max(counts))).all())


def test_majority_in_segments_of_one_pixel_changes_nothing() -> None:
    labels = torch.randint(7, (5, 6), generator=generator())
    assert torch.equal(majority(labels, torch.arange(30).view(5, 6)), labels)


def test_continuity_of_a_ramp_is_its_slopes() -> None:
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    responses = torch.stack([3 * x + 2 * y, -x])
    # Over both clusters: horizontal (3 + 1) / 2, vertical (2 + 0) / 2.
    assert continuity_loss(responses).item() == pytest.approx(2 + 1)


def test_continuity_of_constants_and_single_pixels_is_zero() -> None:
    assert continuity_loss(torch.full((4, 5, 6), 2.0)) == 0
    assert continuity_loss(torch.rand(4, 1, 1)) == 0


def test_continuity_does_not_change_under_reflection_or_transposition() -> None:
    responses = torch.rand(3, 5, 6, generator=generator())
    expected = continuity_loss(responses)
    torch.testing.assert_close(continuity_loss(responses.flip(2)), expected)
    torch.testing.assert_close(continuity_loss(responses.transpose(1, 2)), expected)


def test_similarity_of_equal_responses_is_the_logarithm_of_their_number() -> None:
    labels = torch.randint(8, (4, 5), generator=generator())
    assert similarity_loss(torch.zeros(8, 4, 5), labels).item() == pytest.approx(math.log(8))


def test_similarity_equals_its_formula() -> None:
    responses = torch.randn(6, 4, 5, generator=generator())
    labels = torch.randint(6, (4, 5), generator=generator(1))
    probabilities = responses.exp() / responses.exp().sum(0)
    picked = [-probabilities[labels[y, x], y, x].log() for y in range(4) for x in range(5)]
    torch.testing.assert_close(similarity_loss(responses, labels), torch.stack(picked).mean())


def test_gradients_of_losses() -> None:
    responses = torch.randn(3, 4, 5, generator=generator(), dtype=torch.float64)
    responses.requires_grad_()
    labels = torch.randint(3, (4, 5), generator=generator())
    assert torch.autograd.gradcheck(lambda r: similarity_loss(r, labels), responses)
    assert torch.autograd.gradcheck(continuity_loss, responses)


def test_responses_are_normalised_over_pixels() -> None:
    image = torch.rand(1, 3, 20, 30, generator=generator())
    responses = ResponseNetwork(SMALL)(image)
    assert responses.shape == (1, 24, 20, 30)
    torch.testing.assert_close(responses.mean((0, 2, 3)), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(responses.var((0, 2, 3)), torch.ones(24), atol=0.05, rtol=0)


def test_weights_have_the_spread_that_pytorch_gives_them() -> None:
    network = ResponseNetwork(FeatureClusteringConfig())
    for mine in (*network.convs, network.classify):
        theirs = torch.nn.Conv2d(mine.in_channels, mine.out_channels, mine.kernel_size)
        assert mine.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.1)
        assert mine.bias.abs().max() <= mine.weight[0].numel() ** -0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "2019"}, "variant is '2019'"),
        ({"channels": 0}, "channels is 0"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"longest_side": 0}, "longest_side is 0"),
        ({"min_labels": 101}, "min_labels is 101; it must be at most channels, 100"),
        ({"learning_rate": -0.1}, "learning_rate is -0.1; it must be finite, at least 0"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be below 1, at least 0"),
        ({"continuity": float("nan")}, "continuity is nan"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureClusteringConfig(**values)  # type: ignore[arg-type]


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"not \[3, height, width\]"):
        FeatureClustering(SMALL).partition(torch.zeros(1, 8, 8))
    with pytest.raises(ConfigError, match="num_levels is 0"):
        FeatureClustering(SMALL).partitions(torch.zeros(3, 8, 8), num_levels=0)


def test_it_is_opened_by_name() -> None:
    opened = open_segmenter("feature_clustering")
    assert isinstance(opened.segmenter, FeatureClustering)
    assert opened.supervision == "none"
