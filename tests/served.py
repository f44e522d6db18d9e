"""Exported files for tests of the server: their masks can be worked out from the picture alone."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from segan.exporting.formats import export_file
from segan.exporting.whole import WholePicture
from segan.segmenter import Segmenter

METADATA = {
    "segan_version": "0",
    "foreground": 1,
    "num_regions": 2,
    "supervision": {"train": "none"},
}


class Red(Segmenter):
    """The red channel is the object's probability; with `sign` -1 the rest is."""

    foreground = 1

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(0.0 if sign > 0 else 1.0))
        self.register_buffer("sign", torch.tensor(float(sign)))

    def forward(self, images: Tensor) -> Tensor:
        mask = self.start + self.sign * images[:, :1]
        return torch.cat([1 - mask, mask], dim=1)


def export_red(path: Path, sign: int = 1) -> Path:
    """An exported file of that segmenter."""
    export_file(WholePicture(Red(sign)), path, metadata=METADATA, verify=False)
    return path


def picture(height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    """Red from 0 on the left to 255 on the right, and noise in the other channels."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width).round().astype(np.uint8)
    return pixels


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A picture as a file."""
    Image.fromarray(pixels).save(path)
    return path
