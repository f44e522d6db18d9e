"""The teacher of a second stage: opened once, its masks of the training pictures kept on disk.

They lie in the run directory as guesses/NUMBER.png, 8-bit opacities in the order of the data set,
so that a run that was stopped goes on where it was and people can look at what was learnt from.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import segan
from segan.data.guesses import Guessed
from segan.data.images import read_mask
from segan.data.sample import Dataset, Guess, Sample
from segan.errors import ConfigError
from segan.evaluation.label_free import contrast
from segan.evaluation.polarity import Named, foreground_mask
from segan.evaluation.rows import probability_in_boxes, regions_of, scaled_image
from segan.files import written_aside
from segan.methods.self_training import SelfTrainingConfig
from segan.opening import Opened, open_segmenter
from segan.segmenter import Segmenter, WindowSpec
from segan.training.panels import write_png
from segan.windows import resize

FOLDER = "guesses"
_SCORES = "contrast.json"

# Contrast is looked at in pictures whose longer side is at most this.
_LARGEST = 256


class Teacher(NamedTuple):
    """A segmenter whose masks are learnt from.

    Attributes:
        opened: The segmenter.
        windows: The windows around boxes in which it sees objects; None: whole pictures.
        first_sha256: Of the teacher of the first round, if this is a student of an earlier one.
    """

    opened: Opened
    windows: WindowSpec | None
    first_sha256: str | None = None

    def facts(self) -> dict[str, Any]:
        """What a record says of it, and by which its masks are known again; no paths."""
        return {
            "name": self.opened.label,
            "sha256": self.opened.sha256,
            "supervision": self.opened.supervision,
            "windows": self.windows is not None,
            "first_sha256": self.first_sha256 or self.opened.sha256,
        }


def open_teacher(config: SelfTrainingConfig) -> Teacher:
    """The teacher that a configuration names.

    Raises:
        ConfigError: There is none, it finds no object, or it needs boxes that it is not given.
    """
    try:
        found = open_segmenter(config.teacher)
    except ConfigError as error:
        raise ConfigError(f"'method.teacher': {error}") from None
    if found.segmenter.foreground is None and (found.num_regions or 2) != 2:
        raise ConfigError(
            f"'method.teacher': {config.teacher} has {found.num_regions} unnamed regions; "
            "a teacher has two, or names its object"
        )
    if found.given_boxes and not config.teacher_windows:
        raise ConfigError(
            f"'method.teacher': {config.teacher} looks at boxes; set 'method.teacher_windows' "
            "to true, or name another"
        )
    if not config.teacher_windows:
        return Teacher(found, None)
    if found.whole_only:
        raise ConfigError(f"'method.teacher': {config.teacher} sees whole pictures alone")
    return Teacher(found, found.window or config.view.spec())


def make_guesses(dataset: Dataset, teacher: Teacher, folder: Path) -> None:
    """Write the teacher's masks of a data set where they are not in `folder` yet.

    Args:
        dataset: Training pictures; their truth is not looked at.
        teacher: Whose masks.
        folder: Where they lie; those of another teacher or of other pictures are replaced.

    Raises:
        ConfigError: The teacher needs boxes and there are none.
        DataError: They cannot be written.
    """
    if teacher.windows is not None and "boxes" not in dataset.provides:
        raise ConfigError(f"'method.teacher_windows' is true and {dataset.name} has no boxes")
    _require_own(folder, teacher, dataset)
    kept = folder / _SCORES
    if not kept.exists():
        scores = [_guess(dataset[index], teacher, folder, index) for index in range(len(dataset))]
        with written_aside(kept) as aside:
            aside.write_text(json.dumps(scores) + "\n", encoding="utf-8")


def with_guesses(dataset: Dataset, config: SelfTrainingConfig, folder: Path) -> Guessed:
    """A data set with the masks that `make_guesses` wrote.

    Args:
        dataset: The same.
        config: What to keep of them, and how it is weighted.
        folder: Where they lie.
    """
    confidences = confidences_of(
        json.loads((folder / _SCORES).read_text(encoding="utf-8")),
        keep=config.keep,
        weighted=config.weighting == "contrast",
    )
    return Guessed(
        dataset, lambda index: Guess(_read(folder, index).float() / 255, confidences[index])
    )


def confidences_of(scores: Sequence[float], *, keep: float, weighted: bool) -> list[float]:
    """Weights of pictures whose guesses have these scores.

    Args:
        scores: Higher for better guesses.
        keep: The share of them, rounded up, whose weight is above 0.
        weighted: Weights are proportional to the scores, or all 1; either way 1 in the mean.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    # A hair less, as .55 of 100 is 55.000000000000007 in floating point.
    chosen = order[: max(int(np.ceil(keep * len(order) - 1e-9)), 1)]
    weights = np.zeros(len(order))
    # A guess without any contour scores 0, and would never be looked at again.
    weights[chosen] = np.maximum(np.asarray(scores)[chosen], 1e-3) if weighted else 1.0
    return [float(weight) for weight in weights / weights[chosen].mean()]


