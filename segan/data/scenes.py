"""Views of methods that compose scenes: pictures with objects beside pictures without any.

Object-free pictures come from a second set (supervision "backgrounds"), or are windows of the same
pictures that overlap no box (supervision "boxes").
"""

from collections.abc import Set
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.data.sample import Dataset, Sample, backgrounds_of
from segan.data.views import CutPasteView, Units, random_polygon
from segan.errors import ConfigError
from segan.segmenter import WindowSpec
from segan.windows import Window, crop


class SceneBatch(NamedTuple):
    """Pictures with objects, pictures without, and all the noise of a composition.

    The view draws the noise and the method applies it, on its device: the number of processes
    changes nothing.

    Attributes:
        images: [N, 3, S, S] in [0, 1], each with an object.
        backgrounds: [N, 3, S, S] in [0, 1], without objects.
        others: [N, 3, S, S] in [0, 1], each another picture than that of `images`: with its mask
            they make the irrelevant foregrounds of copy-pasting GANs.
        jitter: [N, 4] uniform in [0, 1): photometric noise of image, background, other and spare.
        polygons: [N, 1, S, S] of 0 and 1: random polygons, for grounded fakes and random holes.
        grain: [N, 6, S, S] standard normal: noise of the two pictures of a second swap.
    """

    images: Tensor
    backgrounds: Tensor
    others: Tensor
    jitter: Tensor
    polygons: Tensor
    grain: Tensor


class SceneView:
    """A square part of a picture with an object, and one of a picture from the object-free set.

    `units` has to come first: the view draws backgrounds and other pictures from the data set that
    it was shown there.

    Args:
        size: Side of the parts, network pixels.
        scale: Network pixels per picture pixel: all parts are then of one side. None: each part is
            the largest square of its picture, at a random place along its longer side, and the
            background's is as large where that fits, so that both are resampled alike.
        mirror: Mirror each part left and right in half of all draws.

    Attributes:
        scale: As given; for None, after `units`, the median over pictures.
        least: How many pictures of the set with objects a scene takes.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images", "backgrounds"})
    least: ClassVar[int] = 2

    def __init__(self, size: int, scale: float | None = 1.0, *, mirror: bool = False) -> None:
        self.size = size
        self.scale = 1.0 if scale is None else scale
        self.mirror = mirror
        self.side = None if scale is None else round(size / scale)
        self._smallest = self.side or size
        self._dataset: Dataset | None = None
        self._items: list[tuple[int, int]] = []
        self._backgrounds: list[int] = []

    def units(self, dataset: Dataset) -> Units:
        """All pictures that are large enough.

        Raises:
            ConfigError: There are not `least` pictures and one object-free picture, or they are not
                large enough.
        """
        items, skipped = self._large_enough(dataset)
        empty = self.destinations(dataset)
        backgrounds, others = self._large_enough(empty)
        self._require(f"pictures of {dataset.name}", len(items), len(dataset), self.least)
        what = f"object-free pictures of {dataset.name}"
        self._require(what, len(backgrounds), len(empty), 1)
        self._dataset = dataset
        self._items = [(index, 0) for index in items]
        self._backgrounds = backgrounds
        if self.side is None:
            shorter = [min(_size(_outline(dataset, index))) for index in items]
            self.scale = float(self.size / np.median(shorter))
        return Units(self._items, skipped + others, "pictures")

    def destinations(self, dataset: Dataset) -> Dataset:
        """The pictures that `SceneBatch.backgrounds` are drawn from."""
        return backgrounds_of(dataset)

    def window(self, sample: Sample, unit: int) -> Window | None:  # noqa: ARG002
        """None: there is no window but the picture."""
        return None

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> SceneBatch:  # noqa: ARG002
        """One picture with an object, one without, and another with an object."""
        assert self._dataset is not None, "the view has not been shown its data set"
        background, other = self._beside(self._dataset, sample, rng)
        side = self.side or min(_size(sample))
        return scene(
            self._part(sample, side, rng),
            self._part(background, side, rng),
            self._part(other, side, rng),
            rng,
        )

    def _beside(
        self, dataset: Dataset, sample: Sample, rng: np.random.Generator
    ) -> tuple[Sample, Sample]:
        """An object-free picture, and another one with an object."""
        chosen = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
        index, _ = another(dataset, self._items, {sample.name}, rng)
        return self.destinations(dataset)[chosen], dataset[index]

    def _part(self, sample: Sample, side: int, rng: np.random.Generator) -> Tensor:
        """A random square part [3, S, S] of `side` pixels, or of as many as there are."""
        height, width = _size(sample)
        side = min(side, height, width)
        left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        part = crop(sample.image, Window(left, top, left + side, top + side), self.size)
        return part.flip(-1) if self.mirror and rng.integers(2) else part

    def _large_enough(self, dataset: Dataset) -> tuple[list[int], list[str]]:
        """The pictures of at least the smallest side, and a line for each of the others."""
        kept, skipped = [], []
        for index in range(len(dataset)):
            sample = _outline(dataset, index)
            height, width = _size(sample)
            if min(height, width) >= self._smallest:
                kept.append(index)
            else:
                smallest = f"less than {self._smallest}"
                skipped.append(f"{sample.name}: {width} x {height} pixels, {smallest}")
        return kept, skipped

    def _require(self, what: str, count: int, total: int, least: int) -> None:
        """Raises ConfigError if fewer than `least` of `total` pictures are large enough."""
        if total < least:
            raise ConfigError(
                f"{what}: {total} in all, at least {least} make a scene; add pictures"
            )
        if count < least:
            limit, remedy = "'method.size'", "lower it"
            if self.side:
                limit += " over 'method.scale'"
                remedy = "lower the size or raise the scale"
            raise ConfigError(
                f"{what}: {count} of {total} with sides of {self._smallest} pixels or more "
                f"({limit}), at least {least} must have them; {remedy}"
            )


class PictureSceneView(SceneView):
    """As `SceneView`, but the backgrounds are pictures of the same set, objects and all.

    Picture, background and other are three different ones.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    least: ClassVar[int] = 3

    def units(self, dataset: Dataset) -> Units:
        """As in `SceneView`; pictures that are too small are named once."""
        units = super().units(dataset)
        return units._replace(skipped=list(dict.fromkeys(units.skipped)))

    def destinations(self, dataset: Dataset) -> Dataset:
        """The data set itself."""
        return dataset

    def _beside(
        self, dataset: Dataset, sample: Sample, rng: np.random.Generator
    ) -> tuple[Sample, Sample]:
        """Two other pictures: nothing is pasted onto itself, where it would look real anyhow."""
        index, _ = another(dataset, self._items, {sample.name}, rng)
        background = dataset[index]
        index, _ = another(dataset, self._items, {sample.name, background.name}, rng)
        return background, dataset[index]


