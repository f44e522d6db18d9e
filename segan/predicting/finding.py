"""From what an engine says of a picture to what is written: refined, cut, told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.arrays import Picture
from segan.errors import ConfigError
from segan.formats import FORMATS, Found
from segan.predicting.engines import LARGE_PICTURE, Engine
from segan.predicting.sources import Job
from segan.refining import FLIPS, Refinement, SoftMask, compose
from segan.separation import separate, separate_regions
from segan.tiling import Tiling, blended
from segan.windows import Window, boxes_to_mask

MAX_PIXELS = 100_000_000

# Refinements hold several copies of a picture in floats; large pictures are refined in tiles.
_REFINED_TILES = Tiling(side=2048, overlap=256)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is made of a segmenter's probabilities.

    Attributes:
        threshold: Above it a pixel belongs to the object, in [0, 1).
        refine: Names of `segan.refining`, applied in this order; "flips" comes first anyway.
        instances: Whether each connected piece is an object of its own.
        min_area: Pieces with fewer pixels are left out.
        max_area: Pieces with more pixels are left out; None keeps all.
        tile: Side of tiles, pixels of the picture; None: for large pictures alone.
        max_pixels: Larger pictures are skipped as unreadable.

    Raises:
        ConfigError: A value is out of range, or there is no such refinement.
    """

    threshold: float = 0.5
    refine: tuple[str, ...] = ()
    instances: bool = False
    min_area: int = 0
    max_area: int | None = None
    tile: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        compose(self.refine)
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"--threshold is {self.threshold:g}; it must be in [0, 1)")
        if self.min_area < 0:
            raise ConfigError(f"--min-area is {self.min_area}; it must be at least 0")
        if self.max_area is not None and self.max_area < max(self.min_area, 1):
            raise ConfigError(f"--max-area is {self.max_area}; it must be at least --min-area")
        if self.tile is not None and self.tile < 64:
            raise ConfigError(f"--tile is {self.tile}; it must be at least 64 pixels")
        if self.max_pixels < 1:
            raise ConfigError(f"--max-pixels is {self.max_pixels}; it must be at least 1")


def check_options(options: Options, formats: Sequence[str], engine: Engine, name: str) -> None:
    """Checks that a segmenter's output can be treated and written so.

    Raises:
        ConfigError: It has unnamed regions, and something asks for an object.
    """
    if engine.named:
        return
    steps = [step for step in options.refine if step != FLIPS]
    objects = [each for each in formats if "probability" in FORMATS[each].needs]
    problem = (
        f"--refine {steps[0]}" if steps
        else f"--format {objects[0]}" if objects
        else "--threshold" if options.threshold != Options().threshold
        else ""
    )  # fmt: skip
    if problem:
        raise ConfigError(f"{problem} is for masks of an object; {name} has unnamed regions")
    if (options.min_area or options.max_area) and not options.instances:
        raise ConfigError(
            f"{name} has unnamed regions: --min-area and --max-area choose among their connected "
            "pieces, so give --instances too"
        )


def find(
    job: Job, values: Tensor, picture: Tensor | None, engine: Engine, options: Options
) -> Found:
    """What was found in a picture.

    Args:
        job: The picture.
        values: From `Engine.finish`: the object's probability or regions' numbers, [H, W].
        picture: uint8 [3, H, W]; None if neither refinements nor formats look at it.
        engine: Where the values come from.
        options: What to make of them.
    """
    pixels = None if picture is None else picture.permute(1, 2, 0).numpy()
    if not engine.named:
        return _regions(job, values.numpy(), pixels, engine, options)
    probability: SoftMask = values.numpy()
    if any(step != FLIPS for step in options.refine):
        assert pixels is not None
        probability = refined(pixels, probability, compose(options.refine))
        if job.boxes is not None:  # the mask stays inside them
            probability = probability * boxes_to_mask(job.boxes, values.shape).amax((0, 1)).numpy()
    mask = (probability > options.threshold).view(np.uint8)
    objects: NDArray[np.integer] = mask
    if options.instances or options.min_area or options.max_area:
        pieces = separate(mask > 0, min_area=options.min_area, max_area=options.max_area)
        mask = (pieces > 0).view(np.uint8)
        objects = pieces if options.instances else mask
    return Found(
        name=job.name,
        file=job.file,
        labels=mask,
        objects=objects,
        object_categories=np.zeros(int(objects.max()), np.intp),
        category_names=engine.category_names,
        named=True,
        probability=probability,
        picture=pixels,
    )


def refined(picture: Picture, mask: SoftMask, refine: Refinement) -> SoftMask:
    """A refined soft mask; large pictures in overlapping tiles."""
    if mask.size <= LARGE_PICTURE:
        return refine(picture, mask)

    def of_tile(window: Window) -> Tensor:
        place = slice(window.y0, window.y1), slice(window.x0, window.x1)
        return torch.from_numpy(refine(np.ascontiguousarray(picture[place]), mask[place].copy()))

    height, width = mask.shape
    result: SoftMask = blended(of_tile, (height, width), _REFINED_TILES).clamp(0, 1).numpy()
    return result


def _regions(
    job: Job,
    labels: NDArray[np.int32],
    picture: Picture | None,
    engine: Engine,
    options: Options,
) -> Found:
    if options.instances:
        objects, regions = separate_regions(
            labels, min_area=options.min_area, max_area=options.max_area
        )
    else:
        objects, regions = labels + 1, np.arange(int(labels.max()) + 1)
    # Numbers of a partition mean nothing in other pictures: one category for all of them.
    categories = regions if len(engine.category_names) > 1 else np.zeros_like(regions)
    return Found(
        name=job.name,
        file=job.file,
        labels=labels,
        objects=objects,
        object_categories=categories,
        category_names=engine.category_names,
        named=False,
        picture=picture,
    )
