"""Views that pair parts of pictures with a mask to learn: what a mask is made of is for others.

Parts are flipped and scaled at random, at the scale or in the windows of the unsupervised methods'
views, so that what is learnt from masks sees neither more nor less of a picture than they do.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from segan.data.sample import Dataset, Sample
from segan.data.views import Units, other_boxes
from segan.errors import ConfigError
from segan.segmenter import WindowSpec
from segan.windows import Window, box_in_window, boxes_to_mask, crop, window_around


class TargetBatch(NamedTuple):
    """Parts of pictures, and what a segmenter should make of them.

    Attributes:
        images: [N, 3, S, S] in [0, 1].
        targets: [N, 1, S, S] in [0, 1].
        weights: [N, 1, S, S], 0 where the target says nothing.
        confidence: [N], weight of each part.
        photometric: [N, 3] uniform in [-1, 1): brightness, contrast, colour balance.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    confidence: Tensor
    photometric: Tensor


class Target(NamedTuple):
    """The mask of one unit.

    Attributes:
        opacity: float [1, H, W] in [0, 1].
        known: float [1, H, W], 0 where nothing is known; None: known everywhere.
        confidence: Weight of the unit.
    """

    opacity: Tensor
    known: Tensor | None = None
    confidence: float = 1.0


class TargetView(ABC):
    """Random parts of whole pictures, or windows around boxes; `target` says what to learn there.

    Args:
        size: Side of the parts, network pixels.
        scale: Network pixels per picture pixel of parts of whole pictures.
        zoom: Sizes of parts and windows vary by a factor of up to 1 + zoom either way.
        windows: Windows around boxes in place of parts of whole pictures. The mask ends at the
            box, and what lies in other boxes counts for nothing, as in cut-and-paste.
        shift: The window's centre is moved by up to this share of the box, on each axis.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})

    def __init__(
        self,
        size: int,
        scale: float = 1.0,
        *,
        zoom: float = 0.0,
        windows: WindowSpec | None = None,
        shift: float = 0.0,
    ) -> None:
        self.size = size
        self.scale = scale
        self.zoom = zoom
        self.windows = windows
        self.shift = shift

    @abstractmethod
    def target(self, sample: Sample, unit: int | None) -> Target:
        """What is to be learnt of a picture: its objects, or with `unit` the object of that box."""

    def usable(self, sample: Sample) -> str | None:  # noqa: ARG002
        """Why a picture has nothing to learn from, if so."""
        return None

    def units(self, dataset: Dataset) -> Units:
        """All pictures, or all boxes.

        Raises:
            ConfigError: Windows are wanted and there are no boxes.
        """
        if self.windows is not None and "boxes" not in dataset.provides:
            raise ConfigError(
                f"'method.view.windows' is true and data set {dataset.name!r} has no boxes; "
                f"it provides {', '.join(sorted(dataset.provides))}"
            )
        items, skipped = [], []
        for index in range(len(dataset)):
            sample = dataset[index]
            reason = self.usable(sample)
            boxes = () if sample.boxes is None else sample.boxes
            count = 1 if self.windows is None else len(boxes)
            if reason is None:
                items += [(index, unit) for unit in range(count)]
            else:
                skipped.append(f"{sample.name}: {reason}")
        return Units(items, skipped, "pictures")

    def window(
        self,
        sample: Sample,
        unit: int,
        *,
        factor: float = 1.0,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> Window | None:
        """The window around box `unit`; None for parts of whole pictures."""
        if self.windows is None:
            return None
        assert sample.boxes is not None
        height, width = sample.image.shape[-2:]
        return window_around(
            sample.boxes[unit],
            (height, width),
            context=max(self.windows.context * factor, 1.0),
            square=self.windows.square,
            shift=shift,
        )

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> TargetBatch:
        """One part of a picture and its mask, mirrored half of the time."""
        factor = (1 + self.zoom) ** rng.uniform(-1, 1)
        across, down = rng.uniform(-self.shift, self.shift, 2)
        window = self.window(sample, unit, factor=factor, shift=(across, down))
        if window is None:
            batch = self._part(sample, factor, rng)
        else:
            batch = self._windowed(sample, unit, window)
        if rng.integers(2):
            images, targets, weights = (each.flip(-1) for each in batch[:3])
            batch = batch._replace(images=images, targets=targets, weights=weights)
        noise = torch.from_numpy(rng.uniform(-1, 1, 3).astype(np.float32))
        return batch._replace(photometric=noise)

    def _part(self, sample: Sample, factor: float, rng: np.random.Generator) -> TargetBatch:
        height, width = sample.image.shape[-2:]
        side = min(max(round(self.size / self.scale * factor), 1), height, width)
        left = int(rng.integers(width - side + 1))
        top = int(rng.integers(height - side + 1))
        window = Window(left, top, left + side, top + side)
        return self._cut(sample, self.target(sample, None), window)

    def _windowed(self, sample: Sample, unit: int, window: Window) -> TargetBatch:
        assert sample.boxes is not None
        batch = self._cut(sample, self.target(sample, unit), window)
        size = (self.size, self.size)
        box = box_in_window(sample.boxes[unit], window, self.size)
        hidden = other_boxes(sample.boxes, unit, window, self.size)
        inside = boxes_to_mask(box[None], size)[0]
        return batch._replace(targets=batch.targets * inside, weights=batch.weights * (1 - hidden))

    def _cut(self, sample: Sample, target: Target, window: Window) -> TargetBatch:
        """A window and its target, so far without noise."""
        weights = torch.ones(1, self.size, self.size)
        if target.known is not None:
            weights = (crop(target.known, window, self.size) > 0.99).float()
        return TargetBatch(
            images=crop(sample.image, window, self.size),
            targets=crop(target.opacity, window, self.size),
            weights=weights,
            confidence=torch.tensor(target.confidence),
            photometric=torch.zeros(3),
        )
