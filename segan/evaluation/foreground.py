"""The foreground protocol: object against background, at native resolution.

`compare` scores several segmenters on the same cases, `foreground` one; the trivial rows that
every result is printed beside are segmenters like any other and go through the same code.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segan.data.sample import Dataset, Split
from segan.errors import DataError
from segan.evaluation import metrics
from segan.evaluation.cases import Case, Cases, batches, cases_of
from segan.evaluation.polarity import foreground_mask, oracle_iou
from segan.evaluation.results import CLIPPED, Evaluation, Record
from segan.evaluation.rows import Row as Row  # importable from here too
from segan.evaluation.rows import regions_of
from segan.methods.classical import TRIVIAL_ROWS
from segan.segmenter import Segmenter
from segan.windows import resize

METRICS = (
    "iou",
    "iou_image_mean",
    "accuracy",
    "f_beta_max",
    "mae",
    "boundary_iou",
    "hausdorff_95",
    "iou_oracle_polarity",
)

Groups = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one case: by name, with None where undefined, and its F-beta curve [255]."""

    values: dict[str, float | None]
    f_beta_curve: metrics.Values


class Mean(NamedTuple):
    """A mean over the cases that define a score, its 95 % interval, and how many do not."""

    value: float | None
    interval: tuple[float, float] | None
    num_undefined: int = 0


def trivial_rows(which: Cases) -> dict[str, Row]:
    """The training-free rows for whole pictures or for windows; those given the box end at it."""
    return {
        name: Row(segmenter=segmenter(), clip=segmenter.supervision == "boxes")
        for name, segmenter in TRIVIAL_ROWS.items()
        if which.windows == "box" or segmenter.supervision == "none"
    }


def foreground(row: Row, dataset: Dataset, which: Cases, *, split: Split) -> Evaluation:
    """Scores of one segmenter; `compare` says how."""
    return compare({"": row}, dataset, which, split=split)[""]


def compare(
    rows: Mapping[str, Row], dataset: Dataset, which: Cases, *, split: Split
) -> dict[str, Evaluation]:
    """Scores of several segmenters on the same cases, each picture read once.

    Probabilities are resampled to native resolution and cut at 0.5. Scores are means over whole
    pictures or over windows; `f_beta_max` is the maximum of the mean curve, `iou_image_mean` the
    mean over pictures of the mean over their windows. Pixels without truth count nowhere.
    Intervals resample pictures, and with each picture all its windows.

    Args:
        rows: Name to segmenter.
        dataset: Provides masks or instances, and boxes for windows.
        which: What of the data set is scored.
        split: What `dataset` is, for the record.

    Raises:
        ConfigError: The data set lacks masks or boxes, or a row needs a box and there are none.
        DataError: A picture lacks its truth, or there is nothing to score.
    """
    scored: list[tuple[str, int | None]] = []
    scores: dict[str, list[Score]] = {name: [] for name in rows}
    for batch in batches(cases_of(dataset, which)):
        scored += [(case.picture, case.instance) for case in batch]
        for name, row in rows.items():
            scores[name] += _score_batch(row, batch)
    if not scored:
        raise DataError(f"nothing to score in {dataset.name}, split {split}: no masks or no boxes")
    return {
        name: _summary(row, scores[name], scored, dataset, which, split)
        for name, row in rows.items()
    }


# --- scoring -------------------------------------------------------------------------------------


def _score_batch(row: Row, batch: list[Case]) -> list[Score]:
    unnamed = row.segmenter.foreground is None
    masks = foreground_mask(_regions(row.segmenter, batch), foreground=row.segmenter.foreground)
    return [_score(mask, case, row.clip, unnamed) for mask, case in zip(masks, batch, strict=True)]


def _regions(segmenter: Segmenter, batch: list[Case]) -> Tensor:
    """The segmenter's partition [N, K, h, w] of cases of one size, on the CPU in fp32."""
    images = torch.stack([case.image for case in batch])
    boxes = [case.box for case in batch if case.box is not None]
    return regions_of(segmenter, images, torch.stack(boxes) if boxes else None).cpu()


def _score(mask: Tensor, case: Case, clip: bool, unnamed: bool) -> Score:
    """Scores of the opacity [1, h, w] of a case's object, at whatever resolution."""
    height, width = case.truth.shape
    probability = resize(mask[None], (height, width))[0, 0].clamp(0, 1).double().numpy()
    complement = 1 - probability > 0.5
    if clip and case.inside is not None:
        probability = probability * case.inside
        complement &= case.inside
    prediction = probability > 0.5
    pixels = ... if case.valid is None else case.valid
    truth = case.truth[pixels]
    values: dict[str, float | None] = {
        "iou": metrics.iou(prediction[pixels], truth),
        "accuracy": metrics.accuracy(prediction[pixels], truth),
        "mae": metrics.mean_absolute_error(probability[pixels], truth),
        **_outline_scores(prediction, case),
    }
    if unnamed:
        oracle = oracle_iou(prediction[pixels], complement[pixels], truth)
        values["iou_oracle_polarity"] = oracle
    return Score(values, metrics.f_beta_curve(probability[pixels], truth))


