"""A suite: which methods are run on which data sets with which seeds, as a YAML file says.

Roots of data sets are never in a suite: they are given by name, or found in the folder that the
environment variable SEGAN_DATA names.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from segan import config
from segan.config import Tree, settings
from segan.data import DATASETS
from segan.errors import ConfigError
from segan.methods import METHODS
from segan.opening import training_free
from segan.segmenter import WindowSpec
from segan.training.config import RunConfig

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
CONFIGS = _CHECKOUT / "configs"
SUITES = _CHECKOUT / "benchmarks" / "suites"

# A teacher that is another method of the suite, on the same data with the same seed.
TEACHER_ROW = "row:"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*")
_NO_ROOT = "PATH/TO/DATA"


@settings
class SuiteWindowConfig:
    """The windows around boxes in which all rows of a data set are scored.

    Attributes:
        size: Side, network pixels, of segmenters without windows of their own.
        context: Window side over box side.
        square: Windows as high as they are wide, or shaped as their box.
        shift: Centres lie up to this share of the box off the box's, by hash of the name.
    """

    size: int = Field(default=64, ge=1)
    context: float = Field(default=1.6, ge=1)
    square: bool = True
    shift: float = Field(default=0.0, ge=0, le=0.5)

    def spec(self) -> WindowSpec:
        """As a segmenter without windows of its own is shown them."""
        return WindowSpec(size=self.size, context=self.context, square=self.square)


@settings
class SuiteDataConfig:
    """A data set of a suite.

    Attributes:
        settings: The `data` of a run but for its root.
        folder: The sub-folder of SEGAN_DATA that it is looked for in; empty for data that is drawn.
        title: For tables.
        window: Windows around boxes that are scored beside whole pictures, if any.
        limit: Only the first so many pictures are scored.
    """

    settings: dict[str, Any]
    folder: str = ""
    title: str = ""
    window: SuiteWindowConfig | None = None
    limit: int | None = Field(default=None, ge=1)


@settings
class SuiteMethodConfig:
    """A row of every data set of a suite, or of some.

    Attributes:
        segmenter: One that is not trained, such as "otsu"; or else:
        config: A file below configs/, with DATA standing for the data set's name in the suite.
        settings: What differs from it; alone, what differs from the defaults. A `method.teacher`
            of "row:NAME" is that method's segmenter on the same data with the same seed.
        on: What differs again, by data set.
        data: The data sets it applies to; all by default.
        title: For tables.
    """

    segmenter: str = ""
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    on: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: list[str] | None = None
    title: str = ""


@settings
class SuiteConfig:
    """A suite.

    Attributes:
        title: For pages.
        split: What the last averaged segmenter of each row is scored on, once: "test", but for
            "dev" while tuning.
        seeds: One row each of every method that is trained.
        minutes: After which a row is stopped; the same command goes on with it.
        checkpoints: Kept of each training, for the choice without labels; scored on dev alone. At
            most 16, whose scores fit into a kept row.
        dev_limit: Pictures of dev that checkpoints are scored on.
        data: Data sets by name.
        methods: Methods by name.
    """

    title: str = ""
    split: Literal["test", "dev"] = "test"
    seeds: list[int] = field(default_factory=lambda: [0])
    minutes: float | None = Field(default=None, gt=0)
    checkpoints: int = Field(default=4, ge=0, le=16)
    dev_limit: int = Field(default=40, ge=1)
    data: dict[str, SuiteDataConfig]
    methods: dict[str, SuiteMethodConfig]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: a method on a data set, with a seed if it is trained.

    Attributes:
        name: Of its files.
        method: Its name in the suite.
        data: Likewise of its data set.
        seed: None for segmenters that are not trained.
        segmenter: Of one that is not trained; else empty.
        asked: Settings of its run, without those of the data; compared with a row that is kept.
        needs: The row whose segmenter is its teacher, or empty.
    """

    name: str
    method: str
    data: str
    seed: int | None = None
    segmenter: str = ""
    asked: Tree = field(default_factory=dict)
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite that was read and found to make sense."""

    name: str
    config: SuiteConfig
    rows: list[Row]


def read_suite(name: str) -> Suite:
    """The suite of a YAML file, or of a name in benchmarks/suites.

    Raises:
        ConfigError: There is none, or it names what does not exist, or a run in it is impossible.
    """
    path = Path(name)
    if not path.is_file():
        path = SUITES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in SUITES.glob("*.yaml"))) or "none"
        raise ConfigError(f"there is no suite {name!r}: name a YAML file, or one of {known}")
    suite = config.build(SuiteConfig, config.read_tree(path), str(path))
    _check(suite, path)
    rows = list(_rows(suite))
    _check_teachers(rows, path)
    for row in rows:
        if not row.segmenter:
            run_of(suite, row, root=None, runs=Path(_NO_ROOT))
    return Suite(name=path.stem, config=suite, rows=rows)


def _check_teachers(rows: Sequence[Row], path: Path) -> None:
    needs = {row.name: row.needs for row in rows}
    for row in rows:
        chain = [row.name]
        while needs[chain[-1]]:
            chain.append(needs[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise ConfigError(f"{path}: teachers in a circle: {' needs '.join(chain)}")


def _check(suite: SuiteConfig, path: Path) -> None:
    if not suite.seeds or len(set(suite.seeds)) < len(suite.seeds):
        raise ConfigError(f"{path}: 'seeds' is {suite.seeds}; give at least one, and each once")
    for kind, names in (("data", suite.data), ("methods", suite.methods)):
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{path}: '{kind}.{name}': names of files are made of it; use letters, "
                    "digits, '_', '.' and '+'"
                )
    for name, entry in suite.data.items():
        given = entry.settings.get("type")
        if not isinstance(given, str) or given not in DATASETS:
            raise ConfigError(f"{path}: 'data.{name}.settings.type' is {_unknown(given, DATASETS)}")
    for name, method in suite.methods.items():
        where = f"{path}: 'methods.{name}'"
        for place, tree in (("settings", method.settings), *method.on.items()):
            for key in ("method", "train"):
                if not isinstance(tree.get(key, {}), dict):
                    raise ConfigError(
                        f"{where}: {key!r} in {place!r} is {tree[key]!r}; it must be settings "
                        "by name, such as {type: wnet}"
                    )
        if bool(method.segmenter) == bool(method.config or method.settings or method.on):
            raise ConfigError(f"{where}: give a segmenter, or a config or settings to train one")
        if method.segmenter and method.segmenter not in training_free():
            raise ConfigError(
                f"{where}: segmenter is {_unknown(method.segmenter, training_free())}"
            )
        for used in (*(method.data or ()), *method.on):
            if used not in suite.data:
                raise ConfigError(f"{where}: data is {_unknown(used, list(suite.data))}")


def _unknown(name: Any, valid: Mapping[str, Any] | Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), list(valid), n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{name!r}, which there is not; {hint}valid: {', '.join(valid)}"


def _rows(suite: SuiteConfig) -> Iterator[Row]:
    for data in suite.data:
        for name, method in suite.methods.items():
            if method.data is not None and data not in method.data:
                continue
            if method.segmenter:
                yield Row(name=f"{data}-{name}", method=name, data=data, segmenter=method.segmenter)
                continue
            for seed in suite.seeds:
                asked = _asked(suite, method, data, seed)
                teacher = str((asked.get("method") or {}).get("teacher", ""))
                needs = ""
                if teacher.startswith(TEACHER_ROW):
                    needs = f"{data}-{_teacher(suite, name, teacher, data)}-{seed}"
                yield Row(
                    name=f"{data}-{name}-{seed}",
                    method=name,
                    data=data,
                    seed=seed,
                    asked=asked,
                    needs=needs,
                )


def _teacher(suite: SuiteConfig, name: str, teacher: str, data: str) -> str:
    found = teacher.removeprefix(TEACHER_ROW).strip()
    other = suite.methods.get(found)
    if other is None or other.segmenter or data not in (other.data or suite.data):
        trained = [each for each, method in suite.methods.items() if not method.segmenter]
        raise ConfigError(
            f"'methods.{name}': teacher {found!r} is not trained on {data}; "
            f"trained are {', '.join(trained)}"
        )
    return found


def _asked(suite: SuiteConfig, method: SuiteMethodConfig, data: str, seed: int) -> Tree:
    tree: Tree = {}
    if method.config:
        tree = config.read_tree(CONFIGS / method.config.replace("DATA", data))
    for more in (method.settings, method.on.get(data, {})):
        tree = merged(tree, more)
    if not isinstance(tree.get("method") or {}, dict):
        raise ConfigError(f"{method.config}: 'method' is {tree['method']!r}; it must be settings")
    kind = (tree.get("method") or {}).get("type")
    if not isinstance(kind, str) or kind not in METHODS:
        raise ConfigError(f"'method.type' of a row on {data} is {_unknown(kind, METHODS)}")
    tree.pop("data", None)
    tree.pop("evaluation", None)
    train = (tree.get("train") or {}) | {"seed": seed, "snapshots": suite.checkpoints}
    return tree | {"train": train}


def merged(tree: Tree, more: Tree) -> Tree:
    """A mapping with the values of another in place of its own, key by key at every depth."""
    result = dict(tree)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def run_of(suite: SuiteConfig, row: Row, *, root: Path | None, runs: Path) -> RunConfig:
    """The run that trains a row.

    Args:
        suite: What the row is of.
        row: One that is trained.
        root: Where its data is; None to see whether the settings are possible at all.
        runs: Where the runs of the suite are, for a teacher among them.

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    entry = suite.data[row.data]
    tree = merged(row.asked, {"data": entry.settings, "evaluation": {"split": "none"}})
    if entry.folder:
        tree["data"] = tree["data"] | {"root": str(root or _NO_ROOT)}
    if row.needs:
        tree = merged(tree, {"method": {"teacher": str(runs / row.needs / "run")}})
    return config.build(RunConfig, tree, f"row {row.name}")


def find_roots(suite: SuiteConfig, given: Sequence[str]) -> dict[str, Path | None]:
    """Where the data sets of a suite are; None for those that are not found.

    Args:
        suite: The suite; data that is drawn has the root ".".
        given: "NAME=PATH" each, from the command line.

    Raises:
        ConfigError: One of them is not of that form, or names no data set of the suite, or no
            folder.
    """
    roots: dict[str, Path | None] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or not path:
            raise ConfigError(f"--root {each}: write --root NAME=PATH")
        if name not in suite.data:
            raise ConfigError(f"--root {each}: data is {_unknown(name, list(suite.data))}")
        if not Path(path).expanduser().is_dir():
            raise ConfigError(f"--root {each}: there is no folder {path}")
        roots[name] = Path(path).expanduser()
    base = os.environ.get("SEGAN_DATA", "")
    for name, entry in suite.data.items():
        if name in roots:
            continue
        place = Path(base) / entry.folder if base and entry.folder else Path()
        roots[name] = None if entry.folder and (not base or not place.is_dir()) else place
    return roots
