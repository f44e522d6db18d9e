"""The order of the code: imports point downwards, and some things are imported nowhere."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import segan
from segan.data import redraws, scenes, views
from segan.methods import METHODS

PACKAGE = Path(segan.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each line may import what stands above it. A name is a file or a folder of the package.
LAYERS = (
    ("arrays", "errors", "texts"),
    ("compositing", "config", "device", "distributed", "files", "overlay"),
    ("progress", "segmenter", "windows"),
    ("superpixels", "formats", "separation", "tiling"),
    ("data", "losses", "networks", "postprocessing"),
    ("methods", "refining"),
    ("checkpoint", "evaluation", "exporting"),
    ("hub",),
    ("opening", "training"),
    ("guessing", "predicting", "scoring"),
    ("prediction", "report", "run_configs", "runs", "serve"),
    ("leaderboard",),
    ("commands", "data_commands"),
    ("export_commands",),
    ("api",),
    ("cli",),
    ("__main__",),
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}

# Folders whose files are alternatives to one another, with the files that they share.
ALTERNATIVES = {"methods": {"base", "fitted", "swept"}, "losses": set(), "data.datasets": set()}


def module_of(path: Path) -> str:
    """The dotted name below the package: "data.datasets.shapes"; "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it, absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "segan":
                yield from (f"segan.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[str]:
    """What a file imports of the package, as by `module_of`; of `segan` itself only the version."""
    for name in imports(path):
        if name.startswith("segan.") and name != "segan.__version__":
            yield name.removeprefix("segan.")


def test_every_file_has_a_layer() -> None:
    tops = {module_of(path).partition(".")[0] for path in FILES} - {""}
    assert tops == set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path: Path) -> None:
    top = module_of(path).partition(".")[0]
    if not top:
        return  # the package names what users call; when it is looked up, not before
    for imported in own_imports(path):
        other = imported.partition(".")[0]
        assert other == top or LAYER[other] < LAYER.get(top, 0), f"{top} imports {imported}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_alternatives_do_not_import_each_other(path: Path) -> None:
    folder, _, name = module_of(path).rpartition(".")
    if folder not in ALTERNATIVES:
        return
    for imported in own_imports(path):
        other, _, found = imported.rpartition(".")
        assert other != folder or found in ALTERNATIVES[folder], f"{name} imports {imported}"


def test_what_is_used_by_many_imports_little() -> None:
    for name in ("losses.adversarial", "losses.masks", "segmenter", "windows", "compositing"):
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        assert list(own_imports(path)) == [], name


def test_nothing_imports_the_scripts() -> None:
    for path in [*FILES, *Path(__file__).parent.rglob("*.py")]:
        assert not {name.partition(".")[0] for name in imports(path)} & {"eval", "train"}, path


def test_help_imports_nothing_heavy() -> None:
    program = """
import sys
from segan.cli import main
for arguments in (["--help"], ["train", "--help"], ["evaluate", "--help"], ["predict", "--help"],
                  ["data", "--help"], ["data", "get", "--help"], ["leaderboard", "--help"]):
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 0
heavy = {"torch", "numpy", "pydantic", "yaml", "rich", "cv2", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_importing_the_package_imports_nothing_heavy_until_a_name_is_used() -> None:
    program = """
import sys
import segan
assert {"load", "train", "predict", "evaluate", "export"} <= set(dir(segan))
assert not {"torch", "numpy", "pydantic"} & set(sys.modules)
segan.load
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_file_is_read_in_a_way_that_runs_code() -> None:
    """No pickle in any form, and YAML through the one safe loader."""
    unsafe = {"torch.load", "np.load", "numpy.load", "joblib.load", "yaml.unsafe_load", "eval"}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not {name.partition(".")[0] for name in imports(path)} & {"pickle", "dill"}, path
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & (unsafe | {"exec"}), path
        assert "yaml.load" not in calls or module_of(path) == "config", path


VIEW_FILES = ("views", "scenes", "redraws", "targets", "guesses", "masked")


def view_classes() -> dict[str, type]:
    """Every class with needs in the files that hold views."""
    modules = [importlib.import_module(f"segan.data.{name}") for name in VIEW_FILES]
    return {
        found.__name__: found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and hasattr(found, "needs")
    }


def test_one_view_alone_needs_masks() -> None:
    needy = {
        name
        for name, view in view_classes().items()
        if view.needs & {"masks", "instances", "annotations", "classes"}
    }
    assert needy == {"MaskedView"}
    supervised = {name for name, method in METHODS.items() if method.supervision == "masks"}
    assert supervised == {"supervised"}


def test_views_are_in_the_files_that_are_looked_through() -> None:
    for path in sorted((PACKAGE / "data").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert ("needs: ClassVar" in text) == (path.stem in VIEW_FILES), path


def test_no_other_code_of_training_looks_at_truth() -> None:
    """The loader drops it but for the view that needs it."""
    seen = {f"data.{name}" for name in (*VIEW_FILES, "loading")}
    readers = {
        module_of(path)
        for path in FILES
        if module_of(path) in seen
        or module_of(path).partition(".")[0] in ("methods", "losses", "training", "guessing")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "truth"
    }
    assert readers == {"data.masked", "data.loading"}


def test_batches_of_unsupervised_views_hold_no_masks() -> None:
    batches = [
        found
        for found in (*vars(views).values(), *vars(scenes).values(), *vars(redraws).values())
        if isinstance(found, type) and hasattr(found, "_fields") and found.__name__ != "Units"
    ]
    assert batches
    for batch in batches:
        fields = {word for name in batch._fields for word in name.split("_")}
        assert not fields & {"mask", "masks", "truth", "labels", "instances"}, batch


def test_every_method_names_its_supervision_and_only_the_bound_sees_masks() -> None:
    for name, method in METHODS.items():
        allowed = ("masks",) if name == "supervised" else ("none", "backgrounds", "boxes")
        assert method.supervision in allowed, name
