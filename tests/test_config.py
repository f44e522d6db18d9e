"""The whole text of every message: one line that names the key, the mistake and what is valid."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from segan.config import as_tree, build, override, parse_yaml, read_tree, settings, to_yaml
from segan.data.datasets.shapes import ShapesConfig
from segan.errors import ConfigError
from segan.methods.cut_paste import CutPasteConfig
from segan.training.config import RunConfig


@settings
class Pictures:
    type: Literal["pictures"] = "pictures"
    root: Path
    masks: Path | None = None


@settings
class World:
    type: Literal["world"] = "world"
    size: int = Field(default=128, ge=32)
    inner: Pictures | None = None


@settings
class Rate:
    lr: float = Field(default=1e-3, gt=0)


@settings
class Run:
    data: Annotated[Pictures | World, Field(discriminator="type")]
    rates: dict[str, Rate] = field(default_factory=dict)
    look: Literal["dark", "light"] = "dark"
    limit: int | None = Field(default=None, ge=1)
    compile: bool = False


WORLD = {"type": "world"}


def message(tree: Any, cls: Any = Run) -> str:
    with pytest.raises(ConfigError) as caught:
        build(cls, tree, "run.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (
            {"data": WORLD, "limt": 1},
            "unknown key 'limt'; did you mean 'limit'? valid: data, rates, look, limit, compile",
        ),
        (
            {"data": WORLD, "zzz": 1},
            "unknown key 'zzz'; valid: data, rates, look, limit, compile",
        ),
        (
            {"data": {"type": "world", "siez": 64}},
            "unknown key 'data.siez'; did you mean 'size'? valid: type, size, inner",
        ),
        (
            {"data": {"type": "world", "inner": {"root": "a", "rot": "b"}}},
            "unknown key 'data.inner.rot'; did you mean 'root'? valid: type, root, masks",
        ),
        (
            {"data": WORLD, "rates": {"generator": {"lrr": 1}}},
            "unknown key 'rates.generator.lrr'; did you mean 'lr'? valid: lr",
        ),
        (
            {"data": {"type": "wrld"}},
            "'data.type' is 'wrld'; did you mean 'world'? valid: pictures, world",
        ),
        ({"data": {"type": 3}}, "'data.type' is '3'; valid: pictures, world"),
        ({"data": {}}, "'data.type' is required, one of: pictures, world"),
        ({"data": {"size": 64}}, "'data.type' is required, one of: pictures, world"),
        ({"data": {"type": "pictures"}}, "'data.root' is required and has no default"),
        ({}, "'data' is required and has no default"),
        ({"data": "shapes"}, "'data' is 'shapes'; it must be a mapping of keys to values"),
        ({"data": WORLD, "rates": 5}, "'rates' is 5; it must be a mapping of keys to values"),
        (
            {"data": WORLD, "rates": {"generator": 0.1}},
            "'rates.generator' is 0.1; it must be a mapping of keys to values",
        ),
        ({"data": WORLD, "limit": "many"}, "'limit' is 'many'; it must be a valid integer"),
        ({"data": WORLD, "limit": 1.5}, "'limit' is 1.5; it must be a valid integer"),
        ({"data": WORLD, "limit": [1]}, "'limit' is [1]; it must be a valid integer"),
        ({"data": WORLD, "limit": True}, "'limit' is true or false; it must be a number"),
        ({"data": WORLD, "limit": 0}, "'limit' is 0; it must be greater than or equal to 1"),
        (
            {"data": WORLD, "rates": {"generator": {"lr": float("nan")}}},
            "'rates.generator.lr' is nan; it must be a finite number",
        ),
        (
            {"data": WORLD, "rates": {"generator": {"lr": float("inf")}}},
            "'rates.generator.lr' is inf; it must be a finite number",
        ),
        ({"data": WORLD, "compile": 7}, "'compile' is 7; it must be a valid boolean"),
        (
            {"data": WORLD, "look": "drak"},
            "'look' is 'drak'; did you mean 'dark'? valid: dark, light",
        ),
        (
            {"data": {"type": "pictures", "root": 2018}},
            "'data.root' is 2018; it must be a path, in quotes if it looks like a number",
        ),
        (
            {"data": WORLD, "limit": "x" * 500},
            f"'limit' is '{'x' * 76}...; it must be a valid integer",
        ),
        (
            {"data": WORLD, "limit": 0, "zzz": 1, "compile": "perhaps"},
            "'limit' is 0; it must be greater than or equal to 1 (and 2 more)",
        ),
    ],
)
def test_every_mistake_is_one_line_with_the_key_and_what_is_valid(tree, expected):
    found = message(tree)
    assert found == f"run.yaml: {expected}"
    assert len(found.splitlines()) == 1


def test_a_union_alone_names_its_key():
    union = Annotated[Pictures | World, Field(discriminator="type")]
    assert message({"type": "x"}, union) == "run.yaml: 'type' is 'x'; valid: pictures, world"
    assert message(3, Run) == "run.yaml: it is 3; it must be a mapping of keys to values"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2E3", 2000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("7", 7),
        ("16_000", 16_000),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        # Words, whatever YAML 1.1 says.
        *[(word, word) for word in ("no", "on", "Yes", "y", "010", "0x10", "1:30", "2024-05-01")],
        *[(word, word) for word in (".inf", ".nan", "1e", "e5", "1.2.3")],
    ],
)
def test_yaml_scalars_mean_what_they_look_like(text, value):
    found = parse_yaml(f"key: {text}", "here")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "c.yaml, line 3: key 'a' is given twice; keep one"),
        ("a: {b: 1, b: 2}", "c.yaml, line 1: key 'b' is given twice; keep one"),
        ("a: 1\n2: 3", "c.yaml, line 2: key 2 is not a word"),
        ("[a]: 1", "c.yaml, line 1: key ['a'] is not a word"),
        ("a: &x 1\nb: *x", "c.yaml, line 2: alias *x; write the value out instead"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "c.yaml, line 1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        (
            "a: {b: 1",
            "c.yaml, line 1: not valid YAML: expected ',' or '}', but got '<stream end>'",
        ),
        (
            "\ta: 1",
            "c.yaml, line 1: not valid YAML: found character '\\t' that cannot start any token",
        ),
        (
            "a: \0",
            "c.yaml: not valid YAML: unacceptable character #x0000: special characters are "
            "not allowed",
        ),
        ("[" * 5000, "c.yaml: not valid YAML: nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_with_its_line(text, expected):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "c.yaml")
    assert str(caught.value) == expected


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "c.yaml"

    def problem() -> str:
        with pytest.raises(ConfigError) as caught:
            read_tree(path)
        return str(caught.value)

    assert problem() == f"cannot read config {path}: No such file or directory"
    path.write_bytes(b"\xff\xfe\x00")
    assert problem() == f"cannot read config {path}: it is not UTF-8 text"
    path.write_text("- a\n- b\n")
    assert problem() == f"{path}: a config is a mapping of keys to values"
    path.write_text("just words")
    assert problem() == f"{path}: a config is a mapping of keys to values"
    path.write_text("# only a comment\n")
    assert read_tree(path) == {}
    path.unlink()
    path.mkdir()
    assert problem() == f"cannot read config {path}: Is a directory"


def test_overrides_read_their_value_as_yaml_and_leave_the_tree_alone():
    tree = {"a": {"b": 1, "c": 2}, "d": None}
    assignments = ["a.b=1e-4", "a.e.f=[1, 2]", "d.g=no", "h=", "a.c=x=y"]
    assert override(tree, assignments) == {
        "a": {"b": 1e-4, "c": "x=y", "e": {"f": [1, 2]}},
        "d": {"g": "no"},
        "h": "",
    }
    assert tree == {"a": {"b": 1, "c": 2}, "d": None}
    assert override(tree, ["a={b: 3}"])["a"] == {"b": 3}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.seed", "cannot read 'train.seed': an override is key.sub=value"),
        ("=3", "cannot read '=3': an override is key.sub=value"),
        ("a..b=3", "cannot read 'a..b=3': an override is key.sub=value"),
        ("a.=3", "cannot read 'a.=3': an override is key.sub=value"),
        ("a.b.c=3", "a.b.c: 'b' is a value, it has no keys below it"),
        (
            "a.b=[1",
            "override a.b, line 1: not valid YAML: expected ',' or ']', but got '<stream end>'",
        ),
    ],
)
def test_overrides_that_cannot_be_read(assignment, expected):
    with pytest.raises(ConfigError) as caught:
        override({"a": {"b": 1}}, [assignment])
    assert str(caught.value) == expected


def test_as_tree_and_build_are_inverse():
    run = build(
        RunConfig,
        {
            "method": {"type": "cut_paste", "weights": {"r1": 0.02}},
            "data": {"type": "folder", "root": "a/b", "boxes": "c.csv"},
            "train": {"optimizers": {"generator": {"lr": 2e-5}}, "micro_batch": 8},
        },
    )
    tree = as_tree(run)
    assert build(RunConfig, tree) == run
    assert build(RunConfig, parse_yaml(to_yaml(tree), "copy")) == run
    assert tree["data"]["root"] == "a/b"
    assert tree["train"]["optimizers"]["generator"]["lr"] == 2e-5
    assert tree["method"]["size"] == CutPasteConfig().size


def test_words_that_look_like_something_else_survive_writing():
    words = ["1e4", "no", "010", "1:30", "2024-05-01", "true", "null", "", "1.5", "~", "0x1f", "y"]
    tree = {f"key{i}": word for i, word in enumerate(words)} | {"rate": 1e-5, "n": 3, "on": True}
    text = to_yaml(tree)
    assert parse_yaml(text, "here") == tree
    assert yaml.safe_load(text) == tree


def test_settings_are_frozen_and_checked_in_code_too():
    shapes = ShapesConfig()
    with pytest.raises(AttributeError):
        shapes.size = 64  # type: ignore[misc]
    with pytest.raises(ValueError, match="greater than or equal to 32"):
        ShapesConfig(size=8)
