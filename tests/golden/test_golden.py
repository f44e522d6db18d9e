"""A recorded run: twenty iterations of cut-and-paste must give the losses they always gave.

The trace is in float64 on pictures made by integer arithmetic, so that other processors and
libraries agree far within the tolerance. It is rewritten by one command only, when a change of
the numerics is meant (and then named in the CHANGELOG under "Numerics"):

    python tests/golden/test_golden.py
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tiny

from segan import config, methods
from segan.data.sample import Sample
from segan.training.config import RunConfig
from segan.training.precision import build_accelerator
from segan.training.trainer import Trainer

STEPS = 20
TRACE = Path(__file__).with_name("cut_paste.txt")
TOLERANCE = 1e-5


class Discs:
    """Thirty-two pictures of one disc each, by integer arithmetic alone."""

    name = "discs"
    provides = frozenset({"images", "boxes"})
    box_source = "procedural"

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
        image = torch.where(inside, stripes, ground).permute(2, 0, 1).to(torch.uint8)
        box = [column - radius, row - radius, column + radius + 1, row + radius + 1]
        return Sample(name=f"{index:02d}", image=image, boxes=torch.tensor([box]).float())


def trace(directory: Path) -> list[list[float]]:
    """Per iteration the discriminators' losses, the penalty and the generator's losses."""
    run = config.build(RunConfig, tiny.tree(steps=STEPS))
    dataset = Discs()
    torch.manual_seed(run.train.seed)
    method = methods.build(run.method).double()
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
        rows.append([trainer._means()[name] for name in COLUMNS])
    return rows


COLUMNS = (
    "discriminator/paste",
    "discriminator/cut",
    "penalty/r1_paste",
    "generator/paste",
    "generator/cut",
    "generator/empty",
    "generator/area",
)


def written(rows: list[list[float]]) -> str:
    lines = [f"# {' '.join(COLUMNS)}", *(" ".join(f"{v:.9g}" for v in row) for row in rows)]
    return "\n".join(lines) + "\n"


def test_cut_paste_gives_its_recorded_losses(tmp_path):
    recorded = [
        [float(value) for value in line.split()]
        for line in TRACE.read_text().splitlines()
        if not line.startswith("#")
    ]
    assert len(recorded) == STEPS
    torch.testing.assert_close(
        torch.tensor(trace(tmp_path)), torch.tensor(recorded), rtol=TOLERANCE, atol=1e-8
    )


if __name__ == "__main__":
    TRACE.write_text(written(trace(TRACE.parent)))
    print(f"{TRACE}: rewritten")
