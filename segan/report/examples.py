"""The worst, median and best pictures of an evaluation, drawn where the data is at hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from segan import config, data
from segan.arrays import pictures as as_pictures
from segan.data.sample import Annotations, Classes, Dataset, Instances, Mask, Sample, Split
from segan.errors import SeganError
from segan.evaluation.cases import Case, Cases, cases_of
from segan.evaluation.polarity import foreground_mask
from segan.evaluation.rows import native_regions, regions_of
from segan.opening import Opened, open_segmenter
from segan.overlay import Picture, label_overlay, overlay
from segan.report.runs import Run, number
from segan.training.config import RunConfig
from segan.windows import resize

TRUTH_COLOR = (255, 176, 0)
_SIDE = 224

# By protocol: the column that ranks pictures, and what it is called.
_COLUMNS = {
    "foreground": ("iou", "IoU"),
    "semantic": ("miou", "mIoU"),
    "regions": ("covering", "covering"),
    "boundaries": ("f_own", "F at its own scale"),
    "instances": ("aji", "AJI"),
}


class Key(NamedTuple):
    """A scored thing: a picture, or an object in it."""

    picture: str
    instance: int | None


@dataclass(kw_only=True)
class Example:
    """A scored thing that is shown.

    Attributes:
        key: Which.
        score: Its score.
        panels: What is seen to a small picture; empty where the data is not at hand.
    """

    key: Key
    score: float
    panels: dict[str, Picture] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a run did worst, middling and best.

    Attributes:
        score_name: What ranks them.
        groups: "worst", "median" and "best" to examples.
        count: How many were ranked.
        reason: Why there are no pictures; empty if there are.
    """

    score_name: str
    groups: dict[str, list[Example]]
    count: int
    reason: str = ""


def examples_of(run: Run, *, count: int, root: Path | None, draw: bool) -> Examples | None:
    """Up to `count` examples of each kind; None where a run has no scores of single pictures.

    Args:
        run: Whose.
        count: Of each kind, at least 1.
        root: Where the data is now; None: where the configuration says.
        draw: Whether to open the data and draw.
    """
    evaluation = run.evaluations.get(run.name, {})
    column, score_name = _COLUMNS.get(evaluation.get("protocol", ""), ("", ""))
    ranked = _ranked(run, column)
    if not ranked:
        return None
    groups = _chosen(ranked, count)
    reason = "" if draw else "pictures were left out as asked"
    if draw:
        wanted = {example.key: example for group in groups.values() for example in group}
        try:
            _draw(run, evaluation, wanted, root)
        except SeganError as error:
            reason = str(error)
        else:
            missing = sum(not example.panels for example in wanted.values())
            reason = f"{missing} of these are no longer in the data set" if missing else ""
    return Examples(score_name=score_name, groups=groups, count=len(ranked), reason=reason)


# --- choosing ------------------------------------------------------------------------------------


def _ranked(run: Run, column: str) -> list[Example]:
    """Every record with a score, ascending."""
    found = []
    for record in run.records:
        try:
            score = number(float(record.get(column) or "nan"))
            instance = int(record["instance"]) if record.get("instance") else None
        except ValueError:
            continue
        if score is not None:
            found.append(Example(key=Key(record["image"], instance), score=score))
    return sorted(found, key=lambda each: (each.score, each.key.picture, each.key.instance or 0))


