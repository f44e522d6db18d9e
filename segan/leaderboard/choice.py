"""Choosing among seeds and checkpoints without labels, and what labels would have chosen.

The scores are those of `segan.evaluation.label_free`, on training pictures.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segan.data.sample import Dataset
from segan.evaluation.label_free import SCORES, rank_correlation
from segan.evaluation.polarity import Named
from segan.opening import Opened
from segan.windows import Window, box_in_window, crop, window_around

_MOST_WINDOWS = 64
_MOST_PIXELS = 128


class Choice(NamedTuple):
    """What a rule chooses, in the mean over what it chose from.

    Attributes:
        rule: "last", a score without labels, or "oracle": with the labels of dev or test.
        value: IoU of what was chosen.
    """

    rule: str
    value: float


def label_free_scores(found: Opened, dataset: Dataset) -> dict[str, float]:
    """The scores of a segmenter on training windows, or on the middle of training pictures.

    Fewer than two of them have none: the scores compare masks.
    """
    segmenter = found.segmenter
    named = segmenter if segmenter.foreground is not None else Named(segmenter)
    windows, boxes = _boxed(found, dataset) if found.window else (_middles(found, dataset), None)
    if len(windows) < 2:
        return {}
    windows = windows.to(found.device)
    boxes = None if boxes is None else boxes.to(found.device)
    return {name: score(named.eval(), windows, boxes) for name, score in SCORES.items()}


def _boxed(found: Opened, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The window around the first box of each of the first pictures, and the box in it."""
    spec = found.window
    assert spec is not None
    windows, boxes = list[Tensor](), list[Tensor]()
    for index in range(len(dataset)):
        if len(windows) == _MOST_WINDOWS:
            break
        sample = dataset[index]
        if sample.boxes is None or not len(sample.boxes):
            continue
        size = int(sample.image.shape[-2]), int(sample.image.shape[-1])
        frame = window_around(sample.boxes[0], size, context=spec.context, square=spec.square)
        windows.append(crop(sample.image, frame, spec.size))
        boxes.append(box_in_window(sample.boxes[0], frame, spec.size))
    if not windows:
        return torch.zeros(0, 3, spec.size, spec.size), torch.zeros(0, 4)
    return torch.stack(windows), torch.stack(boxes)


def _middles(found: Opened, dataset: Dataset) -> Tensor:
    """The largest square in the middle of each of the first pictures, at the segmenter's scale."""
    images = [dataset[index].image for index in range(min(len(dataset), _MOST_WINDOWS))]
    sides = sorted(min(image.shape[-2:]) for image in images)
    size = min(max(round(sides[len(sides) // 2] * found.scale), 16), _MOST_PIXELS)
    return torch.stack([_middle(image, size, found.scale) for image in images])


def _middle(image: Tensor, size: int, scale: float) -> Tensor:
    height, width = image.shape[-2:]
    side = min(round(size / scale), height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return crop(image, Window(left, top, left + side, top + side), size)


def _checkpoints(row: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The checkpoints of a kept row, if it is this kind that they were scored by on dev."""
    return [each for each in row.get("choices") or () if each.get("kind", "whole") == kind]


def of_checkpoints(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Choice]:
    """IoU on dev of the checkpoint that each rule takes, averaged over seeds.

    Args:
        rows: Kept rows of one method on one data set.
        kind: "whole" or "windows"; a method has one in which its checkpoints were scored.
    """
    lists = [found for row in rows if len(found := _checkpoints(row, kind)) > 1]
    lists = [each for each in lists if all(c["dev_iou"] is not None for c in each)]
    if not lists:
        return []
    rules = {"last": [each[-1]["dev_iou"] for each in lists]}
    for name in SCORES:
        rules[name] = [max(each, key=lambda c: c[name])["dev_iou"] for each in lists]
    rules["oracle"] = [max(c["dev_iou"] for c in each) for each in lists]
    return [Choice(rule, mean(values)) for rule, values in rules.items()]


def of_seeds(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Choice]:
    """IoU on the scored split of the seed that each rule takes, by the last checkpoints' scores.

    "mean" is that of all seeds, "oracle" the best of them, which only labels know.

    Args:
        rows: Kept rows of one method on one data set.
        kind: "whole" or "windows".
    """
    found = [row for row in rows if row.get("choices") and kind in row["scores"]]
    if len(found) < 2:
        return []
    ious = [row["scores"][kind]["metrics"]["iou"] for row in found]
    choices = [Choice("mean", mean(ious))]
    for name in SCORES:
        scores = [row["choices"][-1][name] for row in found]
        choices.append(Choice(name, ious[scores.index(max(scores))]))
    return [*choices, Choice("oracle", max(ious))]


def correlations(
    rows: Sequence[Mapping[str, Any]], kind: str
) -> tuple[dict[str, float | None], int]:
    """Rank correlation of each score with the IoU on dev, over all checkpoints of some rows.

    Returns:
        It by score, and how many checkpoints there are.
    """
    points = [c for row in rows for c in _checkpoints(row, kind) if c["dev_iou"] is not None]
    ious = [c["dev_iou"] for c in points]
    found = {name: rank_correlation([c[name] for c in points], ious) for name in SCORES}
    return found, len(points)
