"""Training-free partitions: what holds of each row, and what each row is."""

import itertools
import os
from pathlib import Path

import cv2
import networkx as nx
import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray
from skimage import graph
from skimage.metrics import variation_of_information
from torch import Tensor

from segan.arrays import connected_regions, contiguous, pictures
from segan.errors import ConfigError
from segan.methods.partitions import (
    PARTITION_ROWS,
    ClassSegmenter,
    Felzenszwalb,
    Grid,
    KMeansLab,
    MultiOtsu,
)
from segan.methods.swept import Scales, SweptSegmenter
from segan.opening import open_segmenter
from segan.superpixels import (
    joined,
    modes,
    normalized_cuts,
    region_means,
    superpixels,
    touching,
)

LOOKING = [name for name in PARTITION_ROWS if name not in ("one_region", "grid")]
# Rows that may find the two halves of a picture of two colours exactly, at some scale.
EXACT = [name for name in LOOKING if name not in ("watershed", "kmeans_lab_xy")]


def noise(height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height + width))


def halves(height: int = 60, width: int = 80) -> tuple[Tensor, NDArray[np.int64]]:
    """A picture of two noisy colours, and which is where."""
    truth = np.tile(np.arange(width) >= width // 2 + 4, (height, 1)).astype(np.int64)
    colours = np.array([[0.2, 0.3, 0.6], [0.8, 0.6, 0.3]])
    pixels = colours[truth] + np.random.default_rng(0).normal(0, 0.01, (height, width, 3))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().clamp(0, 1), truth


def blobs() -> Tensor:
    """A picture [3, 96, 128] of smooth random colours."""
    coarse = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (96, 128), mode="bicubic")[0].clamp(0, 1)


def counts(levels: list[Tensor]) -> list[int]:
    return [int(level.max()) + 1 for level in levels]


def refines(fine: Tensor, coarse: Tensor) -> bool:
    """Whether every region of `fine` lies in one of `coarse`."""
    pairs = torch.stack([fine.flatten(), coarse.flatten()]).unique(dim=1)
    return pairs.shape[1] == int(fine.max()) + 1


def check_labels(labels: Tensor, size: tuple[int, int]) -> None:
    assert labels.shape == size
    assert labels.dtype == torch.int32
    assert torch.equal(labels.unique(), torch.arange(int(labels.max()) + 1, dtype=torch.int32))


@pytest.mark.parametrize("name", PARTITION_ROWS)
def test_levels_are_label_maps_from_zero_and_repeat(name: str) -> None:
    segmenter = PARTITION_ROWS[name]()
    image = noise(17, 26)
    levels = segmenter.partitions(image, num_levels=4)
    assert len(levels) == 4
    for level in levels:
        check_labels(level, (17, 26))
    again = segmenter.partitions(image, num_levels=4)
    assert all(torch.equal(first, second) for first, second in zip(levels, again, strict=True))
    assert not list(segmenter.parameters())


@pytest.mark.parametrize("name", PARTITION_ROWS)
def test_labels_do_not_depend_on_what_was_cut_before_or_at_which_levels(name: str) -> None:
    image = blobs()
    segmenter = PARTITION_ROWS[name]()
    alone = segmenter.partition(image)
    segmenter.partitions(noise(20, 30), num_levels=3)
    assert torch.equal(segmenter.partition(image), alone)
    assert torch.equal(segmenter.partitions(image, num_levels=1)[0], alone)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (3, 5), (2, 2), (40, 1), (1, 300)])
@pytest.mark.parametrize("name", PARTITION_ROWS)
def test_tiny_pictures_are_cut_too(name: str, size: tuple[int, int]) -> None:
    for image in (noise(*size), torch.full((3, *size), 0.5)):
        for level in PARTITION_ROWS[name]().partitions(image, num_levels=3):
            check_labels(level, size)


@pytest.mark.parametrize("name", [*EXACT, "one_region"])
def test_a_picture_of_one_colour_is_one_region(name: str) -> None:
    for level in PARTITION_ROWS[name]().partitions(torch.full((3, 40, 50), 0.3), num_levels=3):
        assert not level.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PARTITION_ROWS)
def test_no_row_warns(name: str) -> None:
    for image in (blobs(), noise(15, 22), noise(1, 40), torch.full((3, 30, 30), 0.5), halves()[0]):
        PARTITION_ROWS[name]().partitions(image, num_levels=2)


