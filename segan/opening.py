"""Segmenters as commands name them: a run, a file, an exported file or a training-free one."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segan.checkpoint import LoadedSegmenter, load_segmenter
from segan.device import best_device
from segan.errors import ConfigError
from segan.evaluation.rows import AtScale, Row
from segan.exporting.formats import format_of
from segan.exporting.loading import load_exported
from segan.hub import HUB_PREFIX, downloaded
from segan.methods.classical import TRIVIAL_ROWS
from segan.methods.feature_clustering import FeatureClustering
from segan.methods.partitions import PARTITION_ROWS
from segan.postprocessing.crf import CrfConfig
from segan.postprocessing.refined import EdgePartitions, RefinedPartitions, SmoothedRegions
from segan.segmenter import PartitionSegmenter, Segmenter, WindowSpec

FEATURE_CLUSTERING = "feature_clustering"

# Contours of colour gradients, merged by strength: W-Net's post-processing without a network.
EDGES = "edges"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A segmenter ready for use.

    Attributes:
        name: As it was asked for.
        label: For tables.
        segmenter: In evaluation mode, on `device`.
        device: Where it runs.
        window: The windows it was trained on, or None.
        scale: Network pixels per pixel of a whole picture.
        num_regions: Of a segmenter that was trained; None for others.
        whole_only: Whether it takes whole pictures alone, as exported files do.
        given_boxes: Whether it looks at the box itself, not only at the window around it.
        supervision: In training: "none", "backgrounds", "boxes" or "masks".
        box_source: Where the boxes of its training came from, in words; None if from nowhere.
        sha256: Of its file; None without one.
    """

    name: str
    label: str
    segmenter: Segmenter
    device: torch.device
    window: WindowSpec | None = None
    scale: float = 1.0
    num_regions: int | None = None
    whole_only: bool = False
    given_boxes: bool = False
    supervision: str = "none"
    box_source: str | None = None
    sha256: str | None = None

    def windows(self, given: WindowSpec | None) -> WindowSpec:
        """The windows in which it sees boxes: its own, or else those `given`.

        Raises:
            ConfigError: There are none, or two kinds, or it takes whole pictures alone.
        """
        if self.whole_only:
            raise ConfigError(
                f"{self.name} sees whole pictures; boxes need the segmenter file itself"
            )
        if self.window is not None and given is not None:
            raise ConfigError(f"{self.name} has windows of its own; leave out --size and --context")
        window = self.window or given
        if window is None:
            raise ConfigError(
                f"{self.name} has no windows of its own; "
                "give --size and --context, such as --size 64 --context 1.6"
            )
        return window


def training_free() -> tuple[str, ...]:
    """Names of the segmenters that come without training."""
    return (*TRIVIAL_ROWS, *PARTITION_ROWS, EDGES, FEATURE_CLUSTERING)


def open_segmenter(name: str, *, trust: bool = False) -> Opened:
    """A segmenter by name, file, run directory or, as hf://OWNER/NAME, from the Hugging Face Hub.

    Args:
        name: Which.
        trust: Allow exported files that can run code of whoever made them.

    Raises:
        ConfigError: There is none, or it cannot be read, or is not to be trusted.
    """
    if name in TRIVIAL_ROWS:
        trivial = TRIVIAL_ROWS[name]()
        return Opened(
            name=name,
            label=name,
            segmenter=trivial.eval(),
            device=torch.device("cpu"),
            given_boxes=trivial.supervision == "boxes",
        )
    if name in PARTITION_ROWS:
        partition = PARTITION_ROWS[name]().eval()
        return Opened(name=name, label=name, segmenter=partition, device=torch.device("cpu"))
    if name == EDGES:
        edges = EdgePartitions().eval()
        return Opened(name=name, label=name, segmenter=edges, device=torch.device("cpu"))
    if name == FEATURE_CLUSTERING:
        learner = FeatureClustering().eval()
        return Opened(name=name, label=name, segmenter=learner, device=best_device())
    path = downloaded(name) if name.startswith(HUB_PREFIX) else Path(name)
    if not path.exists():
        raise ConfigError(
            f"there is no segmenter {name!r}: name a run, a segmenter file, an exported file, "
            "hf://OWNER/NAME for one of the Hugging Face Hub, or "
            f"one of {', '.join(training_free())}"
        )
    if path.is_file() and format_of(path) is not None:
        exported = load_exported(path, trust=trust)
        return Opened(
            name=name,
            label=path.stem,
            segmenter=exported.segmenter.eval(),
            device=torch.device("cpu"),
            whole_only=True,
            num_regions=exported.num_regions,
            supervision=exported.metadata["supervision"]["train"],
            box_source=exported.metadata.get("box_source") or None,
            sha256=exported.sha256,
        )
    return opened(load_segmenter(path), name=name, label=path.stem)


def refined(row: Row, how: str, *, scale: float) -> Row:
    """A row of unnamed regions after W-Net's post-processing.

    Args:
        row: Of unnamed regions.
        how: "crf", "ucm", "crf+ucm" or "crf+ucm+edges".
        scale: Network pixels per picture pixel.

    Raises:
        ConfigError: The row's segmenter already cuts each picture by itself.
    """
    if isinstance(row.segmenter, PartitionSegmenter):
        raise ConfigError("--refine needs regions with probabilities, not partitions; leave it out")
    segmenter: Segmenter = AtScale(row.segmenter, scale)
    if "crf" in how:
        segmenter = SmoothedRegions(segmenter, CrfConfig())
    if "ucm" in how:
        segmenter = RefinedPartitions(segmenter, with_all="edges" in how)
    return replace(row, segmenter=segmenter.eval(), own_scale=scale)


def opened(loaded: LoadedSegmenter, *, name: str, label: str) -> Opened:
    """What a segmenter file held, on the device where it runs best."""
    device = best_device()
    return Opened(
        name=name,
        label=label,
        segmenter=loaded.segmenter.to(device),
        device=device,
        window=loaded.window,
        scale=loaded.scale,
        num_regions=loaded.metadata["num_regions"],
        supervision=loaded.metadata["supervision"]["train"],
        box_source=loaded.metadata.get("box_source") or None,
        sha256=loaded.sha256,
    )
