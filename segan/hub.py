"""Segmenters on the Hugging Face Hub, or in a folder laid out like one there, with a model card.

The network is used for names that begin with hf://, and by `push_to_hub`; what was fetched once is
found again without it.
"""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segan.checkpoint import FILE_NAME, LoadedSegmenter, load_segmenter
from segan.config import Tree
from segan.errors import ConfigError, DataError
from segan.files import written_aside

HUB_PREFIX = "hf://"
CARD_NAME = "README.md"

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")

_SUPERVISION = {
    "none": "none: images alone",
    "backgrounds": "pictures without objects, beside those with them",
    "boxes": "a box around each object; no mask was seen",
    "masks": "masks",
}


def downloaded(name: str) -> Path:
    """The segmenter file of hf://OWNER/NAME or hf://OWNER/NAME@REVISION, on this machine.

    Raises:
        ConfigError: The name is malformed, there is no such repository or file, or it was never
            fetched and the Hub cannot be reached.
    """
    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    if not _NAME.fullmatch(repository):
        raise ConfigError(
            f"{name!r} is not of the form hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    hub = _hub()
    try:
        found = hub.hf_hub_download(
            repository, FILE_NAME, revision=revision or None, library_name="segan"
        )
    except Exception as error:  # of the network, of the Hub and of the disk, without a common base
        raise ConfigError(
            f"cannot fetch {FILE_NAME} of {name}, and it was not fetched before: "
            f"{_first_line(error)}"
        ) from None
    return Path(found)


def from_pretrained(source: str | Path) -> LoadedSegmenter:
    """A segmenter of the Hub, or of a folder from `save_pretrained`.

    Args:
        source: OWNER/NAME or OWNER/NAME@REVISION, with hf:// before it or not; or a folder or file.

    Raises:
        ConfigError: There is none, or it cannot be read or reached.
    """
    text = str(source)
    if Path(source).exists():
        return load_segmenter(Path(source))
    return load_segmenter(downloaded(text if text.startswith(HUB_PREFIX) else HUB_PREFIX + text))


def save_pretrained(
    segmenter: str | Path, folder: str | Path, *, license: str | None = None
) -> None:
    """Writes a segmenter file and its model card into a folder, as `push_to_hub` sends them.

    Args:
        segmenter: The file, or a run directory, whose evaluation.json goes into the card.
        folder: Made if missing; the two files in it are replaced.
        license: As the Hub abbreviates it, such as "apache-2.0"; of the weights.

    Raises:
        ConfigError: The segmenter cannot be read, or the license is malformed.
        DataError: The folder cannot be written.
    """
    segmenter, folder = Path(segmenter), Path(folder)
    loaded = load_segmenter(segmenter)
    file = segmenter / FILE_NAME if segmenter.is_dir() else segmenter
    card = model_card(loaded, _evaluation(file.parent / "evaluation.json"), license=license)
    with written_aside(folder / FILE_NAME) as aside:
        shutil.copyfile(file, aside)
    with written_aside(folder / CARD_NAME) as aside:
        aside.write_text(card, encoding="utf-8")


def push_to_hub(
    segmenter: str | Path, repository: str, *, license: str | None = None, private: bool = False
) -> str:
    """Uploads a segmenter file and its model card; returns the address of the commit.

    Logging in is the Hub's own matter: `hf auth login`.

    Args:
        segmenter: The file, or a run directory.
        repository: OWNER/NAME; made if there is none.
        license: As for `save_pretrained`.
        private: Of a repository that is made.

    Raises:
        ConfigError: As for `save_pretrained`, or the name is malformed.
        DataError: The Hub refused, or cannot be reached.
    """
    if not _NAME.fullmatch(repository):
        raise ConfigError(f"{repository!r} is not of the form OWNER/NAME")
    hub = _hub()
    with TemporaryDirectory() as folder:
        save_pretrained(segmenter, Path(folder), license=license)
        try:
            api = hub.HfApi(library_name="segan")
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload segmenter"
            )
        except Exception as error:  # of the network and of the Hub, without a common base
            raise DataError(f"cannot upload to {repository}: {_first_line(error)}") from None
    return str(commit.commit_url)


