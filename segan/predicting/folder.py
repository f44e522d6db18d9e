"""The folder that predictions go to, and whether an earlier run's files in it still count."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from segan.errors import ConfigError
from segan.files import written_aside
from segan.formats import FORMATS

MARKER = "segan-predict.json"
VIDEOS = "videos"


def claim(out: Path, settings: Mapping[str, object], *, overwrite: bool) -> None:
    """Makes `out` ours, or finds that it is, from an earlier run with the same settings.

    Raises:
        ConfigError: It is a file, holds other files, or masks made with other settings.
    """
    if not out.is_dir() and out.exists():
        raise ConfigError(f"--out {out} is a file; give a folder")
    marker = out / MARKER
    if not marker.exists() and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out} holds files that segan did not write; give a new folder")
    if marker.exists() and not overwrite:
        earlier = _read_marker(marker)
        differs = [key for key in settings if earlier.get(key) != settings[key]]
        if differs:
            raise ConfigError(
                f"--out {out} holds masks made with another {', '.join(differs)}; "
                "give a new folder, or --overwrite to start over"
            )
        return
    if marker.exists():
        _empty(out)
    with written_aside(marker) as aside:
        aside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _empty(out: Path) -> None:
    """Removes what an earlier run wrote, and nothing else."""
    for name in [VIDEOS, *(folder for each in FORMATS.values() for folder in each.folders)]:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{marker} is damaged; give a new folder, or --overwrite to start over")
    return content