@pytest.mark.parametrize("name", EXACT)
def test_two_colours_are_two_regions_at_some_scale(name: str) -> None:
    image, truth = halves()
    levels = PARTITION_ROWS[name]().partitions(image, num_levels=6)
    distance = min(sum(variation_of_information(truth, level.numpy())) for level in levels)
    # Superpixels follow the edge to within a pixel or so.
    assert distance < (0.1 if name in ("slic_rag", "slic_ncut", "mean_shift") else 0.02)


@pytest.mark.parametrize("name", LOOKING)
def test_no_region_of_the_finest_level_straddles_a_strong_edge(name: str) -> None:
    image, truth = halves()
    finest = PARTITION_ROWS[name]().partitions(image, num_levels=3)[-1].numpy()
    joint = np.zeros((finest.max() + 1, 2), np.int64)
    np.add.at(joint, (finest.ravel(), truth.ravel()), 1)
    # Purity: the share of pixels on the majority side of their region.
    assert joint.max(axis=1).sum() / truth.size > 0.97


@pytest.mark.parametrize("name", LOOKING)
def test_levels_go_from_few_regions_to_many(name: str) -> None:
    found = counts(PARTITION_ROWS[name]().partitions(blobs(), num_levels=5))
    assert found[0] <= found[-1]
    if name in ("watershed", "felzenszwalb", "slic_rag", "slic_ncut", "mean_shift"):
        assert found == sorted(found)
        assert found[0] < found[-1]


@pytest.mark.parametrize("name", ["one_region", "slic_rag", "slic_ncut"])
def test_hierarchies_are_nested(name: str) -> None:
    levels = PARTITION_ROWS[name]().partitions(blobs(), num_levels=6)
    assert all(refines(fine, coarse) for coarse, fine in itertools.pairwise(levels))


def test_forward_gives_each_picture_its_regions() -> None:
    images = torch.stack([halves()[0], torch.full((3, 60, 80), 0.5)])
    segmenter = KMeansLab(scale=2)
    regions = segmenter(images)
    assert regions.shape == (2, 2, 60, 80)
    torch.testing.assert_close(regions.sum(1), torch.ones(2, 60, 80))
    assert torch.equal(regions[0].argmax(0), segmenter.partition(images[0]).long())
    assert bool((regions[1, 0] == 1).all())


@pytest.mark.parametrize("name", PARTITION_ROWS)
def test_rows_are_opened_by_name(name: str) -> None:
    opened = open_segmenter(name)
    assert isinstance(opened.segmenter, PARTITION_ROWS[name])
    assert opened.label == name
    assert opened.supervision == "none"
    assert not opened.given_boxes


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no segmenter 'felsenzwalb'.*otsu.*felzenszwalb"):
        open_segmenter("felsenzwalb")


@pytest.mark.parametrize("shape", [(60, 80), (1, 60, 80), (2, 3, 60, 80), (3, 0, 5)])
def test_what_is_not_one_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"not \[3, height, width\]"):
        Grid().partition(torch.zeros(shape))


def test_no_levels_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_levels is 0"):
        Felzenszwalb().partitions(noise(8, 8), num_levels=0)


# --- what each row is -----------------------------------------------------------------------------


def test_sweeps_include_both_ends() -> None:
    assert Scales(1, 16, 4, counts=True).spread(16) == list(range(1, 17))
    np.testing.assert_allclose(Scales(100, 1, 5).spread(3), [100, 10, 1])
    assert Scales(100, 1, 5).spread(1) == [5]


def test_equal_values_of_the_knob_are_cut_once() -> None:
    class Counting(SweptSegmenter):
        scales = Scales(1, 2, 1, counts=True)
        seen: tuple[float, ...] = ()

        def cuts(self, picture, scales):  # type: ignore[no-untyped-def]
            self.seen = tuple(scales)
            return [np.full(picture.shape[:2], 7) for _ in scales]

    segmenter = Counting()
    assert len(segmenter.partitions(noise(4, 4), num_levels=9)) == 9
    assert segmenter.seen == (1, 2)


def test_grids_are_equal_cells() -> None:
    labels = Grid(scale=3).partition(noise(9, 12))
    assert torch.equal(labels.flatten().bincount(), torch.full((9,), 12))
    for row in range(3):
        for column in range(3):
            cell = labels[row * 3 : row * 3 + 3, column * 4 : column * 4 + 4]
            assert bool((cell == row * 3 + column).all())