def _chosen(ranked: Sequence[Example], count: int) -> dict[str, list[Example]]:
    """The ends and the middle, none twice; ends may be shorter where there are few."""
    each = min(count, max(len(ranked) // 3, 1))
    worst, best = list(ranked[:each]), list(ranked[max(len(ranked) - each, each) :])
    rest = ranked[each : len(ranked) - len(best)]
    start = max((len(rest) - each) // 2, 0)
    groups = {"worst": worst, "median": list(rest[start : start + each]), "best": best[::-1]}
    return {name: group for name, group in groups.items() if group}


# --- drawing -------------------------------------------------------------------------------------


class _Part:
    """Some pictures of a data set."""

    def __init__(self, dataset: Dataset, samples: Sequence[Sample]) -> None:
        self.name, self.provides = dataset.name, dataset.provides
        self.box_source = dataset.box_source
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def _draw(
    run: Run, evaluation: dict[str, Any], wanted: dict[Key, Example], root: Path | None
) -> None:
    """Give the examples their panels.

    Raises:
        SeganError: The data, the segmenter or the configuration cannot be used.
    """
    tree = config.override(run.config, [])
    if root is not None and isinstance(tree.get("data"), dict):
        tree["data"]["root"] = str(root)
    built = config.build(RunConfig, tree, f"{run.path}/config.yaml")
    split = evaluation.get("split")
    scored = cast(Split, split if split in ("train", "dev", "test", "all") else "test")
    dataset = data.build(built.data, scored)
    opened = open_segmenter(str(run.path))
    names = {key.picture for key in wanted}
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.name not in names:
            continue
        if evaluation["protocol"] == "foreground":
            boxed = evaluation.get("windows") == "box"
            which = _cases(built, opened, boxed=boxed)
            for case in cases_of(_Part(dataset, [sample]), which):
                if example := wanted.get(Key(case.picture, case.instance)):
                    example.panels = _case_panels(case, opened, clip=boxed)
        elif example := wanted.get(Key(sample.name, None)):
            example.panels = _region_panels(sample, opened)
        names.remove(sample.name)
        if not names:
            return


def _cases(built: RunConfig, opened: Opened, *, boxed: bool) -> Cases:
    if not boxed:
        return Cases(scale=opened.scale)
    settings = built.evaluation
    return Cases(
        windows="box",
        spec=opened.window,
        shift=settings.shift,
        box_jitter=settings.box_jitter,
    )


def _case_panels(case: Case, opened: Opened, *, clip: bool) -> dict[str, Picture]:
    """Picture, found and true mask, as `foreground` scores them."""
    height, width = case.truth.shape
    picture = _sized(as_pictures(resize(case.image[None], (height, width)))[0])
    found = _sized(_found(case, opened, clip=clip).astype(np.uint8))
    truth = _sized(case.truth.astype(np.uint8))
    return {
        "picture": picture,
        "found": overlay(picture, found),
        "truth": overlay(picture, truth, color=TRUTH_COLOR),
    }


def _found(case: Case, opened: Opened, *, clip: bool) -> NDArray[np.bool_]:
    """The mask [H, W] of a case."""
    boxes = None if case.box is None else case.box[None]
    regions = regions_of(opened.segmenter, case.image[None], boxes).cpu()
    mask = foreground_mask(regions, foreground=opened.segmenter.foreground)
    height, width = case.truth.shape
    found = resize(mask, (height, width))[0, 0].numpy() > 0.5
    inside = case.inside if clip and case.inside is not None else True
    return np.asarray(found & inside, np.bool_)


def _region_panels(sample: Sample, opened: Opened) -> dict[str, Picture]:
    """Picture, found and true regions."""
    picture = sample.image.permute(1, 2, 0).numpy()
    with torch.inference_mode():
        regions = native_regions(opened.segmenter, sample.image, opened.scale)
    panels = {"picture": _sized(picture)}
    for name, labels in [("found", regions.argmax(0).cpu()), *_true_labels(sample)]:
        drawn = _sized(labels.numpy().astype(np.int32).astype(np.uint16)).astype(np.int32)
        panels[name] = label_overlay(panels["picture"], drawn)
    return panels


def _true_labels(sample: Sample) -> Iterator[tuple[str, torch.Tensor]]:
    match sample.truth:
        case Annotations(labels=labels):
            yield "one person's", labels[0]
        case Classes(labels=labels):
            yield "truth", labels + 1
        case Instances(labels=labels):
            yield "truth", labels
        case Mask(mask=mask):
            yield "truth", mask.int()


def _sized(picture: Any) -> Any:
    """A picture or label map whose longer side is `_SIDE`, or a whole multiple of small ones."""
    height, width = picture.shape[:2]
    ratio = _SIDE / max(height, width)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    shrinking = ratio < 1 and picture.ndim == 3
    how = cv2.INTER_AREA if shrinking else cv2.INTER_NEAREST
    return cv2.resize(picture, size, interpolation=how)
