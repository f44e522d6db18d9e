import pytest
import torch
from torch import nn

from segan import config, networks
from segan.networks import WNetNetwork, WNetNetworkConfig

SMALL = WNetNetworkConfig(width=4, depth=2, dropout=0.0)


def layers(network: nn.Module, kind: type, size: int) -> list:
    return [m for m in network.modules() if isinstance(m, kind) and m.kernel_size == (size, size)]


def test_the_pair_has_the_papers_46_convolutions_in_18_modules():
    with torch.device("meta"):
        pair = [
            WNetNetwork(WNetNetworkConfig(), 64),
            WNetNetwork(WNetNetworkConfig(), 3, in_regions=64),
        ]
    count = 0
    for network in pair:
        modules = [network.first, *network.down, *network.across]
        assert len(modules) == 9
        in_modules = sum(len(layers(m, nn.Conv2d, 3)) for m in modules)
        count += in_modules + len(layers(network, nn.ConvTranspose2d, 2)) + 1
    assert count == 46


def test_channels_and_separable_modules_are_those_of_figure_2():
    with torch.device("meta"):
        network = WNetNetwork(WNetNetworkConfig(), 20)
    modules = [network.first, *network.down, *network.across]
    widths, separable = [], []
    for module in modules:
        convolutions = layers(module, nn.Conv2d, 3)
        separable.append(all(c.groups == c.in_channels for c in convolutions))
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
        widths.append(norms[0].num_features)
    assert widths == [64, 128, 256, 512, 1024, 512, 256, 128, 64]
    assert separable == [False] + 7 * [True] + [False]


def test_every_convolution_of_a_module_is_rectified_before_its_norm():
    kinds = [type(layer).__name__ for layer in WNetNetwork(SMALL, 3).first]
    assert kinds == ["Conv2d", "ReLU", "BatchNorm", "Conv2d", "ReLU", "BatchNorm"]


def test_logits_may_be_negative_and_have_the_size_of_the_input():
    torch.manual_seed(0)
    logits = networks.build(SMALL, out_channels=5)(torch.rand(2, 3, 16, 24))
    assert logits.shape == (2, 5, 16, 24)
    assert bool((logits < 0).any())
    assert bool((logits > 0).any())


def test_dropout_acts_in_training_alone_and_below_full_resolution():
    network = WNetNetwork(WNetNetworkConfig(width=4, depth=2, dropout=0.5), 3)
    images = torch.rand(1, 3, 16, 16)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))
    dropped = [any(isinstance(m, nn.Dropout2d) for m in module) for module in network.across]
    assert dropped == [True, False]


@pytest.mark.parametrize("regions", [3, 7])
def test_a_decoder_takes_regions_as_they_are(regions):
    decoder = WNetNetwork(SMALL, 3, in_regions=regions).eval()
    seen = []
    decoder.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    given = torch.rand(1, regions, 8, 8)
    assert decoder(given).shape == (1, 3, 8, 8)
    assert torch.equal(seen[0], given)


@pytest.mark.parametrize("norm", ["batch", "channel", "none"])
def test_norms_build_by_name(norm):
    tree = {"type": "wnet", "width": 4, "depth": 1, "norm": norm}
    network = networks.build(config.build(networks.SegmenterNetworkConfig, tree), out_channels=2)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 2, 8, 8)
