"""Segmenters of partitions: W-Net's post-processing around any segmenter, and its control.

Xia and Kulis, "W-Net", arXiv 1711.08506, Algorithm 2: regions -> dense CRF -> boundaries of the
most likely regions, weighted by an edge map -> ultrametric contour map. The weighted boundaries can
be averaged with the whole edge map, as for the paper's "W-Net+ucm". The control is the contour map
of the same edges with no network before it: what a result owes to the edges alone.
"""

from typing import Literal

import torch
from torch import Tensor

from segan.postprocessing.crf import CrfConfig, dense_crf
from segan.postprocessing.edges import boundary_edges, gradient_edges, mean_edges, region_edges
from segan.postprocessing.ucm import Hierarchy, partitions, ultrametric_contour_map
from segan.segmenter import PartitionSegmenter, Segmenter

EDGE_SOURCE = "scales of edges chosen by covering on training pictures of BSDS500"

DEFAULT_THRESHOLD = 0.41
"""Best common threshold for the colour gradients on 20 training pictures of BSDS500 (covering)."""


class EdgePartitions(PartitionSegmenter):
    """Contour map of the colour gradients; no network and no training.

    Args:
        threshold: Of the default partition, in [0, 1].
    """

    def __init__(self, *, threshold: float = DEFAULT_THRESHOLD) -> None:
        super().__init__()
        self.threshold = threshold
        self.postprocessing = EDGE_SOURCE

    def hierarchy(self, image: Tensor) -> Hierarchy:
        """The nested partitions of one picture [3, H, W] in [0, 1]."""
        return ultrametric_contour_map(gradient_edges(image))

    def contours(self, image: Tensor) -> Tensor:
        """Contour map [H, W] in [0, 1] of one picture [3, H, W] in [0, 1]."""
        return self.hierarchy(image).contours().to(image.device)

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        """Label maps int32 [H, W], at thresholds n/(n+1), ..., 1/(n+1) of the contour map."""
        levels = partitions(self.hierarchy(image), num_levels=num_levels)
        return [labels.to(image.device) for labels in levels]

    def partition(self, image: Tensor) -> Tensor:
        """The label map int32 [H, W] at the default threshold."""
        return self.hierarchy(image).at_threshold(self.threshold).to(image.device)


class SmoothedRegions(Segmenter):
    """Regions of a segmenter after a dense CRF: Algorithm 2 up to its boundaries.

    Args:
        segmenter: Images to regions [N, K, H, W].
        crf: Its settings.
    """

    def __init__(self, segmenter: Segmenter, crf: CrfConfig) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.crf = crf
        self.foreground = segmenter.foreground
        self.postprocessing = "dense CRF (crf)"

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, K, H, W] of images [N, 3, H, W] in [0, 1]."""
        regions: Tensor = self.segmenter(images)
        return dense_crf(regions, images, config=self.crf)


class RefinedPartitions(EdgePartitions):
    """Algorithm 2 around a segmenter of K regions: boundaries, weighted and merged.

    Args:
        segmenter: Images to regions [N, K, H, W], such as `SmoothedRegions`.
        edges: What weights the boundaries: "gradient", of colours, or "regions", of the
            segmenter's probabilities.
        with_all: Whether the weighted boundaries are averaged with the whole edge map, as the
            paper's "W-Net+ucm" merges them with a contour map made without the network.
        threshold: Of the default partition, in [0, 1]; 0 keeps every boundary.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        edges: Literal["gradient", "regions"] = "gradient",
        with_all: bool = False,
        threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        super().__init__(threshold=threshold)
        self.segmenter = segmenter
        self.edges = edges
        self.with_all = with_all
        before = [] if segmenter.postprocessing == "none" else [segmenter.postprocessing]
        averaged = ", averaged with all edges (edges)," if with_all else ""
        merged = f"boundaries weighted by {edges} edges{averaged} and merged (ucm)"
        chosen = [EDGE_SOURCE] if edges == "gradient" else []
        self.postprocessing = ", ".join([*before, merged, *chosen])

    def hierarchy(self, image: Tensor) -> Hierarchy:
        """The nested partitions of one picture; the finest are pieces of its likeliest regions."""
        with torch.no_grad():
            regions = self.segmenter(image[None])[0].cpu()
        edges = gradient_edges(image) if self.edges == "gradient" else region_edges(regions)
        boundaries = boundary_edges(edges, regions.argmax(0))
        return ultrametric_contour_map(
            mean_edges(boundaries, edges) if self.with_all else boundaries
        )
