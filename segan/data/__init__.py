"""Data sets by configuration. A new one adds a line to each of the two tables here."""

from typing import Annotated, Any

from pydantic import Field

from segan.data.datasets.bsds500 import Bsds500, Bsds500Config
from segan.data.datasets.camvid import CamVid, CamVidConfig
from segan.data.datasets.ccp import Ccp, CcpConfig
from segan.data.datasets.cityscapes import Cityscapes, CityscapesConfig
from segan.data.datasets.coco_stuff import CocoStuff, CocoStuffConfig
from segan.data.datasets.colorseg import ColorSeg, ColorSegConfig
from segan.data.datasets.cub200 import Cub200, Cub200Config
from segan.data.datasets.dsb2018 import Dsb2018, Dsb2018Config
from segan.data.datasets.eth_road import EthRoad, EthRoadConfig
from segan.data.datasets.flowers102 import Flowers102, Flowers102Config
from segan.data.datasets.folder import Folder, FolderConfig
from segan.data.datasets.potsdam import Potsdam, PotsdamConfig
from segan.data.datasets.raccoon import Raccoon, RaccoonConfig
from segan.data.datasets.saliency import DutOmronConfig, DutsConfig, EcssdConfig, Saliency
from segan.data.datasets.shapes import Shapes, ShapesConfig
from segan.data.datasets.voc2012 import Voc2012, Voc2012Config
from segan.data.datasets.wbc import Wbc, WbcConfig
from segan.data.sample import Dataset, Split

DataConfig = Annotated[
    ShapesConfig
    | FolderConfig
    | Dsb2018Config
    | WbcConfig
    | CcpConfig
    | RaccoonConfig
    | Bsds500Config
    | CamVidConfig
    | EthRoadConfig
    | ColorSegConfig
    | CocoStuffConfig
    | PotsdamConfig
    | Voc2012Config
    | CityscapesConfig
    | Cub200Config
    | Flowers102Config
    | EcssdConfig
    | DutsConfig
    | DutOmronConfig,
    Field(discriminator="type"),
]

DATASETS: dict[str, Any] = {
    "shapes": Shapes,
    "folder": Folder,
    "dsb2018": Dsb2018,
    "wbc": Wbc,
    "ccp": Ccp,
    "raccoon": Raccoon,
    "bsds500": Bsds500,
    "camvid": CamVid,
    "eth_road": EthRoad,
    "colorseg": ColorSeg,
    "coco_stuff": CocoStuff,
    "potsdam": Potsdam,
    "voc2012": Voc2012,
    "cityscapes": Cityscapes,
    "cub200": Cub200,
    "flowers102": Flowers102,
    "ecssd": Saliency,
    "duts": Saliency,
    "dut_omron": Saliency,
}

ON_DISK = [name for name in DATASETS if name != "shapes"]  # the others are drawn


def build(config: DataConfig, split: Split) -> Dataset:
    """One split of the data set of a configuration.

    Raises:
        ConfigError: Its folder is missing or is not laid out as it should be.
        DataError: Too many of its files cannot be read, or the split is empty.
    """
    dataset: Dataset = DATASETS[config.type](config, split)
    return dataset
