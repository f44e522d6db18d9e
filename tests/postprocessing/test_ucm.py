"""Ultrametric contour maps on pictures with known regions, and their nesting on any."""

import importlib
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from segan.data.images import read_image
from segan.errors import ConfigError
from segan.postprocessing.crf import CrfConfig, dense_crf
from segan.postprocessing.edges import Edges, boundary_edges, gradient_edges, region_edges
from segan.postprocessing.refined import EdgePartitions, RefinedPartitions, SmoothedRegions
from segan.postprocessing.ucm import Hierarchy, partitions, ultrametric_contour_map
from segan.segmenter import Segmenter


@pytest.fixture(autouse=True)
def _higra(request: pytest.FixtureRequest) -> None:
    if "absent" not in request.node.name:
        pytest.importorskip("higra", reason="higra is not installed: pip install segan[ucm]")


def noise(height: int = 40, width: int = 50, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def two_colours() -> Tensor:
    image = torch.tensor([0.9, 0.2, 0.1])[:, None, None].repeat(1, 40, 60)
    image[:, :, 23:] = torch.tensor([0.1, 0.3, 0.8])[:, None, None]
    return image


def same_partition(first: Tensor, second: Tensor) -> bool:
    pairs = torch.stack([first.flatten(), second.flatten()]).unique(dim=1).shape[1]
    return pairs == len(first.unique()) == len(second.unique())


def is_union_of(coarse: Tensor, fine: Tensor) -> bool:
    """Whether no region of `fine` lies in two of `coarse`."""
    pairs = torch.stack([coarse.flatten(), fine.flatten()]).unique(dim=1).shape[1]
    return pairs == len(fine.unique())


def num_pieces(labels: Tensor) -> int:
    return sum(int(ndimage.label(labels.numpy() == label)[1]) for label in labels.unique())


def components(edges: Edges, threshold: float) -> Tensor:
    """Regions that edges above a threshold separate, by flooding one pixel after another."""
    height, width = edges.shape
    labels = torch.full((height, width), -1)
    for start in range(height * width):
        row, column = divmod(start, width)
        if labels[row, column] >= 0:
            continue
        labels[row, column] = start
        stack = [(row, column)]
        while stack:
            row, column = stack.pop()
            for below, beside, strengths in (
                (0, 1, edges.right),
                (0, -1, edges.right),
                (1, 0, edges.down),
                (-1, 0, edges.down),
            ):
                other = row + below, column + beside
                inside = 0 <= other[0] < height and 0 <= other[1] < width
                between = min(row, other[0]), min(column, other[1])
                if inside and labels[other] < 0 and float(strengths[between]) <= threshold:
                    labels[other] = start
                    stack.append(other)
    return labels


@pytest.fixture(params=["noise", "no directions"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    edges = gradient_edges(noise(), scales=(1.0,))
    if request.param == "no directions":
        edges = region_edges(noise().softmax(0))
    return ultrametric_contour_map(edges)


def test_levels_are_nested_connected_partitions_from_coarse_to_fine(hierarchy: Hierarchy) -> None:
    levels = partitions(hierarchy, num_levels=30)
    assert len(levels) == 30
    counts = [len(labels.unique()) for labels in levels]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    for labels in levels:
        assert labels.dtype == torch.int32
        assert labels.shape == (40, 50)
        assert torch.equal(labels.unique(), torch.arange(int(labels.max()) + 1, dtype=torch.int32))
        assert num_pieces(labels) == len(labels.unique())
    for coarse, fine in pairwise([*levels, hierarchy.leaves]):
        assert is_union_of(coarse, fine)


def test_thresholds_of_the_contour_map_are_the_partitions(hierarchy: Hierarchy) -> None:
    levels = partitions(hierarchy, num_levels=9)
    for labels, threshold in zip(
        levels, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], strict=True
    ):
        assert same_partition(labels, components(hierarchy.saliency, threshold))


def test_any_number_of_regions_can_be_asked_for(hierarchy: Hierarchy) -> None:
    num_leaves = int(hierarchy.leaves.max()) + 1
    previous = hierarchy.with_regions(1)
    for num_regions in (1, 2, 3, 7, 20, num_leaves, num_leaves + 5):
        labels = hierarchy.with_regions(num_regions)
        assert len(labels.unique()) == min(num_regions, num_leaves)
        assert num_pieces(labels) == len(labels.unique())
        assert is_union_of(previous, labels)
        previous = labels


def test_contours_are_zero_inside_regions_and_positive_between(hierarchy: Hierarchy) -> None:
    contours, leaves = hierarchy.contours(), hierarchy.leaves
    assert contours.shape == (40, 50)
    assert 0 <= float(contours.min()) <= float(contours.max()) <= 1
    inside = torch.ones(40, 50, dtype=torch.bool)
    inside[:, :-1] &= leaves[:, 1:] == leaves[:, :-1]
    inside[:-1] &= leaves[1:] == leaves[:-1]
    assert int(contours[inside].count_nonzero()) == 0
    assert bool((contours[~inside] > 0).all())


def test_two_colours_are_two_halves() -> None:
    image = two_colours()
    halves = (torch.arange(60) >= 23).long().expand(40, 60)
    hierarchy = ultrametric_contour_map(gradient_edges(image))
    assert same_partition(hierarchy.with_regions(2), halves)
    assert same_partition(hierarchy.at_threshold(0.5), halves)
    line = hierarchy.contours() > 0.5
    assert torch.equal(line, (torch.arange(60) == 22).expand(40, 60))


def test_boundaries_of_labels_are_kept_to_the_pixel() -> None:
    labels = torch.zeros(30, 40, dtype=torch.long)
    labels[10:20, 5:17] = 1
    labels[15:28, 25:33] = 2
    edges = boundary_edges(gradient_edges(noise(30, 40)), labels)
    hierarchy = ultrametric_contour_map(edges)
    assert same_partition(hierarchy.leaves, labels)
    assert same_partition(hierarchy.at_threshold(0), labels)
    assert len(hierarchy.at_threshold(1).unique()) == 1


def test_an_edge_that_runs_across_the_arc_does_not_count() -> None:
    """Two halves whose edge says its normal lies along the boundary: no contour is left."""
    right, down = torch.zeros(20, 19), torch.zeros(19, 20)
    right[:, 9] = 0.8
    for angle, expected in ((0.0, 0.8), (torch.pi / 2, 0.0), (torch.pi / 4, 0.8 * 0.5**0.5)):
        edges = Edges(right=right, down=down, normal=torch.full((20, 20), angle))
        saliency = ultrametric_contour_map(edges).saliency.right
        assert float(saliency[:, 9].min()) == pytest.approx(expected, abs=1e-6)
        assert float(saliency[:, 9].max()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 9), (9, 1), (2, 2), (3, 17)])
