"""The BSDS protocols: regions and boundaries against several people's segmentations.

The segmenter runs in this process, one picture after the other; scores of finished pictures are
worked out in others meanwhile.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from segan.data.sample import Annotations, Dataset, Sample, Split
from segan.errors import ConfigError, DataError
from segan.evaluation import boundaries, regions
from segan.evaluation.foreground import Row
from segan.evaluation.hierarchies import Contours, LabelMap, Partitions, Prediction, scales
from segan.evaluation.metrics import Values
from segan.evaluation.partitions import NUM_LEVELS, label_maps_of, least_areas
from segan.evaluation.predictions import Kind, PredictionFolder
from segan.evaluation.results import Evaluation, Record
from segan.progress import tracked
from segan.segmenter import PartitionSegmenter, Segmenter

_AHEAD = 2  # pictures waiting per worker

Source = Row | PredictionFolder


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How pictures are scored, and the scores summed up.

    Attributes:
        kind: "regions" or "boundaries".
        score: Scores of one picture, from its prediction and the people's label maps.
        summarise: Metrics of a data set, from the scores of its pictures.
        record: A picture's own line, from its name, its scores, the scales, and the best ones.
    """

    kind: Kind
    score: Callable[[Any, Sequence[LabelMap]], Any]
    summarise: Callable[[Sequence[Any]], regions.Summary]
    record: Callable[[str, Any, "_Scales"], Record]


class _Scales(NamedTuple):
    """All scales [T], and the position of the best common one by metric."""

    values: Values
    best: dict[str, float]


def evaluate_annotated(
    sources: Mapping[str, Source],
    dataset: Dataset,
    *,
    kind: Kind,
    split: Split,
    num_levels: int = NUM_LEVELS,
    scale: float = 1.0,
    workers: int | None = None,
    limit: int | None = None,
) -> dict[str, Evaluation]:
    """Scores of several segmenters, or folders of predictions, on the same pictures.

    Segmenters give `num_levels` label maps per picture, of which the boundaries protocol takes the
    boundaries between regions, unless they have a contour map. Contour strengths and hierarchies
    are cut at 99 thresholds.

    Args:
        sources: Name to segmenter or folder.
        dataset: Provides annotations.
        kind: The protocol: "regions" or "boundaries".
        split: What `dataset` is, for the record.
        num_levels: Scales of each segmenter; scores at each picture's own scale rise with it.
        scale: Network pixels per picture pixel, `WindowSpec.scale`.
        workers: Processes that score; by default as many as there are cores. With 1, none.
        limit: Only the first so many pictures.

    Raises:
        ConfigError: The data set has no annotations, or a number is below 1.
        DataError: A prediction is missing, damaged or unfit, or pictures differ in their scales.
    """
    _check(dataset, num_levels=num_levels, workers=workers, limit=limit)
    protocol = PROTOCOLS[kind]
    num_pictures = min(len(dataset), limit or len(dataset))
    num_workers = min(workers or os.cpu_count() or 1, num_pictures * len(sources))
    names: list[str] = []
    jobs = _jobs(sources, dataset, range(num_pictures), kind, num_levels, scale, names)
    found: dict[str, list[Any]] = {name: [] for name in sources}
    shape: dict[str, Values] = {}
    all_scored = _scored(jobs, protocol, num_workers)
    for name, picture, at, scores in tracked(all_scored, kind, num_pictures * len(sources)):
        if len(shape.setdefault(name, at)) != len(at):
            raise DataError(
                f"{picture} has {len(at)} label maps, {names[0]} {len(shape[name])}; "
                "every picture needs as many"
            )
        found[name].append(scores)
    return {
        name: _summary(
            source, found[name], names, shape[name], protocol, dataset, split, num_levels, scale
        )
        for name, source in sources.items()
    }


def _check(dataset: Dataset, *, num_levels: int, workers: int | None, limit: int | None) -> None:
    if "annotations" not in dataset.provides:
        provides = ", ".join(sorted(dataset.provides))
        raise ConfigError(
            f"{dataset.name} has no annotations of several people; it provides {provides}"
        )
    for what, value in (("levels", num_levels), ("workers", workers), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"{what} is {value}; it must be at least 1")


# --- predictions ---------------------------------------------------------------------------------


class _Job(NamedTuple):
    """One prediction of one source for one picture, and the people's label maps."""

    source: str
    picture: str
    prediction: Prediction
    people: list[LabelMap]


def _jobs(
    sources: Mapping[str, Source],
    dataset: Dataset,
    indices: Iterable[int],
    kind: Kind,
    num_levels: int,
    scale: float,
    names: list[str],
) -> Iterator[_Job]:
    """Every source's prediction of every picture; adds the pictures' names to `names`."""
    for index in indices:
        sample = dataset[index]
        names.append(sample.name)
        people = _people(sample)
        for name, source in sources.items():
            if isinstance(source, PredictionFolder):
                height, width = people[0].shape
                prediction = source.read(sample.name, (height, width), kind=kind)
            else:
                prediction = _predicted(source.segmenter, sample.image, kind, num_levels, scale)
            yield _Job(name, sample.name, prediction, people)


