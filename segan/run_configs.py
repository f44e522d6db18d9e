"""What `segan train` runs: from a config file or a folder of images to a run's configuration."""

import contextlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segan import config
from segan.data.images import SUFFIXES, UnreadableImage, find_images, image_size
from segan.errors import ConfigError
from segan.methods import METHODS
from segan.training.config import RunConfig

# What `segan train FOLDER` trains, and how many network sizes the shorter side of a picture has.
RECOMMENDED = "self_training"
PARTS = 1.5
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# What paths begin with in config files that wait for the user's own.
_PLACEHOLDER = "PATH/TO/"


def run_config(
    path: Path, overrides: Sequence[str], *, method: str | None, placeholders: bool = False
) -> RunConfig:
    """What `segan train` runs for a config file or a folder of images.

    Args:
        path: Of either.
        overrides: "key.sub=value" each.
        method: For a folder.
        placeholders: Let pass paths that stand for the user's.
    """
    if path.is_dir():
        tree = _folder_tree(path, method or RECOMMENDED, overrides)
    else:
        tree = config.override(_config_tree(path, method), overrides)
    run = config.build(RunConfig, tree, f"{path} with overrides" if overrides else str(path))
    if not placeholders:
        _refuse_placeholders(tree)
    return run


def _config_tree(path: Path, method: str | None) -> config.Tree:
    """What a config file says; `method`, if given, must be its own."""
    if not path.exists():
        raise ConfigError(f"there is no config file or folder of images {path}")
    if path.suffix.lower() in SUFFIXES:
        raise ConfigError(f"{path} is a picture; name its folder, or a config file")
    tree = config.read_tree(path)
    settings = tree.get("method")
    own = settings.get("type") if isinstance(settings, dict) else settings
    if method is not None and method not in METHODS:
        raise ConfigError(f"there is no method {method!r}; valid: {', '.join(METHODS)}")
    if method is not None and method != own:
        raise ConfigError(
            f"--method {method} is for a folder of images; {path} is a config of {own}, and "
            f"those of {method} are in configs/{method}"
        )
    return tree


def _refuse_placeholders(tree: config.Tree, above: str = "") -> None:
    """Raise ConfigError where a path is still the one that stands for the user's."""
    for key, value in tree.items():
        if isinstance(value, dict):
            _refuse_placeholders(value, f"{above}{key}.")
        elif isinstance(value, str) and value.startswith(_PLACEHOLDER):
            raise ConfigError(f"'{above}{key}' is still {value}: give {above}{key}=... of your own")


def _folder_tree(folder: Path, method: str, overrides: Sequence[str]) -> config.Tree:
    """What `segan train FOLDER` runs: the method's settings for folders, at a scale that fits.

    A method without windows sees the median of the pictures' shorter sides as `PARTS` parts: by
    its scale, and where the pictures are too small for that, by the size of a part.
    """
    given = config.override({"method": {}, "data": {}}, overrides)
    root = given["data"].get("root") if isinstance(given["data"], dict) else None
    if root is not None and Path(str(root)).resolve() != folder.resolve():
        raise ConfigError(f"data.root={root} is given beside the folder {folder}; give one of them")
    path = _folder_file(method, given["data"])
    tree = config.override(config.read_tree(path), overrides)
    # What is seen of a picture is the method's own, or that of its view; most files leave it out.
    resolved = config.as_tree(config.build(RunConfig, tree, str(path)))["method"]
    tree["data"]["root"] = str(folder)
    asked, chosen = tree["method"], given["method"]
    if isinstance(resolved.get("view"), dict):
        resolved, chosen = resolved["view"], chosen.get("view", {})
        asked = asked.setdefault("view", {})
    # A method that sees the largest square of each picture says so by no scale.
    if resolved.get("scale") is not None and "scale" not in chosen:
        size = resolved["size"]
        sides = [min(height_and_width) for height_and_width in _sizes(folder)]
        side = statistics.median(sides or [PARTS * size])
        scale = max(PARTS * size / side, 2**-6)
        asked["scale"] = round(min(scale, 1.0), 4)
        if scale > 1 and "size" not in chosen:
            asked["size"] = max(int(side / PARTS) // 16, 1) * 16
    return tree


def _folder_file(method: str, given: Any) -> Path:
    """The config file of a method for folders, of two the one for the data that is given."""
    found = sorted(CONFIGS.glob("*/folder*.yaml"))
    if not found:
        raise ConfigError(f"{CONFIGS} is missing: run from a checkout, or name a config file")
    own = [path for path in found if path.parent.name == method]
    if not own:
        valid = sorted({path.parent.name for path in found})
        raise ConfigError(f"no method {method!r} for folders; one of {', '.join(valid)}")
    with_backgrounds = isinstance(given, dict) and given.get("backgrounds") is not None
    fits = (p for p in own if ("backgrounds" in config.read_tree(p)["data"]) == with_backgrounds)
    return next(fits, own[0])


def _sizes(folder: Path) -> Iterator[tuple[int, int]]:
    """Height and width of the images in a folder, as their headers say; others are left out."""
    for path in find_images(folder):
        with contextlib.suppress(UnreadableImage):  # training names and counts them
            yield image_size(path)
