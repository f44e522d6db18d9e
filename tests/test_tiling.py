from itertools import pairwise

import pytest
import torch

from segan.errors import ConfigError
from segan.tiling import ALIGNMENT, Tiling, blended, grid, spans, stitched, tiles

TILING = Tiling(side=160, overlap=60)
SIZES = [(100, 90), (160, 161), (333, 520), (1001, 170)]


@pytest.mark.parametrize("length", [1, 159, 160, 161, 200, 320, 777, 5000])
def test_tiles_cover_an_axis_start_aligned_and_overlap_enough(length):
    found = spans(length, TILING)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(start % ALIGNMENT == 0 for start, _ in found)
    assert all(stop - start < TILING.side + ALIGNMENT for start, stop in found)
    assert all(before[1] - after[0] >= TILING.overlap for before, after in pairwise(found))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("size", SIZES)
def test_blending_what_agrees_changes_nothing(size):
    values = torch.rand(size, generator=torch.Generator().manual_seed(0))
    result = blended(lambda tile: values[tile.y0 : tile.y1, tile.x0 : tile.x1], size, TILING)
    torch.testing.assert_close(result, values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_stitching_what_agrees_changes_nothing(size):
    labels = torch.randint(0, 9, size, generator=torch.Generator().manual_seed(0))
    result = stitched(lambda tile: labels[tile.y0 : tile.y1, tile.x0 : tile.x1], size, TILING)
    assert torch.equal(result, labels.int())


def test_a_third_of_the_overlap_from_the_edge_counts_for_nothing():
    """Tiles wrong in a rim as wide as that, as networks are, still give the right picture."""
    size, rim = (400, 420), TILING.overlap // 3
    values = torch.rand(size, generator=torch.Generator().manual_seed(0))

    def wrong_at_edges(tile):
        found = values[tile.y0 : tile.y1, tile.x0 : tile.x1].clone()
        if tile.y0 > 0:
            found[:rim] = 9
        if tile.x0 > 0:
            found[:, :rim] = 9
        if tile.y1 < size[0]:
            found[-rim:] = 9
        if tile.x1 < size[1]:
            found[:, -rim:] = 9
        return found

    torch.testing.assert_close(blended(wrong_at_edges, size, TILING), values, atol=1e-5, rtol=0)
    labels = stitched(lambda tile: (9 * wrong_at_edges(tile)).int(), size, TILING)
    assert torch.equal(labels, (9 * values).int())


def test_blending_passes_gradually_from_tile_to_tile():
    tiling = Tiling(side=64, overlap=32)
    first, second = spans(96, tiling)
    assert (first, second) == ((0, 64), (32, 96))
    size = (10, 96)
    result = blended(lambda tile: torch.full((10, 64), float(tile.x0 > 0)), size, tiling)
    assert (result[0].diff() >= 0).all()
    assert result[0].diff().max() < 0.11
    assert result[0, 0] == 0
    assert result[0, -1] == 1


def test_small_pictures_are_one_tile():
    assert tiles((50, 60), TILING) == [(0, 0, 60, 50)]


@pytest.mark.parametrize("size", SIZES)
def test_grids_hold_each_pixel_once(size):
    count = torch.zeros(size)
    for window in grid(size, 97):
        count[window.y0 : window.y1, window.x0 : window.x1] += 1
    assert (count == 1).all()


def test_tiles_that_overlap_too_much_are_refused():
    with pytest.raises(ConfigError, match="tiles of 64 pixels cannot overlap by 40; give tiles of"):
        Tiling(side=64, overlap=40)