def _outline_scores(prediction: metrics.Mask, case: Case) -> dict[str, float | None]:
    """Scores of outlines, which need the pixels' places: a prediction cannot err without truth."""
    if case.valid is not None:
        prediction = np.where(case.valid, prediction, case.truth)
    return {
        "boundary_iou": metrics.boundary_iou(prediction, case.truth),
        "hausdorff_95": metrics.hausdorff_distance(prediction, case.truth, percentile=95),
    }


# --- summarising ---------------------------------------------------------------------------------


def _summary(
    row: Row,
    scores: list[Score],
    scored: list[tuple[str, int | None]],
    dataset: Dataset,
    which: Cases,
    split: Split,
) -> Evaluation:
    boxed = which.windows == "box"
    pictures, groups = np.unique([picture for picture, _ in scored], return_inverse=True)
    means = _means(scores, groups, windows=boxed)
    return Evaluation(
        protocol="foreground",
        dataset=dataset.name,
        split=split,
        windows=which.windows,
        window_options=_window_options(which),
        box_source=dataset.box_source if boxed else None,
        train_box_source=row.train_box_source,
        num_images=len(pictures),
        num_instances=len(scored) if boxed else None,
        metrics={name: mean.value for name, mean in means.items()},
        intervals={name: mean.interval for name, mean in means.items()},
        undefined={name: mean.num_undefined for name, mean in means.items() if mean.num_undefined},
        polarity="border" if row.segmenter.foreground is None else "named",
        supervision={"train": row.supervision, "test": "boxes" if boxed else "none"},
        postprocessing=CLIPPED if boxed and row.clip else "none",
        segmenter_sha256=row.sha256,
        records=[_record(*names, score) for names, score in zip(scored, scores, strict=True)],
    )


def _means(scores: list[Score], groups: Groups, *, windows: bool) -> dict[str, Mean]:
    """The mean of every score, by name; `groups` [N] numbers the pictures of the scores."""
    num_pictures = int(groups.max()) + 1
    weights = metrics.resampling_weights(num_pictures)
    means = {}
    for name in scores[0].values:
        values = np.array([score.values[name] for score in scores], np.float64)  # None becomes NaN
        means[name] = _mean_of_defined(values, groups, weights)
    curves = np.stack([score.f_beta_curve for score in scores])
    draws = metrics.bootstrap_means(*_per_picture(curves, groups, num_pictures), weights)
    interval = metrics.central_interval(draws.max(axis=1))
    means["f_beta_max"] = Mean(float(curves.mean(axis=0).max()), interval)
    if windows:
        ious = np.array([score.values["iou"] for score in scores], np.float64)
        sums, counts = _per_picture(ious, groups, num_pictures)
        means["iou_image_mean"] = _mean_of_defined(sums / counts, np.arange(num_pictures), weights)
    return {name: means[name] for name in METRICS if name in means}


def _mean_of_defined(values: metrics.Values, groups: Groups, weights: metrics.Values) -> Mean:
    defined = ~np.isnan(values)
    num_undefined = int(np.count_nonzero(~defined))
    if not defined.any():
        return Mean(None, None, num_undefined)
    sums, counts = _per_picture(values[defined], groups[defined], weights.shape[1])
    interval = metrics.central_interval(metrics.bootstrap_means(sums, counts, weights))
    return Mean(float(values[defined].mean()), interval, num_undefined)


def _per_picture(
    values: metrics.Values, groups: Groups, num_pictures: int
) -> tuple[metrics.Values, metrics.Values]:
    """Sums [P] or [P, T] and counts [P] of values [N] or [N, T] by picture."""
    sums = np.zeros((num_pictures, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums, np.bincount(groups, minlength=num_pictures).astype(np.float64)


def _window_options(which: Cases) -> dict[str, Any] | None:
    """How the segmenter was shown the pictures, for the record."""
    if which.windows == "none":
        return None if which.picture_scale == 1 else {"scale": which.picture_scale}
    assert which.spec is not None
    return {**asdict(which.spec), "box_jitter": which.box_jitter, "shift": which.shift}


def _record(picture: str, instance: int | None, score: Score) -> Record:
    place: Record = {"image": picture, "instance": instance}
    return place | score.values
