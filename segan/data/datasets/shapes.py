"""Shapes: a procedural world of textured objects on textured backgrounds, shipped as code.

An object is a striped body of random outline, drawn with a dark rim, on cloudy ground strewn with
distractors (pebbles and twigs) that also occur where there is no object. Every second stripe has a
colour of the picture's own ground, and some distractors are as dark as a rim, so that no colour,
and no threshold, tells an object from its surroundings; texture and the closed rim do. The rim also
gives a discriminator something to miss when a part of an object is cut off.

Every picture is a pure function of (seed, split, index).
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from segan.config import settings
from segan.data.boxes import boxes_of
from segan.data.sample import Instances, Sample, Split

Array = NDArray[np.float32]
Rng = np.random.Generator

# Pictures are drawn at twice their size and averaged down, which smooths the outlines.
_OVERSAMPLING = 2

# Each split draws its pictures' numbers from a range of its own, whatever the others' lengths.
_FIRST = {"train": 0, "dev": 1_000_000, "test": 2_000_000}
_FIRST_BACKGROUND = 3_000_000


@settings
class ShapesConfig:
    """The shapes world.

    Attributes:
        level: "single": one large object, few distractors. "default": one to three objects.
            "hard": up to five objects of lower contrast that may touch the border and each other,
            without a rim, and striped scraps among the distractors.
        size: Side of the square pictures, pixels.
        train_images: Pictures in the training split.
        test_images: Pictures in each of the held-out splits, dev and test.
        backgrounds: Object-free pictures beside each split, for methods that need them; 0: none.
        seed: Of the world, not of the training run.
    """

    type: Literal["shapes"] = "shapes"
    level: Literal["single", "default", "hard"] = "default"
    size: int = Field(default=128, ge=32)
    train_images: int = Field(default=1000, ge=1, le=1_000_000)
    test_images: int = Field(default=500, ge=1, le=1_000_000)
    backgrounds: int = Field(default=1000, ge=0, le=1_000_000)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True, kw_only=True)
class _Level:
    """What differs between levels; lengths are shares of the picture's side."""

    objects: tuple[int, int]
    radius: tuple[float, float]
    distractors: tuple[int, int]
    rim: float
    contrast: float
    overlap: bool
    scraps: bool


_LEVELS = {
    "single": _Level(
        objects=(1, 1),
        radius=(0.14, 0.22),
        distractors=(3, 8),
        rim=0.018,
        contrast=1.0,
        overlap=False,
        scraps=False,
    ),
    "default": _Level(
        objects=(1, 3),
        radius=(0.11, 0.18),
        distractors=(8, 16),
        rim=0.016,
        contrast=0.85,
        overlap=False,
        scraps=False,
    ),
    "hard": _Level(
        objects=(1, 5),
        radius=(0.08, 0.18),
        distractors=(10, 24),
        rim=0.0,
        contrast=0.5,
        overlap=True,
        scraps=True,
    ),
}


class Shapes:
    """The shapes world as a data set; satisfies `segan.data.sample.Dataset`."""

    name = "shapes"
    provides = frozenset({"images", "boxes", "masks", "instances", "backgrounds"})
    box_source = "procedural"
    backgrounds: "ShapesGround"

    def __init__(self, config: ShapesConfig, split: Split) -> None:
        self.config = config
        train, test = config.train_images, config.test_images
        self.pictures = [
            (part, number)
            for part in _FIRST
            if split in (part, "all")
            for number in range(train if part == "train" else test)
        ]
        self.name = "shapes" if config.level == "default" else f"shapes-{config.level}"
        if config.backgrounds:
            self.backgrounds = ShapesGround(config)
        else:
            self.provides -= {"backgrounds"}

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        part, number = self.pictures[index]
        rng = np.random.default_rng((self.config.seed, _FIRST[part] + number))
        image, labels = draw_picture(rng, _LEVELS[self.config.level], self.config.size)
        truth = torch.from_numpy(labels)
        return Sample(
            name=f"{part}-{number:05d}",
            image=_as_tensor(image),
            boxes=boxes_of(truth),
            truth=Instances(truth),
        )


class ShapesGround:
    """The same world without objects: ground and distractors, drawn by the same code."""

    provides = frozenset({"images"})
    box_source = ""

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config
        self.name = f"shapes-{config.level}-ground"
        self.level = replace(_LEVELS[config.level], objects=(0, 0))

    def __len__(self) -> int:
        return self.config.backgrounds

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self.config.seed, _FIRST_BACKGROUND + index))
        image, _ = draw_picture(rng, self.level, self.config.size)
        return Sample(name=f"ground-{index:05d}", image=_as_tensor(image))


def _as_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def draw_picture(rng: Rng, level: _Level, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """One picture, uint8 [size, size, 3], and its instances, int32 [size, size]."""
    side = size * _OVERSAMPLING
    palette = np.stack([_colour(rng) for _ in range(3)])
    canvas = _ground(rng, side, palette)
    for _ in range(rng.integers(level.distractors[0], level.distractors[1] + 1)):
        _draw_distractor(rng, canvas, palette, scraps=level.scraps)
    labels = np.zeros((size, size), np.int32)
    for _ in range(rng.integers(level.objects[0], level.objects[1] + 1)):
        _draw_object(rng, canvas, labels, palette, level)
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    image += rng.normal(0, 0.015, (size, size, 3)).astype(np.float32)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), _compact(labels)


