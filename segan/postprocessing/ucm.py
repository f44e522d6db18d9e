"""Contour Detection and Hierarchical Image Segmentation (Arbelaez et al.), TPAMI 2011.

The idea (Section 4): flood the edge map into small regions, weight each arc between two of them by
the edges that run its way, and merge the pair with the weakest arc again and again; the strength at
which two pixels come together is a contour map whose every threshold is a partition.

The flooding and the merging are those of Higra (Perret et al., SoftwareX 2019), an optional
dependency: `pip install segan[ucm]`.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.errors import ConfigError
from segan.postprocessing.edges import Edges

Integers = NDArray[np.int64]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """An ultrametric contour map and the nested partitions that its thresholds give.

    Attributes:
        leaves: int64 [H, W], the finest regions, connected and numbered from 0.
        parents: [num_nodes], the node each node merges into; leaves come first, children before
            parents, and the root, last, is its own parent. Every merger joins two nodes.
        altitudes: [num_nodes], the strength in [0, 1] of the arc that a node's merger removed; 0
            for leaves, and never less than its children's.
        saliency: The strength at which neighbouring pixels come together; 0 inside leaves.
    """

    leaves: Tensor
    parents: Integers
    altitudes: Doubles
    saliency: Edges

    def contours(self) -> Tensor:
        """The contour map, float32 [H, W] in [0, 1]: 0 inside regions, as `Edges.pixels`."""
        return self.saliency.pixels()

    def at_threshold(self, threshold: float) -> Tensor:
        """Label map int32 [H, W] from 0: the regions that contours above `threshold` separate."""
        return self._labels(self.altitudes <= threshold)

    def with_regions(self, num_regions: int) -> Tensor:
        """Label map int32 [H, W] from 0 of `num_regions` regions, or of all leaves if fewer."""
        assert num_regions >= 1, "a picture has at least one region"
        num_nodes = len(self.parents)
        num_leaves = (num_nodes + 1) // 2
        merged = np.zeros(num_nodes, np.bool_)
        # Stable: among equals, children go before their parents.
        order = num_leaves + np.argsort(self.altitudes[num_leaves:], kind="stable")
        merged[:num_leaves] = True
        merged[order[: max(num_leaves - num_regions, 0)]] = True
        return self._labels(merged)

    def _labels(self, merged: NDArray[np.bool_]) -> Tensor:
        """Label map of the highest nodes that are `merged` up to there from a leaf."""
        above = np.where(merged[self.parents], self.parents, np.arange(len(self.parents)))
        while not np.array_equal(further := above[above], above):
            above = further
        num_leaves = (len(self.parents) + 1) // 2
        labels = np.unique(above[:num_leaves], return_inverse=True)[1]
        return torch.from_numpy(labels.astype(np.int32))[self.leaves]


def ultrametric_contour_map(edges: Edges) -> Hierarchy:
    """Oriented watershed transform and mean-boundary merging of an edge map.

    An arc weighs the mean over its pieces of strength x |cos(normal - the piece's own normal)|, or
    the mean strength where edges have no normals; when arcs join, they weigh their mean.

    Args:
        edges: Of a picture. Plateaus of strength 0 are one region each.

    Raises:
        ConfigError: Higra is not installed.
    """
    higra = _higra()
    height, width = edges.shape
    if height * width == 1:  # where there is no edge, and Higra fails
        none = np.zeros(1)
        return Hierarchy(
            leaves=torch.zeros(1, 1, dtype=torch.int64),
            parents=none.astype(np.int64),
            altitudes=none,
            saliency=Edges(right=torch.zeros(1, 0), down=torch.zeros(0, 1)),
        )
    graph = higra.get_4_adjacency_graph((height, width))
    sources, targets = (np.asarray(ends, np.int64) for ends in graph.edge_list())
    is_right = (targets - sources == 1) & (width > 1)
    strengths = _to_graph(edges, sources, is_right)
    normals = None if edges.normal is None else _between(edges.normal, sources, targets)
    tree, altitudes = higra.mean_pb_hierarchy(graph, strengths, (height, width), normals)
    # Higra fails on a hierarchy of one leaf.
    flat = len(altitudes) == 1
    saliency = np.zeros(len(sources)) if flat else np.asarray(higra.saliency(tree, altitudes))
    right, down = np.zeros((height, width - 1)), np.zeros((height - 1, width))
    rows, columns = np.divmod(sources, width)
    right[rows[is_right], columns[is_right]] = saliency[is_right]
    down[rows[~is_right], columns[~is_right]] = saliency[~is_right]
    adjacency = higra.CptHierarchy.construct(tree)["leaf_graph"]
    leaves = higra.CptRegionAdjacencyGraph.construct(adjacency)["vertex_map"]
    return Hierarchy(
        leaves=torch.from_numpy(np.asarray(leaves, np.int64).reshape(height, width)),
        parents=np.asarray(tree.parents(), np.int64),
        altitudes=np.asarray(altitudes, np.float64),
        saliency=Edges(right=torch.from_numpy(right).float(), down=torch.from_numpy(down).float()),
    )


def partitions(hierarchy: Hierarchy, *, num_levels: int) -> list[Tensor]:
    """Label maps int32 [H, W] from 0, coarse to fine, at thresholds n/(n+1), ..., 1/(n+1).

    The thresholds are the same for every picture, as a fixed scale over a data set needs; with 99
    they are those of the BSDS benchmark.

    Args:
        hierarchy: Of a picture.
        num_levels: n, at least 1.
    """
    steps = range(num_levels, 0, -1)
    return [hierarchy.at_threshold(step / (num_levels + 1)) for step in steps]


def _higra() -> Any:
    try:
        return importlib.import_module("higra")
    except ImportError:
        raise ConfigError("contour maps need the package higra: pip install 'segan[ucm]'") from None


def _to_graph(edges: Edges, sources: Integers, is_right: NDArray[np.bool_]) -> Doubles:
    """Strengths in the order of a grid graph's edges, each by its upper or left pixel."""
    rows, columns = np.divmod(sources, edges.shape[1])
    strengths = np.empty(len(sources))
    right, down = edges.right.double().cpu().numpy(), edges.down.double().cpu().numpy()
    strengths[is_right] = right[rows[is_right], columns[is_right]]
    strengths[~is_right] = down[rows[~is_right], columns[~is_right]]
    return strengths


def _between(normal: Tensor, sources: Integers, targets: Integers) -> Doubles:
    """The mean direction of two pixels; directions are angles modulo pi."""
    doubled = 2 * normal.double().cpu().numpy().ravel()
    sines = np.sin(doubled[sources]) + np.sin(doubled[targets])
    cosines = np.cos(doubled[sources]) + np.cos(doubled[targets])
    middle: Doubles = np.arctan2(sines, cosines) / 2
    return middle
