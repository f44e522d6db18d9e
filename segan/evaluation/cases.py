"""What is scored: whole pictures, or the window around each object, each with its own truth.

Whatever depends on chance (box jitter, window shift) is a function of the picture's name and the
object's number, so that every segmenter is scored on the same cases.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.data.sample import Dataset, Instances, Mask, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation import metrics
from segan.evaluation.rows import scaled_image
from segan.progress import tracked
from segan.segmenter import WindowSpec
from segan.windows import Window, box_in_window, boxes_to_mask, crop, window_around

BATCH_CASES = 64
BATCH_PIXELS = 2**20


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Which parts of a data set are scored, and at what scale the segmenter sees them.

    Attributes:
        windows: "none": whole pictures; "box": the window around each box.
        spec: The windows the segmenter was trained on, from its file.
        scale: Network pixels per picture pixel of whole pictures; None: that of `spec`, or 1
            without one.
        box_jitter: Each side of a box is moved by up to this fraction of the box side, in [0, .5).
        shift: The centre of a window lies up to this fraction of the box sides off the box's, on
            either axis, at least 0.
        limit: Only the first so many pictures of the data set.

    Raises:
        ConfigError: A value is out of range, or there are windows but no `spec`.
    """

    windows: Literal["none", "box"] = "none"
    spec: WindowSpec | None = None
    scale: float | None = None
    box_jitter: float = 0.0
    shift: float = 0.0
    limit: int | None = None

    @property
    def picture_scale(self) -> float:
        """Network pixels per picture pixel of whole pictures."""
        if self.scale is not None:
            return self.scale
        return self.spec.scale if self.spec else 1.0

    def __post_init__(self) -> None:
        if self.windows == "box" and self.spec is None:
            raise ConfigError("windows 'box' needs the size and context of the windows; give both")
        if not 0 <= self.box_jitter < 0.5:
            raise ConfigError(f"box_jitter is {self.box_jitter}; it must be in [0, 0.5)")
        if not self.shift >= 0:
            raise ConfigError(f"shift is {self.shift}; it must be at least 0")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is scored.

    Attributes:
        picture: Name of the sample.
        instance: Index of its box, or None for the whole picture.
        image: What the segmenter sees, float [3, h, w] in [0, 1].
        box: [4] in pixels of `image`, or None for the whole picture.
        truth: bool [H, W] at native resolution.
        valid: bool [H, W], False where the truth says nothing; None when it says all.
        inside: bool [H, W], the pixels inside the box; None for the whole picture.
    """

    picture: str
    instance: int | None = None
    image: Tensor
    box: Tensor | None = None
    truth: metrics.Mask
    valid: metrics.Mask | None = None
    inside: metrics.Mask | None = None


def cases_of(dataset: Dataset, which: Cases) -> Iterator[Case]:
    """Every case of a data set, picture by picture; those without one valid pixel are left out.

    Raises:
        ConfigError: The data set has no masks, or no boxes where windows need them.
        DataError: One of its pictures lacks its truth.
    """
    check(dataset, which)
    count = min(len(dataset), which.limit or len(dataset))
    for index in tracked(range(count), "scoring", count):
        sample = dataset[index]
        cases = [_whole(sample, which)] if which.windows == "none" else _windows(sample, which)
        yield from (case for case in cases if case.valid is None or case.valid.any())


def check(dataset: Dataset, which: Cases) -> None:
    """Raises ConfigError if a data set does not provide what the cases need."""
    provides = ", ".join(sorted(dataset.provides))
    if not dataset.provides & {"masks", "instances"}:
        raise ConfigError(f"{dataset.name} has no masks to score against; it provides {provides}")
    if which.windows == "box" and "boxes" not in dataset.provides:
        raise ConfigError(f"{dataset.name} has no boxes for windows; it provides {provides}")


def batches(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """Consecutive cases whose images have one size, at most 64 and about a megapixel at a time."""
    batch: list[Case] = []
    for case in cases:
        size = case.image.shape[-2] * case.image.shape[-1]
        full = len(batch) == BATCH_CASES or (len(batch) + 1) * size > BATCH_PIXELS
        if batch and (full or batch[0].image.shape != case.image.shape):
            yield batch
            batch = []
        batch.append(case)
    if batch:
        yield batch


def _whole(sample: Sample, which: Cases) -> Case:
    image = scaled_image(sample.image, which.picture_scale)
    truth, valid = _truth(sample)
    return Case(picture=sample.name, image=image, truth=truth.numpy(), valid=_array(valid))


def _windows(sample: Sample, which: Cases) -> Iterator[Case]:
    spec = which.spec
    assert spec is not None
    picture_size = int(sample.image.shape[-2]), int(sample.image.shape[-1])
    boxes = torch.empty(0, 4) if sample.boxes is None else sample.boxes
    for index, annotated in enumerate(boxes):
        box = _jittered(annotated, picture_size, which.box_jitter, f"{sample.name}/{index}")
        shift_x, shift_y, *_ = which.shift * _offsets(f"shift/{sample.name}/{index}")
        window = window_around(
            box, picture_size, context=spec.context, square=spec.square, shift=(shift_x, shift_y)
        )
        truth, valid = _truth_in_window(sample, index, window)
        inside = boxes_to_mask(_moved(box, window)[None], (window.height, window.width))[0, 0]
        yield Case(
            picture=sample.name,
            instance=index,
            image=crop(sample.image, window, spec.size),
            box=box_in_window(box, window, spec.size),
            truth=truth.numpy(),
            valid=_array(valid),
            inside=inside.bool().numpy(),
        )


def _truth(sample: Sample) -> tuple[Tensor, Tensor | None]:
    """Where objects are, and where that is known: bool [H, W] each."""
    match sample.truth:
        case Mask(mask=mask, ignore=ignore):
            return mask, None if ignore is None else ~ignore
        case Instances(labels=labels):
            return labels > 0, None
    raise DataError(f"{sample.name} has no mask to score against; remove it or add its mask")


def _truth_in_window(sample: Sample, index: int, window: Window) -> tuple[Tensor, Tensor | None]:
    """The boxed object alone, in its window, and where that is known: bool [h, w] each.

    A mask without instances belongs to the object where it lies inside the annotated box.
    """
    rows, columns = slice(window.y0, window.y1), slice(window.x0, window.x1)
    if isinstance(sample.truth, Instances):
        return sample.truth.labels[rows, columns] == index + 1, None
    mask, valid = _truth(sample)
    assert sample.boxes is not None
    box = _moved(sample.boxes[index], window)
    inside = boxes_to_mask(box[None], (window.height, window.width))[0, 0].bool()
    return mask[rows, columns] & inside, None if valid is None else valid[rows, columns]


def _moved(box: Tensor, window: Window) -> Tensor:
    """A picture's box [4] in native pixels from the window's corner."""
    return box - box.new_tensor([window.x0, window.y0] * 2)


def _jittered(box: Tensor, picture_size: tuple[int, int], jitter: float, key: str) -> Tensor:
    """A box [4] with each side moved by U(-jitter, jitter) box sides, inside the picture."""
    height, width = picture_size
    sides = (box[2:] - box[:2]).repeat(2)
    moved = box + jitter * sides * torch.from_numpy(_offsets(f"jitter/{key}")).to(box)
    return moved.clamp(min=0).minimum(box.new_tensor([width, height, width, height]))


def _offsets(key: str) -> NDArray[np.float64]:
    """Four uniform numbers in [-1, 1) that depend on the key alone."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    offsets: NDArray[np.float64] = np.frombuffer(digest, np.dtype("<u8")) / 2.0**63 - 1
    return offsets


def _array(mask: Tensor | None) -> metrics.Mask | None:
    return None if mask is None else mask.numpy()
