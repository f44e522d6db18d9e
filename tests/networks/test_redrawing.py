"""The networks of ReDO: ranges, what they see, what they do not, sizes refused."""

import pytest
import torch
from torch import nn

from segan.errors import ConfigError
from segan.networks import (
    NoiseEncoder,
    Redrawer,
    RedrawerConfig,
    ResidualConfig,
    ResidualDiscriminator,
)


@pytest.mark.parametrize(("size", "depth"), [(16, 2), (24, 3), (20, 1)])
def test_a_redrawer_paints_the_whole_picture_in_range(size, depth):
    torch.manual_seed(0)
    redrawer = Redrawer(RedrawerConfig(width=4, depth=depth), size, num_noise=5)
    painted = redrawer(torch.rand(2, 1, size, size), 5 * torch.randn(2, 5))
    assert painted.shape == (2, 3, size, size)
    assert painted.dtype == torch.float32
    assert 0 <= float(painted.min()) < 0.4 < 0.6 < float(painted.max()) <= 1


def test_a_redrawer_follows_mask_and_noise_picture_by_picture():
    torch.manual_seed(0)
    redrawer = Redrawer(RedrawerConfig(width=4, depth=2), 16, num_noise=5)
    mask, noise = torch.rand(3, 1, 16, 16), torch.randn(3, 5)
    painted = redrawer(mask, noise)
    torch.testing.assert_close(redrawer(mask[1:2], noise[1:2]), painted[1:2])
    assert float((redrawer(mask, -noise) - painted).abs().mean().detach()) > 0.01
    assert float((redrawer(1 - mask, noise) - painted).abs().mean().detach()) > 0.001


@pytest.mark.parametrize("size", [16, 17, 24])
def test_readers_give_one_answer_per_picture_whatever_its_batch(size):
    torch.manual_seed(0)
    config = ResidualConfig(width=4, depth=2)
    images = torch.rand(3, 3, size, size)
    discriminator = ResidualDiscriminator(config, size)
    encoder = NoiseEncoder(config, size, num_regions=2, num_noise=5)
    assert discriminator(images).shape == (3, 1)
    assert encoder(images).shape == (3, 2, 5)
    for network in (discriminator, encoder):
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]))
        norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
        assert not any(isinstance(layer, norms) for layer in network.modules())


def test_outputs_are_fp32_under_autocast():
    config, images = ResidualConfig(width=4, depth=2), torch.rand(1, 3, 16, 16)
    networks = [
        ResidualDiscriminator(config, 16),
        NoiseEncoder(config, 16, num_regions=2, num_noise=5),
        lambda images: Redrawer(RedrawerConfig(width=4), 16, num_noise=2)(
            images[:, :1], torch.randn(1, 2)
        ),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        assert [network(images).dtype for network in networks] == 3 * [torch.float32]


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="must be a multiple of 8"):
        Redrawer(RedrawerConfig(depth=3), 20, num_noise=2)
    with pytest.raises(ConfigError, match="needs at least 32"):
        ResidualDiscriminator(ResidualConfig(depth=5), 16)
    with pytest.raises(ConfigError, match="needs at least 32"):
        NoiseEncoder(ResidualConfig(depth=5), 16, num_regions=2, num_noise=1)
