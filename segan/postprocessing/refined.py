"""Segmenters of partitions: W-Net's post-processing around any segmenter, and its control.

Xia and Kulis, "W-Net", arXiv 1711.08506, Algorithm 2: regions -> dense CRF -> boundaries of the
most likely regions, weighted by an edge map -> ultrametric contour map. The control is the contour
map of the same edges with no network before it: what a result owes to the edges alone.
"""

from typing import Literal

import torch
from torch import Tensor

from segan.postprocessing.crf import CrfConfig, dense_crf
from segan.postprocessing.edges import Edges, boundary_edges, gradient_edges, region_edges
from segan.postprocessing.ucm import Hierarchy, partitions, ultrametric_contour_map
from segan.segmenter import PartitionSegmenter, Segmenter

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


class RefinedPartitions(EdgePartitions):
    """Algorithm 2 around a segmenter of K regions.

    Args:
        segmenter: Images to regions [N, K, H, W].
        crf: The dense CRF's settings, or None to leave the regions as they are.
        ucm: Whether boundaries are weighted and merged; if not, there is one scale, the likeliest
            regions (connected or not), and every boundary has strength 1.
        edges: What weights the boundaries: "gradient", of colours, or "regions", of the refined
            probabilities.
        threshold: Of the default partition, in [0, 1]; 0 keeps every boundary.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        crf: CrfConfig | None,
        ucm: bool = True,
        edges: Literal["gradient", "regions"] = "gradient",
        threshold: float = DEFAULT_THRESHOLD,
    ) -> None:
        super().__init__(threshold=threshold)
        self.segmenter = segmenter
        self.crf = crf
        self.ucm = ucm
        self.edges = edges
        steps = ["dense CRF (crf)"] * (crf is not None)
        steps += [f"boundaries weighted by {edges} edges and merged (ucm)"] * ucm
        self.postprocessing = ", ".join(steps) or "none"

    def regions(self, image: Tensor) -> Tensor:
        """Probabilities [K, H, W] of one picture, after the CRF if there is one."""
        with torch.no_grad():
            regions: Tensor = self.segmenter(image[None])[0]
        return regions if self.crf is None else dense_crf(regions, image, config=self.crf)

    def hierarchy(self, image: Tensor) -> Hierarchy:
        """The nested partitions of one picture; the finest are pieces of its likeliest regions."""
        regions = self.regions(image).cpu()
        edges = gradient_edges(image) if self.edges == "gradient" else region_edges(regions)
        return ultrametric_contour_map(boundary_edges(edges, regions.argmax(0)))

    def contours(self, image: Tensor) -> Tensor:
        """Contour map [H, W] in [0, 1] of one picture [3, H, W] in [0, 1]."""
        if self.ucm:
            return super().contours(image)
        labels = self.regions(image).argmax(0)
        everywhere = Edges(right=torch.ones(labels[:, 1:].shape), down=torch.ones(labels[1:].shape))
        return boundary_edges(everywhere, labels.cpu()).pixels().to(image.device)

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        """Label maps int32 [H, W], coarse to fine; without `ucm`, the same one again and again."""
        if self.ucm:
            return super().partitions(image, num_levels=num_levels)
        return [self.partition(image)] * num_levels

    def partition(self, image: Tensor) -> Tensor:
        """The label map int32 [H, W] at the default threshold, or of the likeliest regions."""
        if self.ucm:
            return super().partition(image)
        labels = self.regions(image).argmax(0)
        renumbered: Tensor = torch.unique(labels, return_inverse=True)[1]
        return renumbered.int()
