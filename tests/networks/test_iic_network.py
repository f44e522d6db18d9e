import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segan import networks
from segan.networks import IICHead, IICNetwork, IICNetworkConfig, IICTrunk
from segan.networks.iic import sobel

SMALL = IICNetworkConfig(width=4)
QUIRK = IICNetworkConfig(width=4, padding="authors")


def test_trunk_is_the_authors_vgg_like_stack():
    with torch.device("meta"):
        trunk = IICTrunk(IICNetworkConfig())
    found = [
        "pool" if isinstance(m, nn.MaxPool2d) else (m.out_channels, m.dilation[0])
        for m in trunk.layers
        if isinstance(m, nn.Conv2d | nn.MaxPool2d)
    ]
    assert found == [(64, 1), (128, 1), "pool", (256, 1), (256, 1), (512, 2), (512, 2)]
    assert trunk.layers[0].in_channels == 5
    assert all(m.bias is None for m in trunk.layers if isinstance(m, nn.Conv2d))


def test_authors_padding_loses_four_pixels_and_the_head_gains_two():
    features = IICTrunk(QUIRK)(torch.rand(1, 3, 128, 128))
    assert features.shape[-2:] == (60, 60)
    head = IICHead(QUIRK, features.shape[1], 3)
    weight = head.weight[0]
    assert F.conv2d(features, weight, padding=1).shape[-2:] == (62, 62)


def test_authors_rim_says_nothing():
    torch.manual_seed(0)
    regions = networks.build(QUIRK, out_channels=3).eval()(torch.rand(1, 3, 64, 64)).softmax(1)
    torch.testing.assert_close(regions[..., 0, 0], torch.full((1, 3), 1 / 3))
    assert regions.shape == (1, 3, 64, 64)
    torch.testing.assert_close(regions.sum(1), torch.ones(1, 64, 64))


def test_authors_probabilities_are_stretched_after_the_softmax():
    torch.manual_seed(0)
    head = IICHead(QUIRK, 8, 4)
    features = torch.randn(2, 8, 10, 12)
    expected = F.interpolate(
        F.conv2d(features, head.weight[0], padding=1).softmax(1), size=(31, 40), mode="bilinear"
    )
    torch.testing.assert_close(head(features, (31, 40)).softmax(1), expected)


@pytest.mark.parametrize("side", [2, 6, 10, 14])
def test_pictures_smaller_than_what_the_authors_layers_take_away_have_regions(side):
    regions = networks.build(QUIRK, out_channels=3).eval()(torch.rand(1, 3, side, 40))
    assert regions.shape == (1, 3, side, 40)
    assert bool(regions.isfinite().all())


def test_same_padding_keeps_half_the_size():
    assert IICTrunk(SMALL)(torch.rand(1, 3, 64, 96)).shape == (1, 32, 32, 48)


def test_sobel_sees_a_step_in_its_direction_alone():
    images = torch.zeros(1, 3, 8, 8)
    images[..., 4:] = 1
    across, down = sobel(images)[0]
    assert float(across[:, 3:5].min()) == pytest.approx(4.0)
    assert float(across[:, :3].abs().max()) == 0.0
    assert float(down.abs().max()) == pytest.approx(0.0, abs=1e-6)


def test_the_sub_head_with_the_lowest_loss_is_used():
    torch.manual_seed(0)
    network = IICNetwork(IICNetworkConfig(width=4, sub_heads=3), 5).eval()
    images = torch.rand(1, 3, 16, 16)
    head, features = network.head, network.trunk(images)
    every = head.all_regions(features, (16, 16))
    for best in range(3):
        losses = torch.zeros(3)
        losses[best] = -1.0
        for _ in range(400):
            head.note(losses)
        torch.testing.assert_close(network(images).softmax(1), every[best])
