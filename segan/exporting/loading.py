"""Exported files as segmenters, for prediction and evaluation."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from segan.config import Tree
from segan.errors import ConfigError
from segan.exporting.formats import format_of
from segan.exporting.opened import OpenFile, Run
from segan.segmenter import RegionSegmenter, Segmenter


class ExportedSegmenter(Segmenter):
    """An exported file of a named object, as a segmenter of whole pictures; scales by itself.

    Args:
        run: Of the open file.
    """

    foreground = 1

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        """Regions [N, 2, H, W]: background, object; images count at the 8 bits of pictures."""
        mask = _probabilities(self.run, images)[:, None]
        return torch.cat([1 - mask, mask], dim=1)


class _Logarithms(nn.Module):
    """What an exported file of unnamed regions gives, as logits: softmax makes it whole again."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        probabilities = _probabilities(self.run, images)
        return probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def _probabilities(run: Run, images: Tensor) -> Tensor:
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    _, probabilities = run(levels.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    return torch.from_numpy(probabilities).to(images)


@dataclass(frozen=True, kw_only=True)
class LoadedExport:
    """What an exported file holds.

    Attributes:
        segmenter: On the CPU.
        metadata: As `export_file` wrote it.
        num_regions: Of unnamed regions; None where the object has a name.
        sha256: Of the file and what lies beside it, hexadecimal.
    """

    segmenter: Segmenter
    metadata: Tree
    num_regions: int | None
    sha256: str


def load_exported(path: Path, *, trust: bool = False) -> LoadedExport:
    """Reads a file from `export_file`; which format it has, its suffix says.

    Args:
        path: The file.
        trust: Allow formats whose files can run code: .pt2 and .aot.pt2.

    Raises:
        ConfigError: It cannot be read, or segan did not export it, or is not to be trusted.
    """
    kind = format_of(path)
    if kind is None:
        raise ConfigError(f"{path} is not an exported file: its suffix is none of a format's")
    if kind.runs_code and not trust:
        raise ConfigError(
            f"{path} can run code of whoever made it: add --trust (trust=True) if that is you, "
            "or use the .onnx"
        )
    found = kind.open(path)
    foreground, num_regions = (found.metadata.get(key) for key in ("foreground", "num_regions"))
    if foreground not in (None, 1) or type(num_regions) is not int or num_regions < 2:
        raise ConfigError(f"{path}: impossible foreground or number of regions; it is damaged")
    named = foreground is not None
    segmenter = ExportedSegmenter(found.run) if named else _regions(found)
    digest = hashlib.sha256(path.read_bytes())
    if kind.beside:
        digest.update(path.with_suffix(kind.beside).read_bytes())
    return LoadedExport(
        segmenter=segmenter.eval(),
        metadata=found.metadata,
        num_regions=None if named else num_regions,
        sha256=digest.hexdigest(),
    )


def _regions(found: OpenFile) -> RegionSegmenter:
    return RegionSegmenter(_Logarithms(found.run), stride=1)
