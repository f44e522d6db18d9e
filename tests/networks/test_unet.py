"""The U-Net: sizes, counts, locality, precision and export."""

import pytest
import torch
from torch import nn

from segan import networks
from segan.networks import UNet, UNetConfig
from segan.networks.blocks import conv_block, make_norm, normalise

NORMS = ("group", "channel", "none")


def make(**settings: object) -> UNet:
    torch.manual_seed(0)
    return networks.build(UNetConfig(**settings)).eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_logits_have_the_size_of_the_images(norm, depth):
    network = make(width=4, depth=depth, norm=norm)
    assert network.stride == 2**depth
    images = torch.rand(2, 3, 2 * network.stride, 3 * network.stride)
    logits = network(images)
    assert logits.shape == (2, 1, *images.shape[-2:])
    assert logits.isfinite().all()
    several = networks.build(UNetConfig(width=4, depth=depth, norm=norm), out_channels=5)
    assert several(images).shape == (2, 5, *images.shape[-2:])


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_does_not_depend_on_its_batch(norm):
    """No statistic of the batch, in training neither: real and fake batches differ."""
    network = make(width=8, depth=2, norm=norm).train()
    images = torch.rand(3, 3, 16, 16)
    together = network(images)
    torch.testing.assert_close(network(images[:1]), together[:1], atol=1e-5, rtol=1e-5)
    assert not any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()
    )
    assert not list(network.buffers())


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts():
    """By hand: 3x3 convolutions with bias, two per block, and the 1x1 head."""

    def block(inputs: int, outputs: int) -> int:
        return 9 * (inputs + outputs) * outputs + 2 * outputs

    expected = block(3, 8) + block(8, 16) + block(16, 32)
    expected += block(32 + 16, 16) + block(16 + 8, 8) + (8 + 1)
    assert count(make(width=8, depth=2, norm="none")) == expected == 29_761
    per_norm = 2 * 2 * (8 + 16 + 32 + 16 + 8)  # scale and offset, twice a block
    for norm in ("group", "channel"):
        assert count(make(width=8, depth=2, norm=norm)) == expected + per_norm


@pytest.mark.parametrize("channels", [4, 8, 12, 20, 28, 44, 100])
def test_group_norm_fits_every_width(channels):
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert channels % norm.num_groups == 0
    assert channels // norm.num_groups >= min(8, channels)


def test_width_of_groups_is_8_where_it_divides():
    for channels in (8, 16, 32, 64, 128):
        norm = make_norm("group", channels)
        assert isinstance(norm, nn.GroupNorm)
        assert norm.num_channels // norm.num_groups == 8


def test_channel_norm_normalises_each_pixel_alone():
    features = torch.randn(2, 12, 5, 7) * 3 + 1
    found = make_norm("channel", 12)(features)
    assert found.shape == features.shape
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 5, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(1, unbiased=False), torch.ones(2, 5, 7), atol=1e-3, rtol=0)
    changed = features.clone()
    changed[..., 0, 0] = 9
    moved = make_norm("channel", 12)(changed) != found
    assert not moved[..., 1:, :].any()


@pytest.mark.parametrize("norm", ["channel", "none"])
def test_without_image_statistics_far_pixels_do_not_matter(norm):
    network = make(width=4, depth=1, norm=norm, inputs="range")
    images = torch.rand(1, 3, 64, 64)
    changed = images.clone()
    changed[..., :4] = 1 - changed[..., :4]
    difference = (network(images) - network(changed)).abs()
    assert difference[..., :4].max() > 0
    # Receptive field of two blocks at full and one at half resolution: below 20 pixels.
    assert torch.equal(difference[..., 24:], torch.zeros(1, 1, 64, 40))


@pytest.mark.parametrize("norm", NORMS)
def test_features_keep_their_scale_through_a_block(norm):
    torch.manual_seed(0)
    features = torch.randn(4, 16, 24, 24)
    found = conv_block(16, 16, norm)(features)
    assert 0.3 < float(found.detach().square().mean().sqrt()) < 3


def test_standard_inputs_see_neither_brightness_nor_contrast():
    images = torch.rand(2, 3, 20, 24) * 0.5 + 0.2
    found = normalise(images, "standard")
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((1, 2, 3)), torch.ones(2), atol=0.02, rtol=0)
    torch.testing.assert_close(normalise(0.5 * images + 0.1, "standard"), found, atol=0.1, rtol=0)
    # A flat picture has no contrast to amplify.
    noise = 0.5 + 1e-3 * torch.randn(1, 3, 20, 24)
    assert float(normalise(noise, "standard").abs().max()) < 0.5
    assert torch.equal(
        normalise(torch.tensor([0.0, 0.5, 1.0]), "range"), torch.tensor([-1.0, 0, 1])
    )


def test_logits_are_fp32_under_bf16_autocast_and_float64_in_float64():
    network = make(width=4, depth=1)
    images = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).dtype == torch.float32
    assert network.double()(images.double()).dtype == torch.float64


def test_export_with_free_sizes():
    network = make(width=4, depth=2, norm="group")
    batch, height, width = (torch.export.Dim(name, min=2) for name in ("n", "h", "w"))
    program = torch.export.export(
        network,
        (torch.rand(2, 3, 16, 24),),
        dynamic_shapes=({0: batch, 2: 4 * height, 3: 4 * width},),
    )
    images = torch.rand(3, 3, 40, 12)
    torch.testing.assert_close(program.module()(images), network(images))