def model_card(loaded: LoadedSegmenter, evaluation: Tree | None, *, license: str | None) -> str:
    """What a stranger should know of a segmenter, as Markdown with the Hub's header.

    Args:
        loaded: The segmenter file.
        evaluation: Of its run, as evaluation.json holds it.
        license: Of the weights.
    """
    if license is not None and not _LICENSE.fullmatch(license):
        raise ConfigError(f"license is {license!r}; it must be an abbreviation like apache-2.0")
    facts = loaded.metadata
    method, dataset = _plain(facts.get("method")), _plain(facts.get("dataset"))
    header = ["library_name: segan", "pipeline_tag: image-segmentation"]
    header += [f"license: {license}"] if license else []
    header += ["tags:", "- unsupervised", "- segmentation"]
    named = facts["foreground"] is not None
    gives = "a mask of objects" if named else f"{facts['num_regions']} unnamed regions"
    sections = [
        "---\n" + "\n".join(header) + "\n---\n",
        f"# {method} on {dataset}\n",
        f"Image segmentation trained without masks, by segan: a picture in, {gives} out.\n",
        f"```python\n{_USE}```\n",
        "## Training\n\n" + _bullets(_training(facts)),
        "## Results\n\n" + _results(evaluation),
        "## Limits\n\n" + _bullets(_limits(loaded)),
        "## Provenance\n\n" + _bullets(_provenance(loaded)),
    ]
    return "\n".join(sections)


_USE = """\
import segan

segmenter = segan.load("hf://OWNER/NAME")
labels = segmenter.maps(pictures)  # uint8 [N, H, W, 3] to [N, H, W]
"""


def _training(facts: Tree) -> dict[str, str]:
    supervision = str(facts["supervision"]["train"])
    found = {
        "Method": _plain(facts.get("method")),
        "Data": _plain(facts.get("dataset")),
        "Supervision": _SUPERVISION.get(supervision, _plain(supervision)),
    }
    if facts.get("box_source"):
        found["Boxes"] = _plain(facts["box_source"])
    if facts.get("images_seen") is not None:
        found["Images seen"] = _plain(facts["images_seen"])
    if facts.get("seed") is not None:
        found["Seed"] = _plain(facts["seed"])
    return found


def _results(evaluation: Tree | None) -> str:
    if evaluation is None:
        return "None were recorded with the segmenter.\n"
    windows = "whole pictures" if evaluation.get("windows") == "none" else "windows around boxes"
    where = (
        f"{_plain(evaluation.get('dataset'))}, {_plain(evaluation.get('split'))} split, "
        f"{_plain(evaluation.get('num_images'))} pictures, {windows}, protocol "
        f"{_plain(evaluation.get('protocol'))}"
    )
    lines = [f"On {where}:\n", "| metric | value | 95 % interval |", "|---|---|---|"]
    intervals = evaluation.get("intervals") or {}
    for name, value in (evaluation.get("metrics") or {}).items():
        interval = intervals.get(name)
        between = " to ".join(f"{end:.4f}" for end in interval) if interval else ""
        said = "undefined" if value is None else f"{value:.4f}"
        lines.append(f"| {_plain(name)} | {said} | {between} |")
    return "\n".join(lines) + "\n"


def _limits(loaded: LoadedSegmenter) -> dict[str, str]:
    limits = {
        "Other pictures": "it was trained on one data set and is not known to work on others.",
        "Scale": f"it sees a picture at {loaded.scale:.4g} times its size; objects or textures of "
        "another size than in training may be missed.",
    }
    if loaded.metadata["foreground"] is None:
        limits["Regions"] = "they have numbers, not names; a number means what training made of it."
    if loaded.window is not None:
        limits["Boxes"] = (
            "training looked at windows around boxes; without boxes, results may be worse."
        )
    limits["Use"] = "masks are guesses: look at them before anything depends on them."
    return limits


def _provenance(loaded: LoadedSegmenter) -> dict[str, str]:
    facts = loaded.metadata
    return {
        "SHA-256 of the file": loaded.sha256,
        "Written by segan": _plain(facts["segan_version"]),
        "Commit": _plain(facts.get("git_commit")),
        "Network": f"`{json.dumps(facts['network'])}`".replace("\n", " "),
    }


def _bullets(lines: dict[str, str]) -> str:
    return "".join(f"- {name}: {text}\n" for name, text in lines.items())


def _plain(value: Any) -> str:
    """A value of a header, which may be a stranger's, as harmless text on one line."""
    if value is None:
        return "unknown"
    return re.sub(r"[^\w .,:+%()/-]", "_", str(value))[:200]


def _evaluation(path: Path) -> Tree | None:
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        tree = None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is damaged; move it away, and the card says nothing of results")
    return tree


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            'the Hugging Face Hub needs the package huggingface_hub: pip install "segan[hub]"'
        ) from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
