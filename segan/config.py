"""Strict configuration: YAML and `key.sub=value` overrides into frozen dataclasses.

Every mistake is one line: the key's full path, what was wrong, what is valid, the nearest match.
A settings class lives beside the class it configures, and every default has exactly one home.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

import pydantic
import yaml
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as pydantic_dataclass

from segan.errors import ConfigError

T = TypeVar("T")
Tree = dict[str, Any]


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass that validates and forbids unknown keys."""
    decorate = pydantic_dataclass(
        frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False)
    )
    result: type[T] = decorate(cls)
    return result


# --- reading -------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: 1e-4 is a number, `no` is a word, duplicate keys are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: key {key!r} is given twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|false|True|False)$"), list("tfTF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text; `source` names it in errors.

    Raises:
        ConfigError: The text is not YAML, names a key twice, or asks for a Python object.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader subclass
    except ConfigError as error:
        raise ConfigError(f"{source}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{source}{where}: not valid YAML: {problem}") from None


def read_tree(path: Path) -> Tree:
    """The mapping in a YAML file.

    Raises:
        ConfigError: The file is missing, unreadable, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config {path}: {error}") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError(f"{path}: a config is a mapping of keys to values")
    return tree


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """`tree` with each `key.sub=value` set; values are read as YAML, as in a file.

    Raises:
        ConfigError: An assignment lacks "=" or reaches into a value that has no keys.
    """
    tree = _copy(tree)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"cannot read {assignment!r}: an override is key.sub=value")
        *parents, last = path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{path}: {key!r} is a value, it has no keys below it")
        node[last] = parse_yaml(text, f"override {path}") if text else ""
    return tree


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


# --- validating ----------------------------------------------------------------------------------


def build(cls: type[T], tree: Tree, source: str = "config") -> T:
    """An instance of a settings class from a mapping.

    Raises:
        ConfigError: A key is unknown or a value has the wrong type or range; all on one line.
    """
    try:
        return pydantic.TypeAdapter(cls).validate_python(tree)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
        first = _explain(cls, tree, problems[0])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(f"{source}: {first}{more}") from None


def as_tree(config: Any) -> Tree:
    """A settings object as plain YAML and JSON values; `build` of it gives an equal object."""
    tree: Tree = pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")
    return tree


def to_yaml(tree: Tree) -> str:
    """A mapping as YAML, keys in the order given."""
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return text


def _explain(cls: type, tree: Tree, problem: Any) -> str:
    path, owner = _locate(cls, tree, problem["loc"])
    name = ".".join(path) or "the config"
    kind = problem["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        valid = [field.name for field in dataclasses.fields(owner)] if owner else []
        near = difflib.get_close_matches(path[-1], valid, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown key {name!r}; {hint}valid keys: {', '.join(valid)}"
    if kind.startswith("union_tag"):
        valid = re.findall(r"'([^']+)'", problem.get("ctx", {}).get("expected_tags", ""))
        given = problem.get("ctx", {}).get("tag")
        if given is None:
            return f"{name!r} needs a key 'type', one of: {', '.join(valid)}"
        near = difflib.get_close_matches(str(given), valid, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{name + '.type'!r} is {given!r}; {hint}valid: {', '.join(valid)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{name!r} is required and has no default"
    return f"{name!r} is {problem['input']!r}: {message}"


def _locate(cls: Any, tree: Any, loc: Sequence[Any]) -> tuple[list[str], Any]:
    """The keys a user typed for a pydantic location, and the settings class that owns the last."""
    path: list[str] = []
    owner = None
    for item in loc:
        options = _classes(cls)
        if not isinstance(tree, dict) or (item not in tree and _is_tag(item, options)):
            cls = next((option for option in options if _tag(option) == item), cls)
            continue
        owner = _choose(options, tree)
        path.append(str(item))
        field = (
            next((f for f in dataclasses.fields(owner) if f.name == item), None) if owner else None
        )
        cls = field.type if field else None
        tree = tree.get(item)
    if loc and path and path[-1] != str(loc[-1]) and not _is_tag(loc[-1], _classes(cls)):
        path.append(str(loc[-1]))
    return path, owner


def _classes(annotation: Any) -> list[type]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [found for option in get_args(annotation) for found in _classes(option)]
    if origin is Annotated:
        return _classes(get_args(annotation)[0])
    return [annotation] if dataclasses.is_dataclass(annotation) else []


def _tag(cls: type) -> str | None:
    for field in dataclasses.fields(cls):
        if field.name == "type" and get_origin(field.type) is Literal:
            return str(get_args(field.type)[0])
    return None


def _is_tag(item: Any, options: list[type]) -> bool:
    return any(_tag(option) == item for option in options)


def _choose(options: list[type], tree: Tree) -> Any:
    tagged = [option for option in options if _tag(option) == tree.get("type")]
    return (tagged or options or [None])[0]
