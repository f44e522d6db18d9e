"""The semantic protocol: regions of a whole data set against its classes, at native resolution.

One confusion matrix of all pixels of all pictures, in which unnamed regions are matched to classes
with the truth of this split or of another; never a mean over pictures, which is another number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from segan.data.sample import Classes, Dataset, Instances, Mask, Sample, Split
from segan.errors import ConfigError, DataError
from segan.evaluation import metrics
from segan.evaluation.confusion import (
    ClassCounts,
    Counts,
    Labels,
    Matching,
    Numbers,
    adjusted_rand_index,
    class_counts,
    class_ious,
    confusion_matrix,
    match,
    normalised_mutual_information,
)
from segan.evaluation.results import Evaluation, Record
from segan.evaluation.rows import Row, native_regions, pictures_of
from segan.methods.colour_clusters import ColourKMeans, OneRegion, RandomRegions
from segan.segmenter import PartitionSegmenter, Segmenter

TWO_CLASSES = ("background", "object")
NAMED = (0, 1)  # the class that each of the two regions of a segmenter with a named object is


def control_rows(pictures: Dataset, num_regions: int, *, seed: int = 0) -> dict[str, Row]:
    """What a clustering of pixels has to beat.

    `majority_oracle` gives every pixel the most frequent class, which only the truth knows;
    `random` draws a region per pixel; `colour_kmeans` clusters colours.

    Args:
        pictures: Training pictures; `colour_kmeans` finds its colours in them.
        num_regions: Of `random` and `colour_kmeans`.
        seed: Of both.
    """
    return {
        "majority_oracle": Row(segmenter=OneRegion()),
        "random": Row(segmenter=RandomRegions(num_regions, seed=seed)),
        "colour_kmeans": Row(segmenter=ColourKMeans(num_regions).fit(pictures, seed=seed)),
    }


def evaluate_semantic(
    rows: Mapping[str, Row],
    dataset: Dataset,
    *,
    split: Split,
    limit: int | None = None,
    scale: float = 1.0,
    matchings: Mapping[str, Matching] | None = None,
) -> dict[str, Evaluation]:
    """Scores of several segmenters on the same pixels, each picture read once.

    Probabilities are resampled to native resolution and the most probable region is taken. Pixels
    without truth count nowhere. `miou` is the mean over the classes that occur; pixels of regions
    that stand for no class are wrong. A named object on a truth of two classes is not matched.
    Intervals resample pictures; they and the records of single pictures keep the matching.

    Args:
        rows: Name to segmenter.
        dataset: Provides classes; or masks or instances, which are two classes.
        split: What `dataset` is, for the record.
        limit: Only the first so many pictures.
        scale: Network pixels per picture pixel, `WindowSpec.scale`.
        matchings: By row, from `learn_matchings`; by default from the truth scored against.

    Raises:
        ConfigError: There are no classes, or regions cannot be matched, or a matching is missing.
        DataError: A picture lacks its truth or has an unknown class, or there is nothing to score.
    """
    class_names = class_names_of(dataset)
    counted = _count(rows, dataset, class_names, limit=limit, scale=scale)
    if not next(iter(counted.values())).pictures:
        raise DataError(f"nothing to score in {dataset.name}, split {split}: no pixel has a class")
    results = {}
    for name, row in rows.items():
        matching = None
        if not _is_named(row.segmenter, class_names):
            total = counted[name].total
            matching = match(total, split=split) if matchings is None else matchings.get(name)
            _check_matching(matching, total, name)
        results[name] = _summary(row, counted[name], matching, dataset, split, scale)
    return results


def learn_matchings(
    rows: Mapping[str, Row],
    dataset: Dataset,
    *,
    split: Split,
    limit: int | None = None,
    scale: float = 1.0,
) -> dict[str, Matching]:
    """The matchings of the rows that need one, with the truth of this split; to score another.

    Args:
        rows: As in `evaluate_semantic`.
        dataset: As in `evaluate_semantic`.
        split: What `dataset` is, for the record.
        limit: Only the first so many pictures.
        scale: Network pixels per picture pixel.
    """
    class_names = class_names_of(dataset)
    unnamed = {name: row for name, row in rows.items() if not _is_named(row.segmenter, class_names)}
    counted = _count(unnamed, dataset, class_names, limit=limit, scale=scale)
    return {name: match(confusions.total, split=split) for name, confusions in counted.items()}


def class_names_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of a data set's classes; "background" and "object" where it has masks instead.

    Raises:
        ConfigError: It has neither, or classes without names.
    """
    if "classes" in dataset.provides:
        names: tuple[str, ...] = tuple(getattr(dataset, "class_names", ()))
        if not names:
            raise ConfigError(f"{dataset.name} has classes but no class_names to call them by")
        return names
    if dataset.provides & {"masks", "instances"}:
        return TWO_CLASSES
    provides = ", ".join(sorted(dataset.provides))
    raise ConfigError(f"{dataset.name} has no classes to score against; it provides {provides}")


