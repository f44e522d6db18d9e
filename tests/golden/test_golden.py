"""Recorded runs: twenty iterations of each method must give the losses they always gave.

The traces are in float64 on pictures made by integer arithmetic, so that other processors and
libraries agree far within the tolerance. They are rewritten by one command only, when a change of
the numerics is meant (and then named in the CHANGELOG under "Numerics"):

    python tests/golden/test_golden.py [METHOD ...]
"""

import sys
import tempfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny

from segan import config, methods
from segan.data.sample import Dataset, Mask, Sample
from segan.training.config import RunConfig
from segan.training.precision import build_accelerator
from segan.training.trainer import Trainer

STEPS = 20
TOLERANCE = 1e-5

COLUMNS = {
    "cut_paste": (
        "discriminator/paste",
        "discriminator/cut",
        "penalty/r1_paste",
        "generator/paste",
        "generator/cut",
        "generator/empty",
        "generator/area",
    ),
    "wnet": ("ncut/ncut", "reconstruction/reconstruction"),
    "supervised": ("fit/cross_entropy", "fit/dice"),
    "self_training": ("fit/cross_entropy", "fit/dice"),
    "iic": ("overcluster/information", "cluster/information"),
    "shift": (
        "discriminator/adversarial",
        "penalty/r1",
        "generator/paste",
        "generator/area",
        "generator/predictability",
    ),
    "redo": (
        "discriminator/adversarial",
        "generator/redraw",
        "generator/information",
        "segmenter/redraw",
        "segmenter/information",
        "segmenter/smallest",
    ),
    "copy_paste": (
        "discriminator/real",
        "discriminator/pasted",
        "discriminator/grounded",
        "discriminator/auxiliary",
        "penalty/r1",
        "generator/paste",
        "generator/irrelevant",
        "generator/area",
    ),
    "seigan": (
        "discriminator/background",
        "discriminator/object",
        "penalty/r1_object",
        "generator/background",
        "generator/object",
        "generator/texture",
        "cycle/background_cycle",
        "cycle/object_cycle",
        "cycle/mask_cycle",
        "cycle/background_identity",
    ),
}


class Discs:
    """Thirty-two pictures of one disc each, by integer arithmetic alone, and as many without."""

    name = "discs"
    provides = frozenset({"images", "boxes", "masks", "backgrounds"})
    box_source = "procedural"

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty
        if not empty:
            self.backgrounds = Discs(empty=True)

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> Sample:
        y, x, channel = torch.meshgrid(
            torch.arange(48), torch.arange(48), torch.arange(3), indexing="ij"
        )
        ground = (x * (3 + index % 5) + y * (7 - index % 3) + 40 * channel + 11 * index) % 97
        row, column, radius = 9 + index % 7, 9 + 3 * index % 11, 4 + index % 2
        inside = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        stripes = 150 + (x * 13 + y * (5 + index % 4) + 30 * channel) % 101
        inside &= not self.empty
        image = torch.where(inside, stripes, ground).permute(2, 0, 1).to(torch.uint8)
        box = [column - radius, row - radius, column + radius + 1, row + radius + 1]
        if self.empty:
            return Sample(name=f"empty-{index:02d}", image=image)
        return Sample(f"{index:02d}", image, torch.tensor([box]).float(), Mask(inside[..., 0]))


def trace_of(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.txt")


def trace(name: str, directory: Path) -> list[list[float]]:
    """Per iteration the newest value of each column; not a number before its first turn."""
    run = config.build(RunConfig, tiny.tree(steps=STEPS, name=name))
    dataset: Dataset = Discs()
    torch.manual_seed(run.train.seed)
    method = methods.build(run.method).double()
    if "guesses" in method.view.needs:
        dataset = tiny.guessed(dataset)
    units = method.view.units(dataset)
    assert len(units.items) == 32
    method.view = tiny.DoubleView(method.view)
    accelerator = build_accelerator("fp32")
    trainer = tiny.started(
        Trainer(method, dataset, units, run.train, accelerator, directory, {}, tiny.write_nothing)
    )
    rows = []
    for _ in range(STEPS):
        trainer.terms |= trainer.iterate()
        means = trainer._means()
        rows.append([means.get(column, float("nan")) for column in COLUMNS[name]])
    return rows


def written(name: str, rows: list[list[float]]) -> str:
    lines = [f"# {' '.join(COLUMNS[name])}", *(" ".join(f"{v:.9g}" for v in row) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", methods.METHODS)
def test_method_gives_its_recorded_losses(tmp_path, name):
    recorded = [
        [float(value) for value in line.split()]
        for line in trace_of(name).read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(recorded) == STEPS
    torch.testing.assert_close(
        torch.tensor(trace(name, tmp_path)),
        torch.tensor(recorded),
        rtol=TOLERANCE,
        atol=1e-8,
        equal_nan=True,
    )


if __name__ == "__main__":
    for chosen in sys.argv[1:] or methods.METHODS:
        with tempfile.TemporaryDirectory() as folder:
            trace_of(chosen).write_text(written(chosen, trace(chosen, Path(folder))))
        print(f"{trace_of(chosen)}: rewritten")
