"""The command line as Python functions; `import segan` offers them as its own.

Each calls what the command of its name calls, with the same arguments under the same names.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segan import commands, export_commands, runs
from segan.errors import ConfigError
from segan.evaluation.polarity import Named
from segan.evaluation.results import Evaluation
from segan.evaluation.rows import AtScale
from segan.exporting.formats import ExportReport
from segan.exporting.whole import WholePicture
from segan.hub import from_pretrained, push_to_hub, save_pretrained
from segan.opening import Opened, open_segmenter
from segan.prediction import predict
from segan.run_configs import run_config
from segan.segmenter import PartitionSegmenter, RegionSegmenter, WindowSpec
from segan.training.config import RunConfig

__all__ = [
    "PictureSegmenter",
    "evaluate",
    "export",
    "from_pretrained",
    "load",
    "predict",
    "push_to_hub",
    "save_pretrained",
    "train",
]


class PictureSegmenter(AtScale):
    """A segmenter of whole pictures at their own size, from `segan.load`.

    Called with images [N, 3, H, W] in [0, 1] it gives regions [N, K, H, W] that sum to one.

    Attributes:
        opened: The segmenter itself and what is known of it: windows, supervision, sha256, ...
    """

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened.segmenter, opened.scale)
        self.opened = opened

    @torch.inference_mode()
    def maps(self, pictures: Tensor) -> Tensor:
        """Masks of 0 and 1 or, of unnamed regions, their numbers, as `segan predict` writes them.

        Args:
            pictures: uint8 [N, H, W, 3], RGB, on any device.

        Returns:
            Integers [N, H, W], on the segmenter's device.

        Raises:
            ConfigError: They are no such pictures.
        """
        if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            shape = ", ".join(map(str, pictures.shape))
            raise ConfigError(
                f"pictures must be uint8 [N, H, W, 3], these are {pictures.dtype} [{shape}]"
            )
        if isinstance(self.segmenter, PartitionSegmenter):
            images = pictures.permute(0, 3, 1, 2).float() / 255
            return torch.stack([self.segmenter.partition(image) for image in images])
        segmenter = self.segmenter
        if segmenter.foreground is None and not isinstance(segmenter, RegionSegmenter):
            segmenter = Named(segmenter)
        whole = WholePicture(segmenter, scale=self.scale)
        maps: Tensor
        maps, _ = whole(pictures.to(self.opened.device))
        return maps


def load(source: str | Path, *, trust: bool = False) -> PictureSegmenter:
    """A segmenter, ready for whole pictures, on the GPU if there is one.

    Args:
        source: A run directory, a segmenter file, an exported file, the name of a training-free
            segmenter such as "otsu", or hf://OWNER/NAME[@REVISION] for one of the Hub.
        trust: Allow exported files that can run code of whoever made them (.pt2, .aot.pt2).

    Raises:
        ConfigError: There is none, or it cannot be read, or is not to be trusted.
    """
    return PictureSegmenter(open_segmenter(str(source), trust=trust)).eval()


def train(
    config: str | Path | RunConfig,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    method: str | None = None,
    overwrite: bool = False,
) -> dict[str, Evaluation]:
    """Trains a segmenter, or continues the run in `out`, and evaluates it: `segan train`.

    Args:
        config: A YAML file, a folder of images, or a run as `segan.training.config` has it.
        out: The run directory; made if missing.
        overrides: "key.sub=value" each; they replace the file's.
        method: For a folder of images.
        overwrite: Replace the run that is there.

    Returns:
        Evaluations by name where the data has ground truth: the segmenter's and trivial guesses'.

    Raises:
        SeganError: As `segan train` would exit, with the same line.
    """
    if not isinstance(config, RunConfig):
        config = run_config(Path(config), overrides, method=method)
    elif overrides or method:
        raise ConfigError("overrides and method go with a file or folder, not a RunConfig")
    return runs.train(config, Path(out), overwrite=overwrite)


def evaluate(
    segmenter: str | Path,
    data: str,
    *,
    root: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    split: str = "test",
    protocol: str = "foreground",
    boxes: str | Path | None = None,
    jitter: float = 0.0,
    shift: float = 0.0,
    window: WindowSpec | None = None,
    limit: int | None = None,
    levels: int | None = None,
    workers: int | None = None,
    refine: str | None = None,
    match_on: str | None = None,
    trivial: bool = False,
    trust: bool = False,
) -> dict[str, Evaluation]:
    """Scores a segmenter against ground truth: `segan evaluate`.

    Args:
        segmenter: As for `load`; for regions and boundaries also a folder of predictions.
        data: Name of the data set.
        root: Where it is.
        settings: Its other settings, by name.
        split: "train", "dev", "test" or "all".
        protocol: "foreground", "semantic", "regions", "boundaries" or "instances".
        boxes: "gt" or a file: score windows around boxes.
        jitter: Move box sides by up to so much of them.
        shift: Move window centres by up to so much of the box.
        window: For segmenters without their own.
        limit: Only the first so many pictures.
        levels: Scales per picture, for regions and boundaries.
        workers: Processes that score, likewise.
        refine: "crf", "ucm", "crf+ucm" or "crf+ucm+edges", likewise.
        match_on: The split on which regions are matched to classes, for semantic.
        trivial: Also score the trivial guesses.
        trust: As for `load`.

    Returns:
        Evaluations by name, the segmenter's first.

    Raises:
        SeganError: As `segan evaluate` would exit, with the same line.
    """
    return commands.scored(
        Namespace(
            segmenter=str(segmenter),
            data=data,
            root=None if root is None else str(root),
            set=[f"{key}={value}" for key, value in (settings or {}).items()],
            split=split,
            protocol=protocol,
            boxes=None if boxes is None else str(boxes),
            jitter=jitter,
            shift=shift,
            size=None if window is None else window.size,
            context=None if window is None else window.context,
            limit=limit,
            levels=levels,
            workers=workers,
            refine=refine,
            match_on=match_on,
            trivial=trivial,
            trust=trust,
        )
    )


def export(
    segmenter: str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    verify: bool = True,
    tolerance: float = 1e-4,
    pictures: str | Path | None = None,
) -> ExportReport:
    """Writes a segmenter as one file that needs no training code: `segan export`.

    Args:
        segmenter: A run directory, a segmenter file or hf://OWNER/NAME.
        out: The file.
        format: "onnx", "onnx-int8", "openvino", "pt2" or "aot".
        verify: Compare the file with the segmenter; one that differs is not kept.
        tolerance: Largest difference of a probability that passes.
        pictures: A folder of pictures, for int8.

    Raises:
        SeganError: As `segan export` would exit, with the same line; ParityError if it differs.
    """
    return export_commands.exported(
        str(segmenter),
        Path(out),
        format=format,
        verify=verify,
        tolerance=tolerance,
        pictures=None if pictures is None else Path(pictures),
    )