# --- counting ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Confusions:
    """The confusion matrix of a set, and those of its pictures without their zeros.

    Attributes:
        class_names: [C].
        pictures: Names of the pictures that have a valid pixel.
        total: [K, C].
        parts: Of each picture the places in the flat matrix and what is there.
    """

    class_names: tuple[str, ...]
    pictures: list[str] = field(default_factory=list)
    total: Counts = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    parts: list[tuple[NDArray[np.intp], Counts]] = field(default_factory=list)

    def add(self, picture: str, confusion: Counts) -> None:
        """Count a picture's matrix [K, C] in."""
        self.total = confusion + (self.total if self.pictures else 0)
        places = np.flatnonzero(confusion)
        self.parts.append((places, confusion.ravel()[places]))
        self.pictures.append(picture)

    def of_pictures(self) -> Iterator[Counts]:
        """The matrix [K, C] of each picture."""
        for places, counts in self.parts:
            confusion = np.zeros_like(self.total)
            confusion.ravel()[places] = counts
            yield confusion


def _count(
    rows: Mapping[str, Row],
    dataset: Dataset,
    class_names: tuple[str, ...],
    *,
    limit: int | None,
    scale: float,
) -> dict[str, Confusions]:
    counted = {name: Confusions(class_names) for name in rows}
    for name, row in rows.items():
        if isinstance(row.segmenter, PartitionSegmenter):
            raise ConfigError(
                f"{name or 'the segmenter'} cuts each picture by itself: its regions cannot stand "
                "for classes; score it with protocol regions"
            )
    for sample in pictures_of(dataset, limit=limit, scale=scale):
        truth = _truth(sample, dataset.name, class_names)
        if (truth < 0).all():
            continue
        for name, row in rows.items():
            labels, num_regions = _labels(row.segmenter, sample, scale, class_names)
            known = counted[name]
            if known.pictures and num_regions != len(known.total):
                raise ConfigError(
                    f"{name or 'the segmenter'} gave {num_regions} regions for {sample.name} and "
                    f"{len(known.total)} before; only a fixed number can be matched to classes"
                )
            matrix = confusion_matrix(
                labels, truth, num_regions=num_regions, num_classes=len(class_names)
            )
            known.add(sample.name, matrix)
    return counted


def _is_named(segmenter: Segmenter, class_names: tuple[str, ...]) -> bool:
    return segmenter.foreground is not None and class_names == TWO_CLASSES


@torch.inference_mode()
def _labels(
    segmenter: Segmenter, sample: Sample, scale: float, class_names: tuple[str, ...]
) -> tuple[Labels, int]:
    """The most probable region of each pixel [H, W], and how many regions there are."""
    regions = native_regions(segmenter, sample.image, scale)
    labels: Labels = regions.argmax(dim=0).cpu().numpy()
    if _is_named(segmenter, class_names):
        return (labels == segmenter.foreground).astype(np.int64), len(NAMED)
    return labels, len(regions)


def _truth(sample: Sample, dataset: str, class_names: tuple[str, ...]) -> Labels:
    """The class of each pixel [H, W], -1 where the truth says nothing."""
    match sample.truth:
        case Classes(labels=labels):
            truth: Labels = labels.numpy()
        case Mask(mask=mask, ignore=ignore) if class_names == TWO_CLASSES:
            truth = mask.numpy().astype(np.int32)
            if ignore is not None:
                truth = np.where(ignore.numpy(), -1, truth)
        case Instances(labels=labels) if class_names == TWO_CLASSES:
            truth = (labels.numpy() > 0).astype(np.int32)
        case _:
            raise DataError(
                f"{sample.name} has no classes to score against; remove it or add its truth"
            )
    if truth.shape != sample.image.shape[-2:]:
        sizes = " and ".join(f"{h} x {w}" for h, w in (truth.shape, sample.image.shape[-2:]))
        raise DataError(f"{sample.name}: truth and picture differ in size, {sizes}")
    outside = truth[(truth < -1) | (truth >= len(class_names))]
    if outside.size:
        raise DataError(
            f"{sample.name}: label {outside[0]} is no class of {dataset}; they are 0 to "
            f"{len(class_names) - 1}, and -1 where the truth says nothing"
        )
    return truth