def _compact(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels renumbered 1..B; an object that others have hidden completely is gone."""
    kept = np.unique(labels)
    return np.searchsorted(np.union1d(kept, [0]), labels).astype(np.int32)


def _colour(rng: Rng) -> Array:
    return rng.uniform(0.1, 0.9, 3).astype(np.float32)


def _clouds(rng: Rng, side: int, cells: int) -> Array:
    """Smooth noise [side, side, 1] in [0, 1], about `cells` bumps along a side."""
    grid = rng.uniform(0, 1, (cells + 3, cells + 3)).astype(np.float32)
    scale = side / cells
    smooth = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    start = int(scale)
    smooth = smooth[start : start + side, start : start + side, None]
    # Steeper than the noise itself: ground of one colour, then of another, within few pixels.
    return (2 * smooth - 0.5).clip(0, 1)


def _ground(rng: Rng, side: int, palette: Array) -> Array:
    """Cloudy ground between three colours [3, 3]: [side, side, 3]."""
    coarse, fine = _clouds(rng, side, 5), _clouds(rng, side, 22)
    mixed = coarse * palette[0] + (1 - coarse) * palette[1]
    weight = 0.5 * fine
    ground: Array = (1 - weight) * mixed + weight * palette[2]
    return np.ascontiguousarray(ground, dtype=np.float32)


def _stripes(
    rng: Rng, shape: tuple[int, ...], palette: Array, period: float, contrast: float
) -> Array:
    """Stripes [height, width, 3] at a random angle, every second one in a colour of the palette."""
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: shape[0], : shape[1]]
    wave = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    wave = (0.5 + 0.5 * np.clip(2 * wave, -1, 1))[..., None].astype(np.float32)
    base = palette[rng.integers(len(palette))]
    # The second colour lies far enough from the first for the stripes to show.
    direction = np.where(base > 0.5, -1, 1) * rng.uniform(0.3, 0.8, 3)
    other = (base + contrast * direction).clip(0, 1).astype(np.float32)
    striped: Array = wave * base + (1 - wave) * other
    return striped


def _outline(rng: Rng, centre: NDArray[np.float64], radius: float) -> NDArray[np.int32]:
    """A closed curve around `centre`: an elongated disc with random bays, [P, 2] as x, y."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.ones_like(angles)
    for frequency in (2, 3, 4, 5):
        amplitude = rng.uniform(0, 0.42 / frequency**0.5)
        radii += amplitude * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    radii = radius * radii.clip(0.3, None) / radii.max()
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1)
    points = np.stack([radii * np.cos(angles), stretch * radii * np.sin(angles)], 1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    placed: NDArray[np.float64] = points @ rotation.T + centre
    return placed.round().astype(np.int32)


def _draw_distractor(rng: Rng, canvas: Array, palette: Array, *, scraps: bool) -> None:
    """A pebble, a twig or, on the hard level, a scrap of stripes, drawn into `canvas`."""
    side = canvas.shape[0]
    centre = rng.uniform(0, side, 2)
    kind = rng.integers(3 if scraps else 2)
    # As dark as a rim now and then, so that darkness does not give a rim away.
    colour = (_colour(rng) * rng.choice([1.0, 1.0, 0.25])).tolist()
    if kind == 0:
        points = _outline(rng, centre, side * rng.uniform(0.015, 0.04))
        cv2.fillPoly(canvas, [points], colour)
    elif kind == 1:
        steps = rng.normal(0, side * 0.05, (5, 2)) + rng.normal(0, side * 0.05, 2)
        points = (centre + np.cumsum(steps, axis=0)).round().astype(np.int32)
        width = int(max(1, side * rng.uniform(0.006, 0.016)))
        cv2.polylines(canvas, [points], isClosed=False, color=colour, thickness=width)
    else:
        points = _outline(rng, centre, side * rng.uniform(0.02, 0.05))
        _paint(rng, canvas, points, palette, contrast=0.5, rim=0)


def _draw_object(
    rng: Rng, canvas: Array, labels: NDArray[np.int32], palette: Array, level: _Level
) -> None:
    """One object into `canvas` and `labels`; left out when there is no room after 30 tries."""
    side, size = canvas.shape[0], labels.shape[0]
    radius = side * rng.uniform(*level.radius)
    margin = 0 if level.overlap else radius + 2
    for _ in range(30):
        points = _outline(rng, rng.uniform(margin, side - margin, 2), radius)
        mask = np.zeros((side, side), np.uint8)
        cv2.fillPoly(mask, [points], 255)
        small = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA) > 127
        near = cv2.dilate(small.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if small.any() and (level.overlap or not labels[near].any()):
            break
    else:
        return
    rim = int(2 * side * level.rim)
    _paint(rng, canvas, points, palette, contrast=level.contrast, rim=rim)
    labels[small] = labels.max() + 1


def _paint(
    rng: Rng,
    canvas: Array,
    points: NDArray[np.int32],
    palette: Array,
    *,
    contrast: float,
    rim: int,
) -> None:
    """Fill an outline with stripes, and draw `rim` pixels of a dark rim inside it."""
    side = canvas.shape[0]
    x0, y0 = points.min(axis=0).clip(0, side - 1)
    x1, y1 = points.max(axis=0).clip(0, side - 1) + 1
    region = canvas[y0:y1, x0:x1]
    mask = np.zeros(region.shape[:2], np.uint8)
    cv2.fillPoly(mask, [points - (x0, y0)], 1)
    period = side * rng.uniform(0.035, 0.06)
    body = _stripes(rng, region.shape, palette, period, contrast)
    if rim:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim | 1, rim | 1))
        inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        body[inner == 0] = 0.25 * _colour(rng)
    region[mask > 0] = body[mask > 0]