def test_thin_pictures_are_partitioned(shape: tuple[int, int]) -> None:
    hierarchy = ultrametric_contour_map(gradient_edges(noise(*shape)))
    assert hierarchy.leaves.shape == shape
    for threshold in (0.0, 0.1, 0.5):
        labels = hierarchy.at_threshold(threshold)
        assert same_partition(labels, components(hierarchy.saliency, threshold))


def test_absent_higra_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name == "higra":
            raise ModuleNotFoundError(name)
        return found(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(ConfigError, match=r"pip install 'segan\[ucm\]'"):
        ultrametric_contour_map(gradient_edges(noise()))


# --- the segmenters ------------------------------------------------------------------------------


class Reds(Segmenter):
    """Three regions by how red a pixel is; the third never wins."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, :1]
        return torch.cat([0.9 * red, 0.9 * (1 - red), torch.full_like(red, 0.1)], dim=1)


def refined(segmenter: Segmenter, *, crf: bool, **settings: Any) -> RefinedPartitions:
    smooth = SmoothedRegions(segmenter, CrfConfig()) if crf else segmenter
    return RefinedPartitions(smooth, **settings)


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("edges", ["gradient", "regions"])
def test_refined_partitions_of_two_colours(crf: bool, edges: Any) -> None:
    image = two_colours()
    halves = (torch.arange(60) >= 23).long().expand(40, 60)
    segmenter = refined(Reds(), crf=crf, edges=edges, threshold=0.1)
    assert same_partition(segmenter.partition(image), halves)
    levels = segmenter.partitions(image, num_levels=4)
    assert len(levels) == 4
    assert same_partition(levels[-1], halves)
    assert {labels.dtype for labels in levels} == {torch.int32}
    contours = segmenter.contours(image)
    assert torch.equal(contours > 0.1, (torch.arange(60) == 22).expand(40, 60))
    regions = segmenter(image[None])
    assert regions.shape == (1, 2, 40, 60)
    assert bool((regions.sum(1) == 1).all())
    assert ("crf" in segmenter.postprocessing) == crf


def test_smoothed_regions_are_probabilities_that_the_crf_changed() -> None:
    image = noise()
    found = SmoothedRegions(Reds(), CrfConfig())(image[None])
    torch.testing.assert_close(found.sum(1), torch.ones(1, *image.shape[1:]))
    torch.testing.assert_close(
        found[0], dense_crf(Reds()(image[None])[0], image, config=CrfConfig())
    )
    assert not torch.allclose(found, Reds()(image[None]))


def test_refined_levels_follow_the_boundaries_of_the_regions() -> None:
    image = noise()
    segmenter = RefinedPartitions(Reds())
    labels = Reds()(image[None])[0].argmax(0)
    for level in segmenter.partitions(image, num_levels=5):
        # Every contour lies where the likeliest region changes.
        differs = labels[:, 1:] != labels[:, :-1]
        assert not bool(((level[:, 1:] != level[:, :-1]) & ~differs).any())


def test_with_all_edges_a_contour_that_the_network_missed_counts_half() -> None:
    image = two_colours()
    blind = Given(torch.stack([torch.ones(40, 60), torch.zeros(40, 60)]))
    only = RefinedPartitions(blind).contours(image)
    both = RefinedPartitions(blind, with_all=True)
    assert float(only.max()) == 0
    torch.testing.assert_close(both.contours(image), EdgePartitions().contours(image) / 2)
    assert "all edges" in both.postprocessing
    # Where the network sees the same boundaries, nothing changes.
    seen = RefinedPartitions(Reds()).contours(image)
    torch.testing.assert_close(
        RefinedPartitions(Reds(), with_all=True).contours(image).max(), seen.max()
    )


class Given(Segmenter):
    """Regions fixed beforehand, whatever the picture."""

    def __init__(self, regions: Tensor) -> None:
        super().__init__()
        self.fixed = regions

    def forward(self, images: Tensor) -> Tensor:
        return self.fixed.expand(len(images), *self.fixed.shape)


def test_crf_comes_before_the_boundaries() -> None:
    image = two_colours()
    halves = (torch.arange(60) >= 23).long().expand(40, 60)
    wrong = torch.rand(40, 60, generator=torch.Generator().manual_seed(0)) < 0.2
    second = (halves.bool() ^ wrong) * 0.4 + 0.3
    segmenter = Given(torch.stack([1 - second, second]))
    rough = refined(segmenter, crf=False, threshold=0)
    smooth = refined(segmenter, crf=True, threshold=0)
    assert not same_partition(rough.partition(image), halves)
    assert same_partition(smooth.partition(image), halves)


def test_one_pixel_is_one_region() -> None:
    pixel = torch.full((3, 1, 1), 0.4)
    assert [int(labels) for labels in EdgePartitions().partitions(pixel, num_levels=3)] == [0] * 3
    assert EdgePartitions().contours(pixel).shape == (1, 1)


def test_one_region_is_one_region_without_contours() -> None:
    segmenter = refined(Given(torch.full((1, 40, 60), 1.0)), crf=True)
    image = two_colours()
    for labels in segmenter.partitions(image, num_levels=3):
        assert torch.equal(labels, torch.zeros(40, 60, dtype=torch.int32))
    assert int(segmenter.contours(image).count_nonzero()) == 0
    assert int(ultrametric_contour_map(gradient_edges(image * 0)).leaves.max()) == 0


def test_edges_alone_partition_photographs() -> None:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    root = Path(os.environ["SEGAN_DATA"]) / "BSDS500/BSDS500/data/images/val"
    image = read_image(root / "101085.jpg").float() / 255
    levels = EdgePartitions().partitions(image, num_levels=99)
    counts = [len(labels.unique()) for labels in levels]
    assert counts == sorted(counts)
    assert counts[0] <= 5
    assert 5 < counts[49] < 500
