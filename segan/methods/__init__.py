"""Methods by configuration. One paper is one file; a new one adds a line to each table here."""

from typing import Annotated, Any

from pydantic import Field

from segan.methods.base import Method
from segan.methods.copy_paste import CopyPaste, CopyPasteConfig
from segan.methods.cut_paste import CutPaste, CutPasteConfig
from segan.methods.iic import IIC, IICConfig
from segan.methods.redo import ReDO, ReDOConfig
from segan.methods.seigan import SEIGAN, SEIGANConfig
from segan.methods.self_training import SelfTraining, SelfTrainingConfig
from segan.methods.shift import Shift, ShiftConfig
from segan.methods.supervised import Supervised, SupervisedConfig
from segan.methods.wnet import WNet, WNetConfig

MethodConfig = Annotated[
    CutPasteConfig
    | WNetConfig
    | IICConfig
    | ShiftConfig
    | CopyPasteConfig
    | SEIGANConfig
    | ReDOConfig
    | SelfTrainingConfig
    | SupervisedConfig,
    Field(discriminator="type"),
]

METHODS: dict[str, Any] = {
    "cut_paste": CutPaste,
    "wnet": WNet,
    "iic": IIC,
    "shift": Shift,
    "copy_paste": CopyPaste,
    "seigan": SEIGAN,
    "redo": ReDO,
    "self_training": SelfTraining,
    "supervised": Supervised,
}


def build(config: MethodConfig) -> Method:
    """The method of a configuration, with freshly initialised networks."""
    method: Method = METHODS[config.type](config)
    return method
