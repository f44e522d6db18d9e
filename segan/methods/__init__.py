"""Methods by configuration. One paper is one file; a new one adds a line to each table here."""

from segan.methods.base import Method
from segan.methods.cut_paste import CutPaste, CutPasteConfig

MethodConfig = CutPasteConfig

METHODS: dict[str, type[CutPaste]] = {"cut_paste": CutPaste}


def build(config: MethodConfig) -> Method:
    """The method of a configuration, with freshly initialised networks."""
    return METHODS[config.type](config)
