"""Edge maps on pictures whose edges are known."""

import math

import pytest
import torch
from torch import Tensor

from segan.postprocessing.edges import Edges, boundary_edges, gradient_edges, region_edges


def half_plane(angle: float, size: int = 64) -> Tensor:
    """White on the side that `angle` points to, black on the other; [3, size, size]."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    middle = (size - 1) / 2
    side = (columns - middle) * math.cos(angle) + (rows - middle) * math.sin(angle)
    return side.clamp(-0.5, 0.5).add(0.5).expand(3, size, size)


def test_a_picture_of_one_colour_has_no_edges() -> None:
    edges = gradient_edges(torch.full((3, 20, 30), 0.3))
    assert edges.shape == (20, 30)
    assert float(edges.pixels().max()) < 1e-4


@pytest.mark.parametrize("eighths", range(8))
def test_gradient_is_strongest_on_the_edge_and_knows_its_direction(eighths: int) -> None:
    angle = eighths * math.pi / 8
    edges = gradient_edges(half_plane(angle))
    strength = edges.pixels()[16:48, 16:48]
    assert float(strength.max()) == pytest.approx(1 - math.exp(-4), abs=0.01)
    row, column = divmod(int(strength.argmax()), 32)
    middle = (column - 15.5) * math.cos(angle) + (row - 15.5) * math.sin(angle)
    assert abs(middle) < 1.2
    assert edges.normal is not None
    assert float(edges.normal[32, 32]) == pytest.approx(angle, abs=1e-5)


def test_gradient_sees_colours_of_equal_lightness() -> None:
    image = torch.full((3, 32, 32), 0.5)
    image[:, :, 16:] = torch.tensor([0.85, 0.33, 0.4])[:, None, None]
    edges = gradient_edges(image)
    assert int(edges.right[16].argmax()) == 15
    assert float(edges.right[16].max()) > 0.5


def test_gradient_turns_with_the_picture() -> None:
    image = torch.rand(3, 24, 31, generator=torch.Generator().manual_seed(0))
    edges, turned = gradient_edges(image), gradient_edges(image.transpose(1, 2))
    torch.testing.assert_close(turned.down, edges.right.T, rtol=0, atol=1e-4)
    torch.testing.assert_close(turned.right, edges.down.T, rtol=0, atol=1e-4)


def test_region_edges_are_the_odds_of_differing() -> None:
    regions = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)).softmax(0)
    edges = region_edges(regions)
    for row in range(5):
        for column in range(6):
            here = regions[:, row, column]
            if column < 5:
                expected = 1 - sum(float(here[k] * regions[k, row, column + 1]) for k in range(4))
                assert float(edges.right[row, column]) == pytest.approx(expected, abs=1e-6)
            if row < 4:
                expected = 1 - sum(float(here[k] * regions[k, row + 1, column]) for k in range(4))
                assert float(edges.down[row, column]) == pytest.approx(expected, abs=1e-6)


def test_region_edges_of_certain_regions_are_their_boundaries() -> None:
    regions = torch.zeros(2, 3, 4)
    regions[0, :, :2] = 1
    regions[1, :, 2:] = 1
    edges = region_edges(regions)
    assert torch.equal(edges.right, torch.tensor([[0.0, 1, 0]]).expand(3, 3))
    assert int(edges.down.count_nonzero()) == 0


def test_only_boundaries_keep_their_strength() -> None:
    generator = torch.Generator().manual_seed(0)
    edges = Edges(
        right=torch.rand(6, 6, generator=generator), down=torch.rand(5, 7, generator=generator)
    )
    labels = torch.randint(3, (6, 7), generator=generator)
    kept = boundary_edges(edges, labels)
    for row in range(6):
        for column in range(6):
            differs = bool(labels[row, column] != labels[row, column + 1])
            assert float(kept.right[row, column]) == float(edges.right[row, column]) * differs
    for row in range(5):
        for column in range(7):
            differs = bool(labels[row, column] != labels[row + 1, column])
            assert float(kept.down[row, column]) == float(edges.down[row, column]) * differs


def test_contours_in_pixels_are_one_pixel_wide() -> None:
    labels = torch.zeros(5, 6, dtype=torch.long)
    labels[:, 3:] = 1
    full = Edges(right=torch.ones(5, 5), down=torch.ones(4, 6))
    pixels = boundary_edges(full, labels).pixels()
    assert torch.equal(pixels, (torch.arange(6) == 2).float().expand(5, 6))
