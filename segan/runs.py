"""One run: from its configuration to a trained segmenter and its scores."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console

from segan import config as configuration
from segan import data, methods
from segan.checkpoint import FILE_NAME, load_segmenter, save_segmenter
from segan.data.datasets.folder import FolderConfig
from segan.data.guesses import Guessed
from segan.data.images import one_line
from segan.data.loading import Cached
from segan.data.sample import Dataset
from segan.data.scenes import doubts_about
from segan.data.views import Units
from segan.errors import ConfigError, DataError, DivergenceError
from segan.evaluation.health import HealthMonitor
from segan.evaluation.results import Evaluation, git_commit
from segan.guessing import FOLDER as GUESSES
from segan.guessing import Teacher, make_guesses, open_teacher, with_guesses
from segan.methods.base import Method
from segan.methods.self_training import SelfTrainingConfig
from segan.scoring import evaluate_run, write_json
from segan.segmenter import MaskSegmenter, RegionSegmenter, Segmenter, WindowSpec
from segan.training.compiling import compile_segmenter
from segan.training.config import RunConfig
from segan.training.directory import ROUNDS, check_directory, claimed
from segan.training.environment import ENVIRONMENT_NAME, environment
from segan.training.phases import first_step_of_segmenter
from segan.training.precision import build_accelerator
from segan.training.restarts import Restarts
from segan.training.trainer import Trainer

# Training windows looked at to find the scale of whole pictures.
_MOST_WINDOWS = 1000

# From the least to the most that training can be told.
SUPERVISIONS = ("none", "backgrounds", "boxes", "masks")

_TRUTHS = {"masks", "instances", "annotations", "classes"}


def train(
    config: RunConfig, out: Path, *, overwrite: bool = False, trivial: bool = True
) -> dict[str, Evaluation]:
    """Train a segmenter, or continue the run that is in `out`, and evaluate it.

    Args:
        config: The run.
        out: Its directory; made if missing.
        overwrite: Remove a run that is there and start anew.
        trivial: Also score the trivial guesses.

    Returns:
        Evaluations by name, when the data has ground truth: the segmenter's and the trivial ones'.

    Raises:
        ConfigError: `out` holds something else or another run, or is being trained in, or the
            configuration cannot work.
        DataError: Nothing is left to train on.
        DivergenceError: Losses stayed non-finite, or the masks collapsed, more often than
            `train.health.restarts` allows.
        Interrupted: A signal came; the state was saved.
    """
    tree = configuration.as_tree(config)
    check_directory(out, tree, overwrite=overwrite)
    _require_outside(config, out)
    dataset = data.build(config.data, "train")
    accelerator = build_accelerator(config.train.precision)
    held_out = _held_out(config, dataset)
    teacher = None
    if isinstance(config.method, SelfTrainingConfig):
        dataset, teacher = _second_stage(
            config, config.method, dataset, out, accelerator, overwrite=overwrite
        )
        overwrite = False
    restarts = Restarts(out, config.train.seed, config.train.health.restarts, anew=overwrite)
    trainer = _build_trainer(config, dataset, teacher, accelerator, out, restarts)
    # Nothing is written before everything that can be wrong has been looked at.
    with claimed(out, tree, overwrite=overwrite, accelerator=accelerator):
        was_finished = trainer.resume() and trainer.step == trainer.num_steps
        if accelerator.is_main_process and not was_finished:
            made_with = environment(accelerator.device, accelerator.num_processes)
            write_json(out / ENVIRONMENT_NAME, made_with)
        while not _ran(trainer, restarts, accelerator):
            trainer = _build_trainer(config, dataset, teacher, accelerator, out, restarts)
        if not accelerator.is_main_process:
            return {}
        # A finished run keeps its file, whose header says what made it.
        if not (was_finished and _can_be_loaded(out / FILE_NAME)):
            trainer.write_segmenter(out / FILE_NAME, trainer.ema.segmenter, trainer.images_seen)
        if held_out is None:
            return {}
        return evaluate_run(config, out, held_out, trivial=trivial)


def _ran(trainer: Trainer, restarts: Restarts, accelerator: Accelerator) -> bool:
    """Whether a run came to its end; False if it collapsed and may start anew."""
    try:
        trainer.run()
    except DivergenceError as error:
        if not restarts.is_allowed:
            if not trainer.health.ends_run:
                raise
            way_out = "--overwrite starts it anew, with another 'train.seed' or other settings"
            raise DivergenceError(f"{error}; {way_out}") from None
        restarts.note(str(error))
        if accelerator.is_main_process:
            restarts.retire()
        trainer.console.warn(
            f"{error}; fresh start {restarts.count} of {restarts.most}, seed {restarts.seed}"
        )
        accelerator.wait_for_everyone()
        return False
    return True


def _second_stage(
    config: RunConfig,
    method: SelfTrainingConfig,
    dataset: Dataset,
    out: Path,
    accelerator: Accelerator,
    *,
    overwrite: bool,
) -> tuple[Guessed, Teacher]:
    """The training pictures with their teacher's masks; earlier rounds are trained first."""
    teacher = open_teacher(method)
    with claimed(out, configuration.as_tree(config), overwrite=overwrite, accelerator=accelerator):
        if method.rounds > 1:
            before = out / ROUNDS / f"{method.rounds - 1}"
            earlier = replace(method, rounds=method.rounds - 1)
            unscored = replace(config.evaluation, split="none")
            train(replace(config, method=earlier, evaluation=unscored), before)
            windows = method.view.windows
            student = open_teacher(replace(method, teacher=str(before), teacher_windows=windows))
            teacher = student._replace(first_sha256=teacher.opened.sha256)
        if accelerator.is_main_process:
            make_guesses(dataset, teacher, out / GUESSES)
        accelerator.wait_for_everyone()
        return with_guesses(dataset, method, out / GUESSES), teacher