class BoxedSceneView:
    """The window around a box, and an object-free window from the pictures of the same set.

    `units` has to come first, as for `SceneView`. The background lies in the picture of another
    object, so that an object meets ground that it was not seen on.

    Args:
        spec: Size and context of the windows.
        mirror: As in `SceneView`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images", "boxes"})

    def __init__(self, spec: WindowSpec, *, mirror: bool = False) -> None:
        self.windows = CutPasteView(spec, "uniform", neighbours="avoid")
        self.mirror = mirror
        self._dataset: Dataset | None = None
        self._items: list[tuple[int, int]] = []

    def units(self, dataset: Dataset) -> Units:
        """All boxes whose window shows no other object and whose picture has a free window.

        Raises:
            ConfigError: Every picture is smaller than a window, or fewer than two have such boxes.
        """
        units = self.windows.units(dataset)
        if len({index for index, _ in units.items}) < 2:
            reason = f"; the first left out: {units.skipped[0]}" if units.skipped else ""
            raise ConfigError(
                f"object-free windows must come from at least two pictures of {dataset.name}"
                f"{reason}"
            )
        self._dataset, self._items = dataset, units.items
        return units

    def window(self, sample: Sample, unit: int) -> Window | None:
        """The window around box `unit`."""
        return self.windows.window(sample, unit)

    def __call__(self, sample: Sample, unit: int, rng: np.random.Generator) -> SceneBatch:
        """An object's window, a free window of another picture, and another object's window."""
        assert self._dataset is not None, "the view has not been shown its data set"
        own = self.windows(sample, unit, rng)
        index, number = another(self._dataset, self._items, {sample.name}, rng)
        other = self.windows(self._dataset[index], number, rng)
        image, background, other_image = (
            part.flip(-1) if self.mirror and rng.integers(2) else part
            for part in (own.objects, other.backgrounds, other.objects)
        )
        return scene(image, background, other_image, rng)


def scene(image: Tensor, background: Tensor, other: Tensor, rng: np.random.Generator) -> SceneBatch:
    """One item of a batch: its pictures [3, S, S], and noise from `rng`."""
    size = image.shape[-1]
    jitter = torch.from_numpy(rng.random(4, dtype=np.float32))
    polygon = random_polygon(rng, size)
    grain = torch.from_numpy(rng.standard_normal((6, size, size), dtype=np.float32))
    return SceneBatch(image, background, other, jitter, polygon, grain)


def another(
    dataset: Dataset, items: list[tuple[int, int]], names: Set[str], rng: np.random.Generator
) -> tuple[int, int]:
    """A random unit of a picture of another name than `names`; there is at least one."""
    while True:
        index, unit = items[int(rng.integers(len(items)))]
        if _outline(dataset, index).name not in names:
            return index, unit


# --- do the two sets fit? ------------------------------------------------------------------------

_MOST_COMPARED = 200
_LEAST_COMPARED = 20
_COMPARED_SIDE = 64
_RIM = 6

Features = dict[str, NDArray[np.float64]]


def doubts_about(dataset: Dataset) -> list[str]:
    """What is suspicious about the two sets of a data set, one line each, without any labels.

    Compared are up to 200 pictures of each set, by the probability that a number is larger in one
    set than in the other (.5: no difference). Sets that agree in texture, contrast and the
    difference between middle and border may hold objects both; sets that differ along the border,
    where objects are rare, come from different cameras or places, and a discriminator will look at
    that instead of the objects.
    """
    with_objects, without = (_features(found) for found in (dataset, backgrounds_of(dataset)))
    counts = [len(next(iter(found.values()))) for found in (with_objects, without)]
    if min(counts) < _LEAST_COMPARED:
        return []
    order = {k: _probability_larger(with_objects[k], without[k]) for k in with_objects}
    # Three standard deviations of the rank statistic for sets that are alike.
    margin = 3 * (sum(counts) + 1) ** 0.5 / (12 * counts[0] * counts[1]) ** 0.5
    doubts = []
    if all(abs(order[name] - 0.5) < margin for name in ("texture", "contrast", "middle")):
        doubts.append(
            "the pictures of 'data.backgrounds' look just like those with objects "
            "(texture, contrast, middle against border); make sure that they hold no objects"
        )
    for name in ("brightness", "saturation", "sharpness"):
        if abs(order[name] - 0.5) > 0.4:
            doubts.append(
                f"the object-free pictures of {dataset.name} differ from the others in {name} even "
                "along the border, where objects are rare; a discriminator will see that first"
            )
    return doubts


def _features(dataset: Dataset) -> Features:
    """Numbers of up to 200 evenly spaced pictures, each from its largest centred square."""
    step = -(-len(dataset) // _MOST_COMPARED)
    rows = [_numbers(dataset[index].image) for index in range(0, len(dataset), step)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _numbers(image: Tensor) -> dict[str, float]:
    height, width = image.shape[-2:]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = crop(image, Window(left, top, left + side, top + side), _COMPARED_SIDE)
    gray = square.mean(0)
    edges = gray.diff(dim=0).abs()[:, :-1] + gray.diff(dim=1).abs()[:-1]
    rim = torch.ones_like(gray, dtype=torch.bool)
    rim[_RIM:-_RIM, _RIM:-_RIM] = False
    inner = slice(_COMPARED_SIDE // 4, -_COMPARED_SIDE // 4)
    blocks = torch.nn.functional.avg_pool2d(edges[None], 9, stride=4)
    numbers = {
        "texture": blocks.max(),
        "contrast": gray.std(),
        "middle": (square[:, inner, inner].mean((1, 2)) - square[:, rim].mean(1)).abs().sum(),
        "brightness": gray[rim].mean(),
        "saturation": (square.amax(0) - square.amin(0))[rim].mean(),
        "sharpness": edges[rim[:-1, :-1]].mean(),
    }
    return {name: float(number) for name, number in numbers.items()}


def _probability_larger(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """P(a > b) + P(a = b) / 2 over all pairs: the area under the ROC curve."""
    return float((np.sign(first[:, None] - second[None]) + 1).mean() / 2)


def _outline(dataset: Dataset, index: int) -> Sample:
    """A sample whose pixels do not matter; cached sets know them without decoding."""
    outline = getattr(dataset, "outline", None)
    sample: Sample = outline(index) if outline else dataset[index]
    return sample


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[1], sample.image.shape[2]