def _predicted(
    segmenter: Segmenter, image: Tensor, kind: Kind, num_levels: int, scale: float
) -> Prediction:
    """Label maps of a picture; for boundaries a contour map where the segmenter has one."""
    if kind == "boundaries" and isinstance(segmenter, PartitionSegmenter):
        strength = segmenter.contours(image.float() / 255)
        if strength is not None:
            return Contours(strength.cpu().numpy().astype(np.float64))
    maps = label_maps_of(segmenter, image, num_levels=num_levels, scale=scale)
    return Partitions(tuple(maps))


def _people(sample: Sample) -> list[LabelMap]:
    if not isinstance(sample.truth, Annotations) or not sample.truth.labels:
        raise DataError(f"{sample.name} has no annotations to score against")
    for labels in sample.truth.labels:
        if int(labels.min()) < 0 or not bool(labels.any()):
            raise DataError(
                f"{sample.name}: regions of the truth are numbered from 1, and 0 is what is left "
                f"out; found {int(labels.min())} to {int(labels.max())}"
            )
    return [labels.numpy() for labels in sample.truth.labels]


# --- scoring -------------------------------------------------------------------------------------


def _scored(
    jobs: Iterable[_Job], protocol: Protocol, num_workers: int
) -> Iterator[tuple[str, str, Values, Any]]:
    """Source, picture, scales and scores of every job, in order."""
    if num_workers == 1:
        for job in jobs:
            yield *_label(job), protocol.score(job.prediction, job.people)
        return
    # Fresh processes: a fork of one in which torch runs threads can hang.
    context = multiprocessing.get_context("spawn")
    pending: deque[tuple[tuple[str, str, Values], Future[Any]]] = deque()
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        try:
            for job in jobs:
                future = pool.submit(protocol.score, job.prediction, job.people)
                pending.append((_label(job), future))
                if len(pending) >= _AHEAD * num_workers:
                    label, first = pending.popleft()
                    yield *label, first.result()
            while pending:
                label, first = pending.popleft()
                yield *label, first.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _label(job: _Job) -> tuple[str, str, Values]:
    return job.source, job.picture, scales(job.prediction)


# --- summing up ----------------------------------------------------------------------------------


def _summary(
    source: Source,
    scores: list[Any],
    names: list[str],
    at: Values,
    protocol: Protocol,
    dataset: Dataset,
    split: Split,
    num_levels: int,
    scale: float,
) -> Evaluation:
    found = protocol.summarise(scores)
    row = source if isinstance(source, Row) else None
    positions = np.arange(len(at))
    return Evaluation(
        protocol=protocol.kind,
        dataset=dataset.name,
        split=split,
        windows="none",
        window_options=({"scale": row.own_scale or scale, "levels": num_levels} if row else None),
        train_box_source=row.train_box_source if row else None,
        num_images=len(names),
        metrics=found.metrics,
        intervals=found.intervals,
        undefined={},
        polarity="none",
        supervision={"train": row.supervision if row else "unknown", "test": "none"},
        postprocessing=_postprocessing(row, num_levels),
        best_scales={
            name: float(np.interp(position, positions, at)) for name, position in found.best.items()
        },
        segmenter_sha256=row.sha256 if row else None,
        records=[
            protocol.record(name, each, _Scales(at, found.best))
            for name, each in zip(names, scores, strict=True)
        ],
    )


def _postprocessing(row: Row | None, num_levels: int) -> str:
    if row is None:
        return "none"
    if isinstance(row.segmenter, PartitionSegmenter):
        return row.segmenter.postprocessing
    share = least_areas(10**6, num_levels)[-1] / 10**6
    steps = [] if row.segmenter.postprocessing == "none" else [row.segmenter.postprocessing]
    steps.append(
        "8-connected pieces of the most probable region; small ones absorbed, "
        f"up to {share:.2%} of the picture in {num_levels} levels"
    )
    return ", ".join(steps)


def _region_record(picture: str, scores: regions.RegionScores, at: _Scales) -> Record:
    """Scores at the best common scale, and at the picture's own best."""
    covering = scores.covering / scores.area
    common = {name: int(position) for name, position in at.best.items()}
    return {
        "image": picture,
        "covering": float(covering[common["covering_ods"]]),
        "covering_own": float(covering.max()),
        "pri": float(scores.rand[common["pri_ods"]]),
        "pri_own": float(scores.rand.max()),
        "vi": float(scores.variation[common["vi_ods"]]),
        "vi_own": float(scores.variation.min()),
    }


def _boundary_record(picture: str, counts: boundaries.Counts, at: _Scales) -> Record:
    """Precision, recall and F at the picture's own best scale."""
    precision, recall = boundaries.precision_recall(counts)
    f = boundaries.f_measure(precision, recall)
    own = int(f.argmax())
    return {
        "image": picture,
        "scale_own": float(at.values[own]),
        "precision_own": float(precision[own]),
        "recall_own": float(recall[own]),
        "f_own": float(f[own]),
    }


PROTOCOLS: Mapping[str, Protocol] = {
    "regions": Protocol(
        kind="regions",
        score=regions.score_regions,
        summarise=regions.summarise_regions,
        record=_region_record,
    ),
    "boundaries": Protocol(
        kind="boundaries",
        score=boundaries.score_boundaries,
        summarise=boundaries.summarise_boundaries,
        record=_boundary_record,
    ),
}