def _build_trainer(
    given: RunConfig,
    dataset: Dataset,
    teacher: Teacher | None,
    accelerator: Accelerator,
    out: Path,
    restarts: Restarts,
) -> Trainer:
    """The trainer of a run, or of its present fresh start."""
    config = replace(given, train=replace(given.train, seed=restarts.seed))
    torch.manual_seed(config.train.seed)
    method = methods.build(config.method)
    require(dataset, method)
    cached = Cached(dataset, config.train.cache_megabytes, with_truth="masks" in method.view.needs)
    units = method.view.units(cached)
    if accelerator.is_main_process:
        report_skipped(dataset, units)
        report_doubts(cached, method)
        report_unused(given, method)
    if not units.items:
        reason = units.skipped[0] if units.skipped else "its pictures have no boxes"
        raise DataError(f"nothing to train on in {dataset.name}: {reason}")
    if accelerator.is_main_process and not restarts.count:
        counts = {units.noun: len(units.items)}
        if "backgrounds" in method.view.needs:
            counts["object-free pictures"] = len(cached.backgrounds)
        report_few(counts, config.train.batch_size)
        report_idle(config, method)
    if config.train.compile:
        compile_segmenter(method.segmenter)
    window = _whole_picture_scale(method, cached, units)
    facts = {
        "config": configuration.as_tree(config),
        "data": _fingerprint(cached, units, method.view.needs),
        "precision": accelerator.mixed_precision,
    }
    if teacher:
        facts["teacher"] = teacher.facts()
    if method.revision:
        facts["revision of its method"] = method.revision
    write = partial(_write_segmenter, config, dataset, method, teacher, window, restarts.count)
    return Trainer(method, cached, units, config.train, accelerator, out, facts, write)


def _write_segmenter(
    config: RunConfig,
    dataset: Dataset,
    method: Method,
    teacher: Teacher | None,
    window: WindowSpec | None,
    num_restarts: int,
    path: Path,
    segmenter: Segmenter,
    images_seen: int,
) -> None:
    assert isinstance(segmenter, MaskSegmenter | RegionSegmenter)
    settings = configuration.as_tree(config)["method"]
    save_segmenter(
        path,
        segmenter,
        network=settings["network"],
        num_regions=settings.get("num_regions", 2),
        window=window,
        scale=None if window else method.picture_scale(),
        provenance=_provenance(config, dataset, method, teacher, images_seen)
        | {"restarts": num_restarts},
    )


def _can_be_loaded(path: Path) -> bool:
    try:
        load_segmenter(path)
    except ConfigError:
        return False
    return True


def _require_outside(config: RunConfig, out: Path) -> None:
    """Raises ConfigError if a folder of images would come to hold the run's own pictures."""
    if isinstance(config.data, FolderConfig):
        root = config.data.root.expanduser().resolve()
        if out.resolve().is_relative_to(root):
            raise ConfigError(
                f"--out {out} lies inside data.root, and its sample pictures would become data; "
                "name a folder elsewhere"
            )


def _held_out(config: RunConfig, dataset: Dataset) -> Dataset | None:
    """What is scored after training on `dataset`, looked for before it; None without truth."""
    split = config.evaluation.split
    if split == "none" or not dataset.provides & _TRUTHS:
        return None
    return data.build(config.data, split)


