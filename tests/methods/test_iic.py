import math

import pytest
import torch

from segan import config, methods
from segan.data.views import PairBatch
from segan.methods.iic import IIC, PairConfig, inverted, mirrored, recoloured, warp

TINY = {
    "network": {"width": 4},
    "num_regions": 2,
    "num_overclusters": 4,
    "size": 16,
    "radius": 1,
}


def make(**changes) -> IIC:
    torch.manual_seed(0)
    return methods.build(config.build(methods.MethodConfig, {"type": "iic", **TINY, **changes}))


def pairs(count: int = 4, size: int = 16) -> PairBatch:
    random = torch.Generator().manual_seed(1)
    noise = 2 * torch.rand(2, count, 4, generator=random) - 1
    flip = (torch.arange(count) % 2).float()
    return PairBatch(torch.rand(count, 3, size, size, generator=random), *noise, flip)


def test_heads_take_turns_per_batch_or_per_so_many_steps():
    def order(steps: int) -> list[str]:
        phases = make(turn_steps=steps).phases
        return [phase.name[0] for step in range(8) for phase in phases if phase.due(step)]

    assert order(1) == list("ococococ")
    assert order(3) == list("ooocccoo")
    assert [phase.name for phase in make(num_overclusters=0).phases] == ["cluster"]


def test_both_heads_share_one_optimiser_and_the_trunk():
    phases = {phase.name: phase for phase in make().phases}
    assert {phase.optimizer for phase in phases.values()} == {"adam"}
    assert phases["overcluster"].trains == ("trunk", "overclusters")
    assert phases["cluster"].trains == ("segmenter",)


def test_mirroring_back_is_exact():
    method, batch = make(), pairs()
    maps = torch.rand(4, 5, 16, 16)
    assert torch.equal(method.back(mirrored(maps, method.flips(batch)), batch), maps)


def test_warping_back_is_exact_where_both_views_see():
    settings = {"rotation": 20.0, "zoom": 0.2, "shift": 0.1}
    method, batch = make(pair=settings), pairs(size=64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    # Bilinear look-up is exact on planes, so what is left is the error of the geometry.
    planes = torch.stack([x, y, x + 2 * y])[None].expand(4, -1, -1, -1) / 64
    moved = mirrored(warp(planes, method.motion(batch)), method.flips(batch))
    seen = warp(torch.ones(4, 1, 64, 64), method.motion(batch))
    again = method.back(moved, batch)
    visible = method.back(mirrored((seen > 0.999).float(), method.flips(batch)), batch) > 0.999
    assert 0.3 < float(visible.float().mean()) < 1
    error = ((again - planes).abs() * visible).max()
    assert float(error) < 1e-4


def test_inverse_motion_undoes_a_motion():
    motion = make(pair={"rotation": 45.0, "zoom": 0.5, "shift": 0.3}).motion(pairs())
    last = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 1, 3)
    whole = torch.cat([motion, last], 1) @ torch.cat([inverted(motion), last], 1)
    torch.testing.assert_close(whole, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)


def test_no_noise_leaves_colours_as_they_are():
    images = torch.rand(3, 3, 8, 8)
    same = recoloured(images, torch.zeros(3, 4), PairConfig())
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_hue_turns_the_colour_circle():
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 2, 2)
    noise = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    turned = recoloured(red, noise, PairConfig(hue=1 / 3))
    torch.testing.assert_close(turned[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_saturation_and_contrast_pull_towards_gray():
    images = torch.rand(1, 3, 8, 8) * 0.5 + 0.25
    pair = PairConfig(saturation=0.999, hue=0.0)
    gray = recoloured(images, torch.tensor([[0.0, 0.0, -1.0, 0.0]]), pair)
    assert float(gray.amax(1).sub(gray.amin(1)).max()) < 0.01
    flat = recoloured(images, torch.tensor([[0.0, -1.0, 0.0, 0.0]]), PairConfig(contrast=0.999))
    assert float(flat.std()) < 0.01


def test_perfect_clusters_reach_log_k():
    """Regions that both views agree on, in equal shares, without displacement."""
    method = make(radius=0, num_overclusters=0, pair={"flip": False})
    sure = torch.zeros(4, 2, 16, 16)
    sure[:, 0, :, :8] = 1
    sure[:, 1, :, 8:] = 1
    method.network.head.all_regions = lambda *_: [sure]
    found = method("cluster", pairs())
    assert float(found.terms["information"]) == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.parametrize("collapsed", [False, True])
def test_information_rises_on_two_textures(collapsed):
    random = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 16, 16, generator=random) * 0.1
    images[:, :, :, 8:] += 0.7
    pair = {"hue": 0.0, "brightness": 0.1, "contrast": 0.1}
    method = make(collapsed=collapsed, num_overclusters=0, pair=pair)
    batch = pairs(8)._replace(images=images)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(30):
        for phase in method.phases:
            optimizer.zero_grad(set_to_none=True)
            found = method(phase.name, batch)
            found.total.backward()
            optimizer.step()
    # log 2 at most; displacement across the edge, one pixel in sixteen, costs about .18 of it.
    assert float(found.terms["information"]) > 0.45
