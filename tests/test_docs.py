"""The documentation holds: its code runs, and what it links to is there."""

import dataclasses
import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from segan.data.views import ImageBatch

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PAGES_OF_METHODS = sorted((ROOT / "docs" / "methods").glob("*.md"))
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES_OF_METHODS, ids=lambda page: page.stem)
def test_settings_that_a_page_names_are_those_of_its_method(page: Path) -> None:
    module = importlib.import_module(f"segan.methods.{page.stem}")
    for owner, name in re.findall(r"`(\w+Config)\.(\w+)", page.read_text(encoding="utf-8")):
        known = {field.name for field in dataclasses.fields(getattr(module, owner))}
        assert name in known, f"{owner} has no {name}"


def test_the_smallest_method_trains() -> None:
    page = (ROOT / "docs" / "adding_a_method.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    scope: dict[str, object] = {"__name__": "contrast"}
    exec(compile(source, "adding_a_method.md", "exec"), scope)
    torch.manual_seed(0)
    method = scope["Contrast"](scope["ContrastConfig"]())
    # Bright squares on dark ground: the mask that parts them is the best there is.
    images = torch.full((4, 3, 48, 48), 0.2)
    images[:, :, 12:36, 12:36] = 0.8
    optimizer = torch.optim.Adam(method.segmenter.parameters(), lr=1e-2)
    distances = []
    for _ in range(20):
        total, terms = method("contrast", ImageBatch(images))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        distances.append(float(terms["distance"]))
    assert distances[-1] > 2 * distances[0]
    masks = method.preview(method.segmenter, ImageBatch(images)).masks
    assert masks.shape == (4, 1, 48, 48)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells), "clear the outputs before committing"
    sources = ["".join(cell["source"]) for cell in cells]
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    scope: dict[str, object] = {"__name__": "notebook"}
    for number, source in enumerate(sources):
        small = source.replace("IMAGES = 6400", "IMAGES = 64")
        exec(compile(small, f"cell {number}", "exec"), scope)
    assert scope["IMAGES"] == 64
    written = {path.name for path in (tmp_path / "docs" / "notebook-run" / "masks").rglob("*.*")}
    assert "one.png" in written
    assert any(name.endswith(".json") for name in written)
