"""The supervised bound: the unsupervised methods' segmenter, trained on ground-truth masks.

No method of this package, and nobody's result: a row of the leaderboard that says what the same
network makes of the same pictures when it is told the answer.

Supervision: masks, of the training split.
"""

from typing import Literal

from segan.config import settings
from segan.data.masked import MaskedView
from segan.methods.fitted import Fitted, FittedConfig


@settings
class SupervisedConfig(FittedConfig):
    """The supervised bound; its settings are those of anything fitted to masks."""

    type: Literal["supervised"] = "supervised"


class Supervised(Fitted):
    """Cross-entropy and soft Dice against the truth."""

    name = "supervised"
    supervision = "masks"

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__(config, MaskedView)
