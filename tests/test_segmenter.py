"""A network of logits as a partition of pictures of any size."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segan import networks
from segan.networks import UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter


def make(depth: int = 2) -> MaskSegmenter:
    torch.manual_seed(0)
    network = networks.build(UNetConfig(width=4, depth=depth))
    return MaskSegmenter(network, stride=network.stride).eval()


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (5, 3), (1, 1), (4, 31)])
def test_regions_of_any_size_sum_to_one(size):
    regions = make()(torch.rand(2, 3, *size))
    assert regions.shape == (2, 2, *size)
    assert regions.dtype == torch.float32
    torch.testing.assert_close(regions.sum(1), torch.ones(2, *size))
    assert bool((regions >= 0).all())


def test_padding_replicates_edges_and_is_cut_off():
    segmenter = make()
    images = torch.rand(1, 3, 13, 10)
    padded = F.pad(images, (0, 2, 0, 3), mode="replicate")
    torch.testing.assert_close(segmenter(images), segmenter(padded)[..., :13, :10])


def test_foreground_is_the_region_of_positive_logits():
    class Brightness(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 20 * (images.mean(1, keepdim=True) - 0.5)

    segmenter = MaskSegmenter(Brightness(), stride=1)
    images = torch.zeros(1, 3, 2, 2)
    images[..., 0] = 1
    regions = segmenter(images)
    assert segmenter.foreground == 1
    assert torch.equal(regions.argmax(1), torch.tensor([[[1, 0], [1, 0]]]))
    torch.testing.assert_close(segmenter.mask(images), regions[:, 1:])


def test_boxes_change_nothing_for_a_learned_segmenter():
    segmenter = make()
    images = torch.rand(2, 3, 16, 16)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2)
    assert torch.equal(segmenter.forward_in_boxes(images, boxes), segmenter(images))


def test_gradients_reach_every_weight():
    segmenter = make().train()
    segmenter(torch.rand(2, 3, 19, 21))[:, 1].mean().backward()
    for name, parameter in segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    assert any(bool((p.grad != 0).any()) for p in segmenter.parameters() if p.grad is not None)


def test_copies_are_deep():
    segmenter = make()
    images = torch.rand(1, 3, 8, 8)
    before = segmenter(images)
    copied = copy.deepcopy(segmenter)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert torch.equal(segmenter(images), before)
    assert not torch.equal(copied(images), before)


def test_an_abstract_segmenter_says_so():
    with pytest.raises(NotImplementedError):
        Segmenter()(torch.rand(1, 3, 4, 4))