def test_otsu_classes_are_intervals_of_gray() -> None:
    image = noise(1, 400).mean(0, keepdim=True).expand(3, 1, 400)
    labels = MultiOtsu(scale=3, min_share=None).partition(image)[0]
    ordered = labels[image[0, 0].argsort()]
    assert bool((ordered.diff() >= 0).all())
    assert int(ordered[-1]) == 2


def test_clusters_of_colours_are_the_colours_when_there_are_as_many() -> None:
    index = torch.randint(4, (30, 40), generator=torch.Generator().manual_seed(0))
    palette = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.1, 0.2, 0.9], [0.9, 0.9, 0.9]])
    image = palette[index].permute(2, 0, 1)
    for num_clusters in (4, 9):
        labels = KMeansLab(scale=num_clusters, min_share=None).partition(image)
        assert sum(variation_of_information(index.numpy(), labels.numpy())) < 1e-9


def test_place_alone_makes_clusters_where_colour_does_not() -> None:
    flat = torch.full((3, 30, 60), 0.5)
    assert counts([PARTITION_ROWS["kmeans_lab_xy"](scale=2).partition(flat)]) == [2]  # type: ignore[call-arg]


def test_pieces_of_a_class_are_regions_and_small_ones_are_absorbed() -> None:
    labels = np.zeros((40, 50), np.int64)
    labels[5:15, 5:15] = 1
    labels[20:35, 20:45] = 1
    labels[2, 30] = 1
    found = connected_regions(labels, min_share=10 / labels.size)
    assert found.max() == 2
    assert found[2, 30] == found[0, 0]
    assert found[10, 10] != found[30, 30]
    assert connected_regions(labels, min_share=0).max() == 3


def test_diagonal_neighbours_are_connected() -> None:
    assert connected_regions(np.eye(6, dtype=np.int64), min_share=0).max() == 1


def test_the_largest_piece_stays_whatever_its_size() -> None:
    labels = np.arange(12).reshape(3, 4)
    labels[0, :2] = 0
    assert not connected_regions(labels, min_share=0.5).any()


def test_absorbed_pixels_go_to_the_nearest_piece_that_stays() -> None:
    labels = np.repeat([0, 1, 2], [10, 3, 20])[None].repeat(12, axis=0)
    found = connected_regions(labels, min_share=0.1)
    assert set(found[:, 10]) == {found[0, 0]}
    assert set(found[:, 12]) == {found[0, -1]}


def test_contiguous_keeps_the_partition() -> None:
    labels = np.array([[7, -1], [7, 300]])
    assert contiguous(labels).tolist() == [[1, 0], [1, 2]]


def test_classes_are_regions_of_their_own_when_pieces_are_not_asked_for() -> None:
    class Stripes(ClassSegmenter):
        scales = Scales(1, 1, 1)

        def classes(self, picture, scale):  # type: ignore[no-untyped-def]  # noqa: ARG002
            return np.tile(np.arange(picture.shape[1]) // 4 % 2, (picture.shape[0], 1))

    assert counts([Stripes().partition(noise(16, 16))]) == [4]
    assert counts([Stripes(min_share=None).partition(noise(16, 16))]) == [2]


# --- superpixels and their graph -----------------------------------------------------------------


def test_the_graph_of_superpixels_is_that_of_scikit_image() -> None:
    picture = pictures(blobs()[None])[0]
    labels = superpixels(picture, num_superpixels=60, compactness=30)
    reference = graph.rag_mean_color(picture, labels)
    pairs = touching(labels)
    assert {tuple(pair) for pair in pairs.tolist()} == {tuple(sorted(e)) for e in reference.edges}
    means = region_means(picture, labels)
    for node in reference:
        np.testing.assert_allclose(means[node], reference.nodes[node]["mean color"])
    distances = np.linalg.norm(means[pairs[:, 0]] - means[pairs[:, 1]], axis=1)
    mine = joined(pairs[distances < 12], len(means))[labels]
    theirs = graph.cut_threshold(labels, reference, 12)
    assert sum(variation_of_information(mine, theirs)) < 1e-9


def test_normalised_cuts_agree_with_scikit_image_on_clear_groups() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), [6, 7, 8, 9])
    affinity = np.where(groups[:, None] == groups, 0.9, 0.002)
    affinity += rng.uniform(0, 0.001, affinity.shape)
    affinity = (affinity + affinity.T) / 2
    np.fill_diagonal(affinity, 1)
    rag = graph.RAG()
    rag.add_weighted_edges_from(nx.from_numpy_array(affinity).edges.data("weight"))
    for node in range(len(groups)):
        rag.nodes[node]["labels"] = [node]
    labels = np.arange(len(groups))[None].astype(np.int64)
    theirs = graph.cut_normalized(labels, rag, thresh=0.3, rng=0)
    (mine,) = normalized_cuts(affinity, [0.3])
    assert sum(variation_of_information(mine, groups)) < 1e-9
    assert sum(variation_of_information(mine[None], theirs)) < 1e-9