def _require_own(folder: Path, teacher: Teacher, dataset: Dataset) -> None:
    """Leave what is of this teacher and these pictures in the folder, and note whose it is."""
    facts = teacher.facts() | {
        "segan": segan.__version__,
        "spec": None if teacher.windows is None else list(vars(teacher.windows).values()),
        "pictures": len(dataset),
        # Guesses are known by the number of their picture, which another picture may have now.
        "pictures_sha256": _digest(dataset),
    }
    path = folder / "teacher.json"
    text = json.dumps(facts, indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _digest(dataset: Dataset) -> str:
    """A hash of all that guesses depend on but the teacher: names, pixels and boxes, in order."""
    digest = hashlib.sha256()
    for index in range(len(dataset)):
        sample = dataset[index]
        boxes = None if sample.boxes is None else sample.boxes.tolist()
        facts = [sample.name, list(sample.image.shape), boxes]
        digest.update(json.dumps(facts).encode() + sample.image.numpy().tobytes())
    return digest.hexdigest()


def _guess(sample: Sample, teacher: Teacher, folder: Path, index: int) -> float:
    """Write the mask of a picture, unless it is there; its contrast."""
    if not _path(folder, index).exists():
        levels = (255 * guessed_mask(teacher, sample)).round().byte().cpu().numpy()
        levels[levels == 1] = 0  # a mask of zeros and ones is read as 0 and 255
        write_png(_path(folder, index), np.repeat(levels[..., None], 3, axis=2))
    return _contrast(sample.image, _read(folder, index))


@torch.inference_mode()
def guessed_mask(teacher: Teacher, sample: Sample) -> Tensor:
    """What a teacher takes for objects: opacity [H, W] in [0, 1] at the picture's own size."""
    opened = teacher.opened
    size = int(sample.image.shape[-2]), int(sample.image.shape[-1])
    if teacher.windows is None:
        seen = scaled_image(sample.image, opened.scale)[None]
        regions = regions_of(opened.segmenter, seen)
        mask = foreground_mask(regions, foreground=opened.segmenter.foreground)
        return resize(mask, size)[0, 0].clamp(0, 1)
    if sample.boxes is None or not len(sample.boxes):
        return torch.zeros(size)
    segmenter = opened.segmenter
    named = segmenter if segmenter.foreground is not None else Named(segmenter)
    picture, boxes = sample.image.to(opened.device), sample.boxes.to(opened.device)
    return probability_in_boxes(named, teacher.windows, picture, boxes)


class _Given(Segmenter):
    """A segmenter that gives one mask, for scores that look at segmenters."""

    foreground = 1

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, images: Tensor) -> Tensor:  # noqa: ARG002
        """Regions [1, 2, H, W]."""
        return torch.cat([1 - self.mask, self.mask], dim=1)


def _contrast(image: Tensor, levels: Tensor) -> float:
    """How well colours tell on which side of its contour a pixel of the mask lies, in [0, 1]."""
    factor = min(_LARGEST / max(image.shape[-2:]), 1.0)
    size = max(round(image.shape[-2] * factor), 1), max(round(image.shape[-1] * factor), 1)
    picture = resize(image[None].float() / 255, size)
    mask = resize(levels[None, None].float() / 255, size)
    return round(contrast(_Given(mask), picture), 6)


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.png"


def _read(folder: Path, index: int) -> Tensor:
    return read_mask(_path(folder, index))