def require(dataset: Dataset, method: Method) -> None:
    """Make sure that a data set provides what a method needs.

    Raises:
        ConfigError: It does not.
    """
    missing = method.view.needs - dataset.provides
    if missing:
        raise ConfigError(
            f"{method.name} needs {', '.join(sorted(missing))}; data set {dataset.name!r} "
            f"provides {', '.join(sorted(dataset.provides))}"
        )


def _whole_picture_scale(method: Method, dataset: Cached, units: Units) -> WindowSpec | None:
    """The method's windows, with the median scale at which training saw the pictures."""
    if method.window is None:
        return None
    some = units.items[:: -(-len(units.items) // _MOST_WINDOWS)]
    windows = [method.view.window(dataset.outline(i), unit) for i, unit in some]
    sides = [math.sqrt(window.width * window.height) for window in windows if window]
    return replace(method.window, scale=float(np.median([method.window.size / s for s in sides])))


def _fingerprint(dataset: Cached, units: Units, needs: frozenset[str]) -> str:
    """A hash of what is trained on: names and sizes of pictures, units and their boxes."""
    digest = hashlib.sha256()
    for index, items in groupby(units.items, key=lambda item: item[0]):
        sample = dataset.outline(index)
        boxes = None if sample.boxes is None else sample.boxes.tolist()
        facts = [sample.name, list(sample.image.shape), [unit for _, unit in items], boxes]
        digest.update(json.dumps(facts).encode() + b"\n")
    if "backgrounds" in needs:
        for index in range(len(dataset.backgrounds)):
            sample = dataset.backgrounds.outline(index)
            digest.update(json.dumps([sample.name, list(sample.image.shape)]).encode() + b"\n")
    return digest.hexdigest()


def report_skipped(dataset: Dataset, units: Units | None = None) -> None:
    """Name the pictures that a data set leaves out, and count the objects that training does."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    pictures = getattr(dataset, "skipped", ())
    for name, reason in pictures:
        console.print(f"skipped {one_line(name)}: {reason}", markup=False)
    if pictures:
        console.print(f"skipped {len(pictures)} picture{'s'[: len(pictures) - 1]} in all")
    if units is not None and units.skipped:
        count, total = len(units.skipped), len(units.skipped) + len(units.items)
        console.print(
            f"skipped {count} of {total} {units.noun}; the first: {units.skipped[0]}", markup=False
        )


def report_few(counts: Mapping[str, int], batch_size: int) -> None:
    """Warn of what there is too little of to fill one batch."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for noun, count in counts.items():
        if count < batch_size:
            console.print(
                f"warning: {noun} to train on: {count}, fewer than 'train.batch_size', "
                f"{batch_size}; a batch shows some of them more than once",
                markup=False,
            )


def report_idle(config: RunConfig, method: Method) -> None:
    """Warn of a run that ends before its segmenter is trained, or before collapse could be seen."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    train, health = config.train, config.train.health
    steps = -(-train.images // train.batch_size)
    first = first_step_of_segmenter(method, steps)
    if first == steps:
        console.print(
            f"warning: 'train.images', {train.images}, ends before the segmenter is first "
            "trained; give more, or a shorter head start",
            markup=False,
        )
        return
    checks = HealthMonitor(health, first).checks_of(steps)
    if (health.stop or health.restarts) and checks < health.stop_after:
        console.print(
            f"warning: 'train.health' asks for fresh starts or a stop after {health.stop_after} "
            f"checks of collapse, but a run of this length has {checks}; give more 'train.images', "
            "or a smaller 'every', 'grace' or 'stop_after'",
            markup=False,
        )


def report_doubts(dataset: Dataset, method: Method) -> None:
    """Warn of object-free pictures that do not look as if they would serve a method."""
    if "backgrounds" in method.view.needs:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        for doubt in doubts_about(dataset):
            console.print(f"warning: {doubt}", markup=False)


def report_unused(config: RunConfig, method: Method) -> None:
    """Warn of object-free pictures that were given to a method that does not look at them."""
    given = isinstance(config.data, FolderConfig) and config.data.backgrounds
    if given and "backgrounds" not in method.view.needs:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(
            f"warning: 'data.backgrounds' is given, but not looked at by {method.name} with these "
            "settings",
            markup=False,
        )


def _provenance(
    config: RunConfig, dataset: Dataset, method: Method, teacher: Teacher | None, images_seen: int
) -> dict[str, Any]:
    used = {method.supervision} | ({teacher.opened.supervision} if teacher else set())
    return {
        "method": config.method.type,
        "dataset": dataset.name,
        "supervision": {"train": max(used, key=SUPERVISIONS.index)},
        "box_source": dataset.box_source,
        "images_seen": images_seen,
        "seed": config.train.seed,
        "git_commit": git_commit(),
    } | ({"teacher": teacher.facts()} if teacher else {})
