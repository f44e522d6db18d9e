"""Runs small enough for tests: parts of 16 pixels, networks four channels wide, one thread."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segan import config, data, methods
from segan.data.guesses import Guessed
from segan.data.sample import Dataset, Guess, Sample
from segan.segmenter import Segmenter
from segan.training.config import RunConfig
from segan.training.logbook import read_metrics
from segan.training.precision import build_accelerator
from segan.training.trainer import Trainer

# Bitwise and golden comparisons are between runs on one thread.
torch.set_num_threads(1)

BATCH = 8
ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


METHODS: dict[str, config.Tree] = {
    "cut_paste": {
        "size": 16,
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "r1_every": 2,  # the penalty in every second step
    },
    # Dropout is drawn from (seed, step), which is not the same noise on half of a batch.
    "wnet": {
        "network": {"width": 4, "depth": 1, "dropout": 0.0},
        "num_regions": 3,
        "size": 16,
        "radius": 3,
    },
    "iic": {
        "network": {"width": 4},
        "num_regions": 2,
        "num_overclusters": 4,
        "size": 16,
        "scale": 0.5,
        "radius": 1,
    },
    "shift": {
        "size": 16,
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "r1_every": 2,
    },
    "copy_paste": {
        "size": 16,
        "network": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "r1_every": 2,
        "guards": {"head_start": 1},
    },
    "seigan": {
        "size": 16,
        "network": {"width": 4, "depth": 1},
        "inpainter": {"width": 4, "depth": 1},
        "enhancer": {"width": 4},
        "discriminator": {"width": 4, "depth": 2},
        "cycle_every": 2,
        "r1_every": 2,
    },
    "redo": {
        "size": 16,
        "network": {"width": 4, "depth": 1},
        "generator": {"width": 4, "depth": 1},
        "discriminator": {"width": 4, "depth": 2},
        "encoder": {"width": 4, "depth": 2},
        "num_noise": 4,
    },
    "supervised": {"network": {"width": 4, "depth": 1}, "view": {"size": 16}},
    "self_training": {
        "network": {"width": 4, "depth": 1},
        "view": {"size": 16},
        "teacher": "otsu",
        "targets": "soft",
        "temperature": 2.0,
        "undecided": 0.1,
    },
}


def guess_of(sample: Sample) -> Guess:
    """What stands for a teacher's mask: brightness, by integer arithmetic alone."""
    levels = sample.image.int().sum(0) // 3
    return Guess(levels / 255.0, confidence=1.0)


def guessed(dataset: Dataset) -> Guessed:
    """A data set with such guesses."""
    return Guessed(dataset, lambda index: guess_of(dataset[index]))


def tree(*, steps: int, name: str = "cut_paste", **train: Any) -> config.Tree:
    """Settings of a run of so many steps of a method."""
    return {
        "method": {"type": name, **METHODS[name]},
        "data": {
            "type": "shapes",
            "level": "single",
            "size": 48,
            "train_images": 8,
            "backgrounds": 8,
        },
        "train": {
            "images": steps * BATCH,
            "batch_size": BATCH,
            "log_every": 1,
            "checkpoint_every": 0,
            "sample_every": 0,
            "precision": "fp32",
            **train,
        },
        "evaluation": {"split": "none"},
    }


def trainer(
    directory: Path,
    *,
    steps: int,
    name: str = "cut_paste",
    method: config.Tree | None = None,
    double: bool = False,
    prepare: Callable[[methods.Method], None] = lambda _: None,
    **train: Any,
) -> Trainer:
    """A freshly built trainer of such a run; `prepare` may alter its method first."""
    settings = tree(steps=steps, name=name, **train)
    settings["method"] |= method or {}
    run = config.build(RunConfig, settings)
    dataset = data.build(run.data, "train")
    torch.manual_seed(run.train.seed)
    built = methods.build(run.method)
    if "guesses" in built.view.needs:
        dataset = guessed(dataset)
    units = built.view.units(dataset)
    if double:
        built.double()
        built.view = DoubleView(built.view)
    prepare(built)
    return Trainer(
        built,
        dataset,
        units,
        run.train,
        build_accelerator(run.train.precision),
        directory,
        {"config": config.as_tree(run)},
        write_nothing,
    )


class DoubleView:
    """A view whose items are float64, in which the order of summation hardly shows."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self.needs = view.needs

    def __call__(self, sample: Sample, unit: int, rng: Any) -> Any:
        item = self.view(sample, unit, rng)
        return type(item)(*(field.double() for field in item))


def write_nothing(path: Path, segmenter: Segmenter, images_seen: int) -> None:
    """Stands for the writer of snapshots."""


def started(built: Trainer) -> Trainer:
    """A trainer whose `iterate` can be called without `run`."""
    built.incoming = built._batches()
    return built


def poisoned(batches: Iterator[Any], *, draws: range) -> Iterator[Any]:
    """The same batches, with one pixel that is not a number in each of `draws`."""
    for draw, batch in enumerate(batches):
        if draw in draws:
            batch.objects[0, 0, 0, 0] = float("nan")
        yield batch


def tensors(built: Trainer) -> dict[str, Tensor]:
    """Copies of everything a checkpoint of a trainer would hold."""
    return {
        f"{file}: {name}": tensor.detach().clone()
        for file, found in built._state().tensors.items()
        for name, tensor in found.items()
    }


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Over all tensors, which have the same names."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def weights(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of such copies the weights and their average, without the optimisers' moments."""
    return {name: found[name] for name in found if not name.startswith("optimizers")}


def result(directory: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The newest checkpoint of a run (facts and hashes of tensors) and its log but for times."""
    newest = (directory / "state" / "LATEST").read_text().strip()
    facts = json.loads((directory / "state" / newest / "state.json").read_text())
    lines = read_metrics(directory / "metrics.jsonl")
    return facts, [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]