# --- summarising ---------------------------------------------------------------------------------


def _check_matching(matching: Matching | None, confusion: Counts, name: str) -> None:
    num_regions, num_classes = confusion.shape
    if matching is None:
        raise ConfigError(f"no matching was given for {name or 'the segmenter'}")
    if len(matching.one_to_one) != num_regions or max(matching.many_to_one) >= num_classes:
        raise ConfigError(
            f"the matching of {name or 'the segmenter'} is not one of {num_regions} regions to "
            f"{num_classes} classes; learn it on a split of the same data set"
        )


def _summary(
    row: Row,
    confusions: Confusions,
    matching: Matching | None,
    dataset: Dataset,
    split: Split,
    scale: float,
) -> Evaluation:
    per_picture = _per_picture(confusions, matching.one_to_one if matching else NAMED)
    ious = class_ious(*(counts.sum(axis=0) for counts in per_picture))
    values, intervals = _scores_with_intervals(per_picture)
    values["nmi"] = normalised_mutual_information(confusions.total)
    values["ari"] = adjusted_rand_index(confusions.total)
    if matching is not None:
        found = _scores_with_intervals(_per_picture(confusions, matching.many_to_one))
        values |= {f"{name}_many_to_one": value for name, value in found[0].items()}
        intervals |= {f"{name}_many_to_one": value for name, value in found[1].items()}
    num_absent = int(np.isnan(ious).sum())
    return Evaluation(
        protocol="semantic",
        dataset=dataset.name,
        split=split,
        windows="none",
        window_options=None if scale == 1 else {"scale": scale},
        train_box_source=row.train_box_source,
        num_images=len(confusions.pictures),
        metrics=dict(values),
        intervals={name: intervals.get(name) for name in values},
        undefined={name: num_absent for name in values if "miou" in name and num_absent},
        per_class={
            name: None if np.isnan(iou) else float(iou)
            for name, iou in zip(confusions.class_names, ious, strict=True)
        },
        matching=f"hungarian on {matching.split}" if matching else "none",
        polarity="matched" if matching else "named",
        supervision={"train": row.supervision, "test": "none"},
        segmenter_sha256=row.sha256,
        records=_records(confusions.pictures, per_picture),
    )


def _per_picture(confusions: Confusions, classes: tuple[int, ...]) -> ClassCounts:
    """Counts of each picture and class, [N, C] each."""
    counts = [class_counts(confusion, classes) for confusion in confusions.of_pictures()]
    return ClassCounts(*(np.stack(each) for each in zip(*counts, strict=True)))


def _scores_with_intervals(
    per_picture: ClassCounts,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    weights = metrics.resampling_weights(len(per_picture.truth))
    draws = _scores(*(weights @ counts for counts in per_picture))
    values = _scores(*(counts.sum(axis=0) for counts in per_picture))
    return (
        {name: float(value) for name, value in values.items()},
        {name: metrics.central_interval(values) for name, values in draws.items()},
    )


def _scores(hits: Numbers, truth: Numbers, predicted: Numbers) -> dict[str, metrics.Values]:
    """Mean IoU and accuracy [...] of counts [..., C]; some class must have truth."""
    return {
        "miou": np.nanmean(class_ious(hits, truth, predicted), axis=-1),
        "accuracy": hits.sum(axis=-1) / truth.sum(axis=-1),
    }


def _records(pictures: list[str], per_picture: ClassCounts) -> list[Record]:
    scores = _scores(*per_picture)
    num_pixels = per_picture.truth.sum(axis=1)
    return [
        {
            "image": name,
            "miou": float(scores["miou"][index]),
            "accuracy": float(scores["accuracy"][index]),
            "num_pixels": int(num_pixels[index]),
        }
        for index, name in enumerate(pictures)
    ]
