"""`segan data list | info | check | get` as a stranger meets them."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segan.cli import main
from segan.data import DATASETS
from segan.data import download as downloading
from segan.data.catalogue import CATALOGUE
from segan.data.checking import check_folder
from segan.data.datasets.saliency import Saliency
from segan.errors import ConfigError


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, the default --out among them, lie in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def error(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """The one line of a command that must fail."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# --- the catalogue -------------------------------------------------------------------------------


def test_every_data_set_is_in_the_catalogue() -> None:
    assert set(DATASETS) - {"folder"} <= set(CATALOGUE)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"folder"}))
def test_the_catalogue_agrees_with_the_readers(name: str) -> None:
    dataset, entry = DATASETS[name], CATALOGUE[name]
    kinds = {"mask": "masks", "instances": "instances", "classes": "classes", "none": "images"}
    kinds["annotations"] = "annotations"
    assert kinds[entry.truth] in dataset.provides
    if entry.truth == "none":
        assert not dataset.provides & {"masks", "instances", "classes", "annotations"}
    boxes = f"boxes ({dataset.box_source})" if "boxes" in dataset.provides else "none"
    assert entry.supervision == boxes
    assert bool(dataset.box_source) == ("boxes" in dataset.provides)


def test_every_entry_says_how_to_get_the_set() -> None:
    for name, entry in CATALOGUE.items():
        assert bool(entry.steps) != bool(entry.archives), name
        assert all((entry.title, entry.count, entry.terms, entry.cite, entry.page, entry.layout))


# --- list and info -------------------------------------------------------------------------------


def test_list_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines if line[:1].strip() or line[1:2].strip()}
    for name, entry in CATALOGUE.items():
        assert name in rows
        assert entry.supervision in rows[name]
        assert (" yes " if entry.archives else " no ") in rows[name]


@pytest.mark.parametrize("name", CATALOGUE)
def test_info_tells_all(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", name]) == 0
    text = capsys.readouterr().out
    entry = CATALOGUE[name]
    for part in (entry.title, entry.cite, entry.page, entry.terms, *entry.layout, entry.steps):
        assert part in text
    assert f"data.type={name}" in text
    assert ("(from memory; read the page)" in text) != entry.verified


def test_unknown_names_get_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    line = error(capsys, "data", "info", "camvit")
    assert "no data set 'camvit'; did you mean 'camvid'? valid: shapes, " in line
    assert "no data set 'x'" in error(capsys, "data", "get", "x")


@pytest.mark.parametrize(
    "arguments",
    [["data"], ["data", "lst"], ["data", "get"], ["data", "get", "cub200", "--size", "many"]],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


# --- check ---------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    save(root / "a.png", noise(0, 8, 12, 3))
    save(root / "deep" / "copy of a.bmp", noise(0, 8, 12, 3))
    save(root / "gray.png", noise(1, 20, 10))
    Image.fromarray(noise(2, 6, 6).astype(np.uint16) * 200).save(root / "deep.tif")
    (root / ".hidden.png").write_bytes(b"no picture")
    (root / "Thumbs.db").write_bytes(b"no picture")
    return root


def test_check_finds_sizes_modes_and_copies(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(pictures), "--json", "report.json"]) == 0
    text = capsys.readouterr().out
    assert "a.png = deep/copy of a.bmp" in text
    assert "3 different, 6 x 6 to 10 x 20 pixels" in text
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "files": {".png": 2, ".bmp": 1, ".tif": 1},
        "unreadable": [],
        "copies": [["a.png", "deep/copy of a.bmp"]],
        "sizes": [
            {"height": 8, "width": 12, "count": 2},
            {"height": 6, "width": 6, "count": 1},
            {"height": 20, "width": 10, "count": 1},
        ],
        "modes": {"RGB": 2, "I;16": 1, "L": 1},
    }


