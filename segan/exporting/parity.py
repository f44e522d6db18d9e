"""The gate of every export: a file is kept only if its maps are those of the segmenter."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from segan.errors import ParityError
from segan.exporting.opened import Run
from segan.exporting.whole import WholePicture

MIN_EQUAL_PIXELS = 0.9999
NUM_PIXELS = 1_000_000

# Odd sizes, both orientations, and less than the stride of most networks.
_SIZES = ((64, 64), (65, 97), (200, 120), (257, 129), (13, 7))
_BATCHES = (1, 3)

Pictures = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far an exported file is from the segmenter it came from.

    Attributes:
        max_difference: Largest difference of a pixel's probability.
        equal_pixels: Share of pixels with the same mask or label, in [0, 1].
        num_pixels: How many were compared.
    """

    max_difference: float
    equal_pixels: float
    num_pixels: int

    def __str__(self) -> str:
        return (
            f"probabilities within {self.max_difference:.2g}, {self.equal_pixels:.4%} of "
            f"{self.num_pixels:,} mask pixels equal"
        )


def measure(model: WholePicture, run: Run, batches: Iterable[Pictures]) -> Parity:
    """How far what `run` gives is from the model's, on batches of uint8 [N, H, W, 3].

    Raises:
        ParityError: It fails, or the maps have another shape or type than the model's.
    """
    largest, num_equal, num_pixels = 0.0, 0, 0
    for pictures in batches:
        with torch.inference_mode():
            maps, probabilities = (output.numpy() for output in model(torch.from_numpy(pictures)))
        try:
            found, exported = run(pictures)
        except Exception as error:  # each runtime has its own
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ParityError(
                f"the exported file fails on pictures {list(pictures.shape)}: {reason}; not kept"
            ) from None
        for wanted, given in ((maps, found), (probabilities, exported)):
            if wanted.shape != given.shape or wanted.dtype != given.dtype:
                raise ParityError(
                    f"the exported file gives {given.dtype} {list(given.shape)} where the "
                    f"segmenter gives {wanted.dtype} {list(wanted.shape)}; not kept"
                )
        difference = float(np.abs(exported - probabilities).max())
        # Of a NaN, max() would keep the other number.
        largest = difference if np.isnan(difference) else max(largest, difference)
        num_equal += int((found == maps).sum())
        num_pixels += maps.size
        if np.isnan(largest):
            break
    return Parity(
        max_difference=largest, equal_pixels=num_equal / num_pixels, num_pixels=num_pixels
    )


def require_parity(parity: Parity, *, tolerance: float, min_equal: float) -> None:
    """Raises ParityError where probabilities or maps are further off than allowed, or NaN."""
    if not (parity.max_difference <= tolerance and parity.equal_pixels >= min_equal):
        raise ParityError(
            f"the exported file differs: probabilities by up to {parity.max_difference:.2g} "
            f"(at most {tolerance:g} is allowed), {parity.equal_pixels:.4%} of "
            f"{parity.num_pixels:,} mask pixels equal (at least {min_equal:.2%}); not kept"
        )


def probes(num_pixels: int | None = None) -> Iterator[Pictures]:
    """Batches of pictures uint8 [N, H, W, 3], noise and soft shapes in turn."""
    random = np.random.default_rng(0)
    wanted = NUM_PIXELS if num_pixels is None else num_pixels
    seen = 0
    while seen < wanted:
        for batch in _BATCHES:
            for height, width in _SIZES:
                noise = random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
                yield noise
                yield soft_shapes(random, batch, height, width)
                seen += 2 * batch * height * width


def soft_shapes(random: np.random.Generator, batch: int, height: int, width: int) -> Pictures:
    """Pictures of a few overlapping waves, each of its own direction, length and colour."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    direction = random.uniform(-20, 20, (2, batch, 1, 1, 3, 4))
    phase = random.uniform(0, 2 * np.pi, (batch, 1, 1, 3, 4))
    waves = np.sin(direction[0] * x[..., None, None] + direction[1] * y[..., None, None] + phase)
    pictures: Pictures = (127.5 + 127.5 * waves.mean(-1)).astype(np.uint8)
    return pictures