def test_a_normalised_cut_is_the_best_of_all_when_two_groups_hardly_touch() -> None:
    rng = np.random.default_rng(1)
    affinity = rng.uniform(0.5, 1, (9, 9))
    affinity[:4, 4:] = affinity[4:, :4] = 0.01
    affinity = (affinity + affinity.T) / 2
    np.fill_diagonal(affinity, 1)
    degree = affinity.sum(1)
    costs = {}
    for code in range(1, 2**8):
        side = np.array([code >> bit & 1 for bit in range(9)], bool)
        cut = affinity[side][:, ~side].sum()
        costs[code] = cut / degree[side].sum() + cut / degree[~side].sum()
    best = min(costs, key=costs.__getitem__)
    side = np.array([best >> bit & 1 for bit in range(9)], bool)
    below, above = normalized_cuts(affinity, [costs[best] * 0.999, costs[best] * 1.001])
    assert not below.any()
    assert sum(variation_of_information(above, side.astype(np.int64))) < 1e-9


def test_modes_are_where_a_naive_mean_shift_ends() -> None:
    rng = np.random.default_rng(0)
    colours = np.concatenate([rng.normal(0, 0.2, (20, 3)), rng.normal(3, 0.2, (15, 3))])
    places = rng.uniform(0, 1.5, (35, 2))
    weights = rng.uniform(1, 5, 35)
    found = np.concatenate(modes([colours, places], weights, max_iterations=7, tolerance=0), axis=1)
    points = np.concatenate([colours, places], axis=1)
    for start, end in zip(points, found, strict=True):
        y = start.copy()
        for _ in range(7):
            near = np.linalg.norm(points[:, :3] - y[:3], axis=1) <= 1
            near &= np.linalg.norm(points[:, 3:] - y[3:], axis=1) <= 1
            y = (points[near] * weights[near, None]).sum(0) / weights[near].sum()
        np.testing.assert_allclose(end, y, atol=1e-9)


def test_superpixels_are_no_more_than_pixels() -> None:
    labels = superpixels(pictures(noise(3, 4)[None])[0], num_superpixels=400, compactness=30)
    assert labels.max() < 12


# --- real pictures --------------------------------------------------------------------------------


@pytest.mark.skipif("SEGAN_DATA" not in os.environ, reason="SEGAN_DATA is not set")
def test_felzenszwalb_covers_bsds500_as_published() -> None:
    """Covering at one scale for all, summed over annotators and pictures: published .52."""
    root = Path(os.environ["SEGAN_DATA"])
    paths = sorted(root.glob("BSDS500/**/images/val/*.jpg"))[::10]
    if not paths:
        pytest.skip("there is no BSDS500 in SEGAN_DATA")
    covered, total = np.zeros(3), 0
    for path in paths:
        truth = scipy.io.loadmat(
            str(path).replace("/images/", "/groundTruth/").replace(".jpg", ".mat")
        )
        image = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1) / 255
        levels = [level.numpy() for level in Felzenszwalb().partitions(image, num_levels=3)]
        for person in truth["groundTruth"][0]:
            regions = person["Segmentation"][0, 0].astype(np.int64)
            total += regions.size
            covered += [_covered(regions, level) for level in levels]
    assert (covered / total).max() == pytest.approx(0.53, abs=0.05)


def _covered(truth: NDArray[np.int64], labels: NDArray[np.int32]) -> float:
    """Sum over true regions of area times best IoU."""
    joint = np.zeros((truth.max() + 1, labels.max() + 1))
    np.add.at(joint, (truth.ravel(), labels.ravel()), 1)
    areas = joint.sum(1)
    union = areas[:, None] + joint.sum(0) - joint
    return float((areas * (joint / np.maximum(union, 1)).max(1)).sum())
