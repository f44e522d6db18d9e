"""Discriminators: shapes of logits, independence of images, precision, sizes refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from segan.errors import ConfigError
from segan.networks import Discriminator, DiscriminatorConfig, MaskDiscriminator


def make(size: int = 24, **settings: object) -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(DiscriminatorConfig(**settings), size)


@pytest.mark.parametrize("size", [16, 17, 23, 48])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_logits_are_one_per_image_or_a_map(size, depth):
    images = torch.rand(2, 3, size, size)
    assert make(size, type="global", width=4, depth=depth)(images).shape == (2, 1)
    assert make(size, type="pooled", width=4, depth=depth)(images).shape == (2, 1)
    side = size // 2**depth
    assert make(size, type="patch", width=4, depth=depth)(images).shape == (2, 1, side, side)


@pytest.mark.parametrize("kind", ["global", "patch", "pooled"])
def test_an_image_does_not_depend_on_its_batch(kind):
    discriminator = make(type=kind, width=4, depth=2)
    images = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(discriminator(images)[1:2], discriminator(images[1:2]))
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    assert not any(isinstance(layer, norms) for layer in discriminator.modules())


def test_patch_logits_see_only_their_part():
    discriminator = make(48, type="patch", width=4, depth=2, inputs="range")
    images = torch.rand(1, 3, 48, 48)
    changed = images.clone()
    changed[..., :8] = 0
    difference = (discriminator(images) - discriminator(changed)).abs()
    assert difference[..., :2].max() > 0
    assert torch.equal(difference[..., 6:], torch.zeros(1, 1, 12, 6))


def test_pooled_logits_do_not_depend_on_where_a_thing_is():
    """A square far from the border, moved by a multiple of the stride, on one colour."""
    discriminator = make(64, type="pooled", width=4, depth=2, inputs="range")
    pictures = torch.full((2, 3, 64, 64), 0.4)
    pictures[0, :, 20:26, 20:26] = 1
    pictures[1, :, 32:38, 28:34] = 1
    first, second = discriminator(pictures)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, discriminator(torch.full((1, 3, 64, 64), 0.4))[0])


def test_parameter_counts():
    def total(discriminator: Discriminator) -> int:
        return sum(parameter.numel() for parameter in discriminator.parameters())

    # Strided 4x4 convolutions, one 3x3, and a linear or 1x1 head; all with bias.
    body = 16 * (3 * 8 + 8 * 16) + 8 + 16 + 9 * 16 * 16 + 16
    assert total(make(24, type="patch", width=8, depth=2)) == body + 16 + 1 == 4_793
    assert total(make(24, type="global", width=8, depth=2)) == body + 16 * 6 * 6 + 1 == 5_353


def test_signals_survive_the_layers_without_normalisation():
    discriminator = make(48, type="patch", width=16, depth=4)
    logits = discriminator(torch.rand(8, 3, 48, 48))
    assert 0.05 < float(logits.detach().std()) < 5


def test_logits_are_fp32_under_bf16_autocast_and_float64_in_float64():
    discriminator = make(width=4, depth=1)
    images = torch.rand(1, 3, 24, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert discriminator(images).dtype == torch.float32
    assert discriminator.double()(images.double()).dtype == torch.float64


def test_too_deep_for_the_images_is_one_line():
    with pytest.raises(ConfigError) as caught:
        make(24, depth=5)
    assert str(caught.value) == (
        "a discriminator of depth 5 is too deep for images of 24 pixels; its depth can be at most 4"
    )
    assert make(24, width=4, depth=4)(torch.rand(1, 3, 24, 24)).shape == (1, 1)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_mask_discriminator_gives_a_score_and_a_map(depth):
    torch.manual_seed(0)
    discriminator = MaskDiscriminator(DiscriminatorConfig(width=4, depth=depth), 24)
    images = torch.rand(3, 3, 24, 24)
    score, mask = discriminator(images)
    assert score.shape == (3, 1)
    assert mask.shape == (3, 1, 24, 24)
    alone = discriminator(images[1:2])
    torch.testing.assert_close(alone, (score[1:2], mask[1:2]))
    with torch.autocast("cpu", torch.bfloat16):
        assert {found.dtype for found in discriminator(images)} == {torch.float32}


@pytest.mark.parametrize("kind", ["global", "pooled"])
def test_a_mask_discriminator_scores_like_a_discriminator_of_the_same_weights(kind):
    """The way back up does not touch the score."""
    torch.manual_seed(0)
    config = DiscriminatorConfig(type=kind, width=4, depth=2)
    both, plain = MaskDiscriminator(config, 16), Discriminator(config, 16)
    copied = [layer for layer in plain.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    own = [*both.encoder.down, both.encoder.deepest, both.encoder.score]
    for target, source in zip(copied, own, strict=True):
        target.load_state_dict(source.state_dict())
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(both(images)[0], plain(images))
    both(images)[0].sum().backward()
    assert all(p.grad is None for p in both.decoder.parameters())


def test_a_mask_discriminator_can_learn_where_a_square_is():
    torch.manual_seed(0)
    discriminator = MaskDiscriminator(DiscriminatorConfig(width=8, depth=2), 16)
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    mask = torch.zeros(8, 1, 16, 16)
    for n in range(8):
        mask[n, :, n : n + 6, 8 - n : 14 - n] = 1
    images = (0.3 + 0.4 * mask).expand(-1, 3, -1, -1)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(discriminator(images)[1], mask)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.15
