import pytest
import torch
import torch.nn.functional as F

from segan import config, methods
from segan.data.views import ImageBatch
from segan.losses.ncut import soft_ncut
from segan.methods.wnet import WNet

TINY = {"network": {"width": 4, "depth": 1, "dropout": 0.0}, "num_regions": 3, "size": 16}


def make(**changes) -> WNet:
    torch.manual_seed(0)
    return methods.build(config.build(methods.MethodConfig, {"type": "wnet", **TINY, **changes}))


def batch(count: int = 2) -> ImageBatch:
    return ImageBatch(torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def test_algorithm_1_updates_the_encoder_on_the_cut_and_both_on_the_reconstruction():
    phases = [(phase.name, phase.trains) for phase in make().phases]
    assert phases == [("ncut", ("segmenter",)), ("reconstruction", ("segmenter", "decoder"))]
    assert [phase.name for phase in make(joint=True).phases] == ["joint"]


def test_cut_is_equation_2_over_the_number_of_regions():
    method, images = make(radius=3, sigma_intensity=0.2), batch()
    regions = method.segmenter(images.images)
    expected = soft_ncut(regions, images.images, radius=3, sigma_intensity=0.2, sigma_distance=4.0)
    found = method("ncut", images)
    torch.testing.assert_close(found.terms["ncut"], expected.detach() / 3)
    assert 0 < float(found.terms["ncut"]) < 1


def test_reconstruction_is_zero_for_a_decoder_that_rebuilds_the_picture():
    method, images = make(), batch()
    method.decoder.forward = lambda _: images.images
    assert float(method("reconstruction", images).total) == 0.0
    method.decoder.forward = lambda _: torch.zeros_like(images.images)
    expected = F.mse_loss(torch.zeros_like(images.images), images.images)
    torch.testing.assert_close(method("reconstruction", images).total, expected)


def test_joint_total_is_the_weighted_sum_of_its_terms():
    found = make(joint=True, ncut=2.0, reconstruction=3.0)("joint", batch())
    expected = 2 * found.terms["ncut"] + 3 * found.terms["reconstruction"]
    torch.testing.assert_close(found.total.detach(), expected)


def test_batch_norm_ties_the_batch_together_and_channel_norm_does_not():
    assert make().batch_statistics
    assert not make(network=TINY["network"] | {"norm": "channel"}).batch_statistics


@pytest.mark.parametrize("norm", ["batch", "channel"])
def test_both_losses_fall_on_a_picture_of_two_colours(norm):
    images = torch.zeros(2, 3, 16, 16)
    images[..., 8:] = 0.8
    images += 0.02 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    method = make(network=TINY["network"] | {"norm": norm}, num_regions=2)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    history = {"ncut": [], "reconstruction": []}
    for _ in range(100):
        for phase in method.phases:
            optimizer.zero_grad(set_to_none=True)
            found = method(phase.name, ImageBatch(images))
            found.total.backward()
            optimizer.step()
            history[phase.name].append(float(found.total.detach()))
    assert history["ncut"][-1] < 0.75 * history["ncut"][0]
    assert history["reconstruction"][-1] < 0.5 * history["reconstruction"][0]
    labels = method.segmenter.eval()(images).argmax(1)[0]
    left, right = labels[:, 1:7], labels[:, 9:15]
    assert bool((left == left[0, 0]).all())
    assert bool((right == right[0, 0]).all())
    assert int(left[0, 0]) != int(right[0, 0])
