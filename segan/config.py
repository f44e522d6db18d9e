"""Strict configuration: YAML and `key.sub=value` overrides into frozen dataclasses.

Every mistake is one line: the key's full path, what was wrong, what is valid, the nearest match.
A settings class lives beside the class it configures, and every default has exactly one home.
"""

import dataclasses
import difflib
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
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
    return cast("type[T]", decorate(cls))


# --- reading -------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without its surprises.

    1e-4 is a number; no, 010, 1:30 and 2024-05-01 are words; keys given twice and aliases, with
    which a short text can describe an endless value, are errors.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML wants it here
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(":null")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1
            raise ConfigError(f"line {line}: alias *{event.anchor}; write the value out instead")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"line {line}: key {key!r} is not a word")
            if key in seen:
                raise ConfigError(f"line {line}: key {key!r} is given twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes every word that this reader, or any other, would take for something else."""


for _kind, _pattern, _first in (
    ("bool", r"^(true|false|True|False)$", "tfTF"),
    ("int", r"^[-+]?(0|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", r"^[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", "-+.0123456789"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), [*_first])


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text; `source` names it in errors.

    Raises:
        ConfigError: The text is not YAML, names a key twice, or asks for a Python object.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{source}, {error}") from None
    except RecursionError:
        raise ConfigError(f"{source}: not valid YAML: nested too deeply") from None
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
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read config {path}: it is not UTF-8 text") from None
    tree = parse_yaml(text, str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values")
    return tree


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """`tree` with each `key.sub=value` set; values are read as YAML, as in a file.

    Raises:
        ConfigError: An assignment lacks "=" or a key, or reaches into a value that has no keys.
    """
    tree = _copy(tree)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, last = path.split(".")
        if not equals or not all((*parents, last)):
            raise ConfigError(f"cannot read {assignment!r}: an override is key.sub=value")
        node = tree
        for key in parents:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
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
        config = pydantic.TypeAdapter(cls).validate_python(tree)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
        first = _explain(cls, tree, problems[0])
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(f"{source}: {first}{more}") from None
    if flag := _flag_as_number(tree, as_tree(config)):
        raise ConfigError(f"{source}: {flag!r} is true or false; it must be a number")
    return config


def as_tree(config: Any) -> Tree:
    """A settings object as plain YAML and JSON values; `build` of it gives an equal object."""
    tree: Tree = pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")
    return tree


def to_yaml(tree: Tree) -> str:
    """A mapping as YAML, keys in the order given."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _flag_as_number(given: Any, read: Any, path: str = "") -> str:
    """The key of a true or false that became a number, as Python would have it; or nothing."""
    if isinstance(given, dict) and isinstance(read, dict):
        below = (_flag_as_number(given[key], read.get(key), f"{path}.{key}") for key in given)
        return next(filter(None, below), "")
    return path[1:] if isinstance(given, bool) and not isinstance(read, bool) else ""


# --- explaining ----------------------------------------------------------------------------------


def _explain(cls: Any, tree: Tree, problem: Any) -> str:
    path, owner, annotation = _locate(cls, tree, problem["loc"])
    name = ".".join(path)
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        valid = [field.name for field in dataclasses.fields(owner)]
        return f"unknown key {name!r}; {_one_of(path[-1], valid)}"
    if kind.startswith("union_tag"):
        key = ".".join([*path, "type"])
        tags = [_tag(option) or "" for option in _classes(annotation)]
        if "tag" not in context:
            return f"{key!r} is required, one of: {', '.join(tags)}"
        return f"{key!r} is {context['tag']!r}; {_one_of(context['tag'], tags)}"
    if kind.startswith("missing"):
        return f"{name!r} is required and has no default"
    text = repr(problem["input"])
    given = f"{repr(name) if name else 'it'} is {text if len(text) <= 80 else text[:77] + '...'}"
    if kind == "literal_error":
        expected = context["expected"]
        valid = re.findall(r"'([^']+)'", expected) or re.findall(r"-?\d+", expected)
        return f"{given}; {_one_of(problem['input'], valid)}"
    if kind in ("dataclass_type", "dict_type", "model_attributes_type"):
        return f"{given}; it must be a mapping of keys to values"
    if kind == "path_type":
        return f"{given}; it must be a path, in quotes if it looks like a number"
    message = problem["msg"].removeprefix("Value error, ")
    if message.startswith("Input should "):
        # What follows a comma is how pydantic came to its view.
        return f"{given}; it must {message.removeprefix('Input should ').partition(',')[0]}"
    return f"{given}: {message[0].lower()}{message[1:]}"


def _one_of(word: Any, valid: list[str]) -> str:
    near = difflib.get_close_matches(word, valid, n=1) if isinstance(word, str) else []
    return (f"did you mean {near[0]!r}? " if near else "") + f"valid: {', '.join(valid)}"


def _locate(cls: Any, tree: Any, loc: Sequence[Any]) -> tuple[list[str], Any, Any]:
    """The keys a user typed for a pydantic location, the class that owns the last, and its type."""
    path: list[str] = []
    owner = None
    for item in loc:
        options = _classes(cls)
        # A union's tag is part of the location, but not of what the user typed.
        if any(_tag(option) == item for option in options) and item not in tree:
            cls = next(option for option in options if _tag(option) == item)
            continue
        tagged = [option for option in options if _tag(option) == tree.get("type")]
        owner = next(iter(tagged or options), None)
        path.append(str(item))
        cls = _below(owner or cls, item)
        tree = tree.get(item) if isinstance(tree, dict) else None
    return path, owner, cls


def _below(cls: Any, key: str) -> Any:
    """The type of what is below a key of a settings class or a dictionary."""
    if get_origin(cls) is dict:
        return get_args(cls)[1]
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return next((field.type for field in fields if field.name == key), None)


def _classes(annotation: Any) -> list[Any]:
    """The settings classes among which a value of this type is."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [found for option in get_args(annotation) for found in _classes(option)]
    if origin is Annotated:
        return _classes(get_args(annotation)[0])
    return [annotation] if dataclasses.is_dataclass(annotation) else []


def _tag(cls: Any) -> str | None:
    for field in dataclasses.fields(cls):
        if field.name == "type" and get_origin(field.type) is Literal:
            return str(get_args(field.type)[0])
    return None
