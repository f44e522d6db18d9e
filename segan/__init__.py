"""Unsupervised image segmentation with generative adversarial networks.

`segan.load`, `train`, `predict`, `evaluate` and `export` are the command line as functions;
`from_pretrained`, `save_pretrained` and `push_to_hub` are for the Hugging Face Hub. PyTorch is
imported when the first of them is looked up, not by `import segan`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segan.library import (
        PictureSegmenter,
        evaluate,
        export,
        from_pretrained,
        load,
        predict,
        push_to_hub,
        save_pretrained,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "PictureSegmenter",
    "__version__",
    "evaluate",
    "export",
    "from_pretrained",
    "load",
    "predict",
    "push_to_hub",
    "save_pretrained",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from segan import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
