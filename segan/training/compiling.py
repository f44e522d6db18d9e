"""Compiling networks, for those who ask for it."""

import os
import shutil
import sys

from segan.errors import ConfigError
from segan.segmenter import Segmenter


def compile_segmenter(segmenter: Segmenter) -> None:
    """Have a segmenter compiled at its first use.

    Only the segmenter: gradient penalties differentiate discriminators twice, which compiled
    graphs do not allow. Copies of it, such as the average, are not compiled.

    Raises:
        ConfigError: There is no C++ compiler, which only the first use would find out.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"'train.compile' needs a C++ compiler, and {compiler} is not there; "
            "install one (or name yours in CXX), or leave train.compile out"
        )
    segmenter.compile()
