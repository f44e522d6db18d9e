"""The papers' own sizes build and run: three iterations on two pictures, nothing learned."""

from pathlib import Path

import pytest
import tiny
import torch

from segan import config, methods
from segan.data.sample import Sample
from segan.training.config import RunConfig
from segan.training.precision import build_accelerator
from segan.training.trainer import Trainer


class Noise:
    """Two pictures of noise, large enough for any view."""

    name = "noise"
    provides = frozenset({"images"})
    box_source = ""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        random = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 256, (3, 400, 400), generator=random, dtype=torch.uint8)
        return Sample(str(index), pixels)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wnet/voc2012.yaml", "iic/coco_stuff3.yaml"])
def test_paper_size_runs_three_iterations(tmp_path: Path, name: str):
    tree = config.read_tree(tiny.ROOT / "configs" / name)
    overrides = ["data.root=X", "train.batch_size=2", "train.images=6", "train.precision=fp32"]
    run = config.build(RunConfig, config.override(tree, overrides))
    torch.manual_seed(0)
    method = methods.build(run.method)
    dataset = Noise()
    units = method.view.units(dataset)
    trainer = tiny.started(
        Trainer(
            method,
            dataset,
            units,
            run.train,
            build_accelerator("fp32"),
            tmp_path,
            {},
            tiny.write_nothing,
        )
    )
    for _ in range(3):
        terms = trainer.iterate()
        assert all(bool(value.isfinite()) for value in terms.values())
    assert trainer.skipped_updates == 0
