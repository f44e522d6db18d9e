"""What DATASETS.md measured about the real sets, through their readers."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from segan.data.datasets.camvid import CamVid, CamVidConfig
from segan.data.datasets.ccp import Ccp, CcpConfig
from segan.data.datasets.colorseg import ColorSeg, ColorSegConfig
from segan.data.datasets.dsb2018 import Dsb2018, Dsb2018Config, look_of
from segan.data.datasets.eth_road import EthRoad, EthRoadConfig
from segan.data.datasets.raccoon import Raccoon, RaccoonConfig
from segan.data.datasets.wbc import Wbc, WbcConfig
from segan.data.images import read_image
from segan.data.inspection import inspect
from segan.data.sample import Annotations, Classes, Instances, Mask, Sample, Split
from segan.errors import DataError

SPLITS: tuple[Split, ...] = ("all", "train", "dev", "test")


@pytest.fixture
def data() -> Path:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    return Path(os.environ["SEGAN_DATA"])


def check(sample: Sample) -> None:
    """Boxes lie inside the picture and the truth is of its size."""
    height, width = sample.image.shape[1:]
    if sample.boxes is not None:
        x0, y0, x1, y1 = sample.boxes.unbind(1)
        assert bool(((x0 >= 0) & (x0 < x1) & (x1 <= width)).all())
        assert bool(((y0 >= 0) & (y0 < y1) & (y1 <= height)).all())
    if isinstance(sample.truth, Mask):
        assert sample.truth.mask.shape == (height, width)
    if isinstance(sample.truth, Instances):
        assert sample.boxes is not None
        assert sample.truth.labels.shape == (height, width)
        assert int(sample.truth.labels.max()) == len(sample.boxes)
    if isinstance(sample.truth, Classes):
        assert sample.truth.labels.shape == (height, width)
        assert sample.truth.labels.dtype == torch.int32
    if isinstance(sample.truth, Annotations):
        assert all(labels.shape == (height, width) for labels in sample.truth.labels)


def digests(folder: Path, suffix: str, names: list[str]) -> list[str]:
    files = {name: folder / f"{name}{suffix}" for name in names}
    return [picture.digest for picture in inspect(files, folder)[0]]


def test_dsb2018(data: Path) -> None:
    root = data / "DSB2018"
    datasets = {split: Dsb2018(Dsb2018Config(root=root), split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [170, 105, 35, 30]
    assert not datasets["all"].skipped
    looks = Counter(look_of(read_image(path)) for path in root.glob("*/*/images/*.png"))
    assert looks == {"dark": 139, "purple": 27, "light": 4}
    for index in range(0, 170, 17):
        check(datasets["all"][index])


def test_wbc(data: Path) -> None:
    config = WbcConfig(root=data / "segmentation_WBC")
    datasets = {split: Wbc(config, split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [300, 199, 53, 48]
    samples = [datasets["all"][i] for i in range(300)]
    for sample in samples:
        check(sample)
    assert [sample.name for sample in samples] == [f"{i:03}" for i in range(1, 301)]
    shares = [s.truth.mask.float().mean() for s in samples if isinstance(s.truth, Mask)]
    assert torch.stack(shares).mean() == pytest.approx(0.313, abs=5e-4)
    one, copy = digests(data / "segmentation_WBC" / "Dataset 1", ".bmp", ["112", "139"])
    assert one == copy


def test_ccp(data: Path) -> None:
    config = CcpConfig(root=data / "clothing-co-parsing")
    datasets = {split: Ccp(config, split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [803, 478, 170, 155]
    for index in range(0, 803, 80):
        check(datasets["all"][index])


def test_raccoon(data: Path) -> None:
    config = RaccoonConfig(root=data / "raccoon")
    datasets = {split: Raccoon(config, split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [200, 137, 33, 30]
    samples = [datasets["all"][i] for i in range(200)]
    for sample in samples:
        check(sample)
    assert sum(len(sample.boxes) for sample in samples if sample.boxes is not None) == 217
    for pair in ((11, 116), (83, 120), (52, 74), (65, 98)):
        names = [f"raccoon-{number}" for number in pair]
        one, copy = digests(data / "raccoon" / "images", ".jpg", names)
        assert one == copy


def test_camvid(data: Path) -> None:
    config = CamVidConfig(root=data / "CamVid")
    datasets = {split: CamVid(config, split) for split in ("all", "train", "dev")}
    assert [len(dataset) for dataset in datasets.values()] == [113, 92, 21]
    with pytest.raises(DataError, match="is in the split 'test'"):
        CamVid(config, "test")
    counts = torch.zeros(12)
    for index in range(113):
        sample = datasets["all"][index]
        check(sample)
        assert isinstance(sample.truth, Classes)
        counts += torch.bincount(sample.truth.labels.flatten().long() + 1, minlength=12)
    shares = dict(zip(("void", *CamVid.class_names), (counts / counts.sum()).tolist(), strict=True))
    assert shares["void"] == pytest.approx(0.035, abs=0.002)
    assert max(shares, key=lambda name: shares[name]) == "road"
    assert all(0.003 < shares[name] < 0.011 for name in ("bicyclist", "pedestrian", "pole"))


def test_eth_road(data: Path) -> None:
    config = EthRoadConfig(root=data / "ETH-road")
    datasets = {split: EthRoad(config, split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [40, 24, 11, 5]
    samples = [datasets["all"][i] for i in range(40)]
    for sample in samples:
        check(sample)
    shares = [s.truth.mask.float().mean() for s in samples if isinstance(s.truth, Mask)]
    assert torch.stack(shares).mean() == pytest.approx(0.1906, abs=5e-4)


def test_colorseg(data: Path) -> None:
    config = ColorSegConfig(root=data / "colorsegdataset")
    datasets = {split: ColorSeg(config, split) for split in SPLITS}
    assert [len(dataset) for dataset in datasets.values()] == [32, 21, 6, 5]
    regions = {}
    for sample in (datasets["all"][i] for i in range(32)):
        check(sample)
        assert isinstance(sample.truth, Annotations)
        (labels,) = sample.truth.labels
        regions[sample.name] = int(labels.max())
    assert sum(name.startswith("Selected-SFU/") for name in regions) == 20
    assert regions["IITP-close/BONCH-01"] == 11
    assert regions["Selected-SFU/specular_8_bit_tape-1"] == 5  # RGBA, and black besides