def test_check_names_what_cannot_be_read(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        (pictures / f"bad {number:02}.png").write_bytes(b"")
    assert main(["data", "check", str(pictures), "--json", "report.json"]) == 3
    text = capsys.readouterr().out
    assert "unreadable   12" in text
    assert "bad 00.png: the file is empty" in text
    unreadable = json.loads(Path("report.json").read_text())["unreadable"]
    assert [bad["name"] for bad in unreadable] == [f"bad {number:02}.png" for number in range(12)]
    shutil.rmtree(pictures)
    pictures.mkdir()
    with pytest.raises(ConfigError, match="no images in"):
        check_folder(pictures)


def saliency(root: Path) -> Path:
    for number in range(3):
        save(root / "images" / f"{number}.png", noise(number, 8, 12, 3))
        save(root / "masks" / f"{number}.png", noise(number, 8, 12) // 128 * 255)
    return root


def test_check_reads_a_data_set_with_its_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = saliency(tmp_path / "ecssd")
    arguments = ["data", "check", "--data", "ecssd", "--root", str(root), "--json", "report.json"]
    assert main(arguments) == 0
    report = json.loads(Path("report.json").read_text())
    assert report["provides"] == sorted(Saliency.provides)
    assert report["splits"]["all"] == 3
    counts = [n for split, n in report["splits"].items() if split != "all" and isinstance(n, int)]
    assert sum(counts) == 3
    (root / "masks" / "1.png").write_bytes(b"torn")
    capsys.readouterr()
    assert main(arguments) == 3
    assert "masks/1.png" in capsys.readouterr().out
    (wrong,) = json.loads(Path("report.json").read_text())["wrong"]
    assert wrong["name"] == "1"


def test_check_takes_one_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = saliency(tmp_path / "ecssd")
    assert "takes a folder, or --data" in error(capsys, "data", "check")
    assert "takes a folder, or --data" in error(capsys, "data", "check", root, "--data", "ecssd")
    assert "belong to --data" in error(capsys, "data", "check", root, "--root", root)
    assert "must end in .json" in error(capsys, "data", "check", root, "--json", "a.png")
    assert "DIR: gone does not exist" in error(capsys, "data", "check", "gone")
    assert "'data.root' is required" in error(capsys, "data", "check", "--data", "ecssd")
    assert not list(tmp_path.glob("*.json"))


# --- get -----------------------------------------------------------------------------------------


def test_sets_that_cannot_be_fetched_say_where_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, entry in CATALOGUE.items():
        if not entry.archives:
            line = error(capsys, "data", "get", name)
            assert entry.steps in line
            assert entry.page in line
    assert not any(tmp_path.iterdir())


def test_a_mirror_needs_its_digest_and_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = error(capsys, "data", "get", "camvid", "--url", "https://example.org/a.zip")
    assert line == "error: a file from elsewhere needs --url, --sha256 and --size"
    given = ["--url", "file:///etc/hostname", "--sha256", "0" * 64, "--size", "9"]
    assert "must begin with https://" in error(capsys, "data", "get", "camvid", *given)
    assert not any(tmp_path.iterdir())


def test_get_unpacks_a_mirrors_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saliency(tmp_path / "ecssd")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part in ("images", "masks"):
            archive.add(tmp_path / "ecssd" / part, part)
    packed = buffer.getvalue()

    def served(_archive: object, part: Path, *_: object) -> None:
        part.write_bytes(packed)

    monkeypatch.setattr(downloading, "_transfer", served)
    digest = hashlib.sha256(packed).hexdigest()
    given = ["--url", "https://example.org/e.tgz", "--sha256", digest.upper()]
    arguments = ["data", "get", "ecssd", *given, "--size", str(len(packed))]
    assert main(arguments) == 0
    assert "data.root=data/ecssd" in capsys.readouterr().out
    assert main(["data", "check", "--data", "ecssd", "--root", "data/ecssd"]) == 0
    assert main([*arguments, "--out", "elsewhere"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "ecssd", "elsewhere"]
    assert "is already there" in error(capsys, *arguments)
