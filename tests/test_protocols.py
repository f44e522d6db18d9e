"""Trained clusters end to end: a run, its own evaluation, and the same scores by the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from scipy.io import savemat

from segan import config, runs
from segan.cli import main
from segan.training.config import RunConfig


def save_bsds(root: Path) -> Path:
    """Two training and two validation pictures of two halves, and what two people see in them."""
    for split, number in (("train", 1), ("train", 2), ("val", 3), ("val", 4)):
        random = np.random.default_rng(number)
        pixels = np.zeros((40, 48, 3))
        pixels[:, 24:] = 150
        pixels += random.uniform(0, 60, pixels.shape)
        image = root / "data" / "images" / split / f"{number}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(image)
        halves = np.ones((40, 48), np.uint16)
        halves[:, 24:] = 2
        cells = np.empty((1, 2), dtype=object)
        for person in range(2):
            cells[0, person] = {"Segmentation": halves, "Boundaries": np.zeros_like(halves)}
        truth = root / "data" / "groundTruth" / split / f"{number}.mat"
        truth.parent.mkdir(parents=True, exist_ok=True)
        savemat(truth, {"groundTruth": cells})
    return root


def run_of(name: str, data: config.Tree, **evaluation: object) -> RunConfig:
    tree = tiny.tree(steps=2, name=name) | {"data": data, "evaluation": evaluation}
    return config.build(RunConfig, tree)


def test_clusters_on_several_peoples_truth_are_scored_as_regions(tmp_path, capsys):
    root = save_bsds(tmp_path / "BSDS500")
    run = run_of("wnet", {"type": "bsds500", "root": str(root)}, split="dev")
    results = runs.train(run, tmp_path / "run")
    assert list(results) == [
        f"whole pictures: {name}" for name in ("segan", "one_region", "kmeans_lab", "felzenszwalb")
    ]
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["protocol"] == "regions"
    assert found["supervision"] == {"train": "none", "test": "none"}
    assert 0 < found["metrics"]["covering_ods"] <= 1
    controls = found["others"]
    assert controls["whole pictures: one_region"]["metrics"]["covering_ods"] == pytest.approx(0.5)
    assert controls["whole pictures: felzenszwalb"]["metrics"]["covering_ods"] > 0.9
    arguments = ["evaluate", str(tmp_path / "run"), "--data", "bsds500", "--root", str(root)]
    arguments += ["--split", "dev", "--workers", "1", "--json", str(tmp_path / "again.json")]
    assert main([*arguments, "--protocol", "regions"]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["metrics"] == found["metrics"]
    assert again["segmenter_sha256"] == found["segmenter_sha256"]
    assert main([*arguments, "--protocol", "boundaries"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("how", ["crf", "ucm", "crf+ucm", "crf+ucm+edges"])
def test_post_processing_is_named_in_the_record(tmp_path, how, capsys):
    if "ucm" in how:
        pytest.importorskip("higra")
    root = save_bsds(tmp_path / "BSDS500")
    run = run_of("iic", {"type": "bsds500", "root": str(root)}, split="none")
    runs.train(run, tmp_path / "run")
    arguments = ["evaluate", str(tmp_path / "run"), "--data", "bsds500", "--root", str(root)]
    arguments += ["--split", "dev", "--protocol", "regions", "--refine", how, "--workers", "1"]
    assert main([*arguments, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(step in found["postprocessing"] for step in how.split("+"))
    assert ("all edges" in found["postprocessing"]) == ("edges" in how)
    assert found["window_options"] == {"scale": 0.5, "levels": 10}
    assert 0 < found["metrics"]["covering_ods"] <= 1
    capsys.readouterr()


def test_more_regions_than_two_are_matched_to_classes(tmp_path, capsys):
    world = {"type": "shapes", "size": 48, "train_images": 4, "test_images": 2}
    results = runs.train(run_of("wnet", world, split="dev"), tmp_path / "run")
    names = ("segan", "majority_oracle", "random", "colour_kmeans")
    assert list(results) == [f"whole pictures: {name}" for name in names]
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (found["protocol"], found["matching"]) == ("semantic", "hungarian on dev")
    arguments = ["evaluate", str(tmp_path / "run"), "--data", "shapes", "--split", "dev"]
    arguments += ["--protocol", "semantic", "--json", str(tmp_path / "again.json")]
    arguments += [f"--set={key}={world[key]}" for key in ("size", "train_images", "test_images")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "again.json").read_text())["metrics"] == found["metrics"]
    capsys.readouterr()


def test_two_regions_can_be_scored_as_an_object_named_by_the_border(tmp_path, capsys):
    """At the scale of training, by every protocol."""
    world = {"type": "shapes", "size": 48, "train_images": 4, "test_images": 2}
    results = runs.train(run_of("iic", world, split="dev"), tmp_path / "run", trivial=False)
    (found,) = results.values()
    assert (found.protocol, found.matching) == ("semantic", "hungarian on dev")
    arguments = ["evaluate", str(tmp_path / "run"), "--data", "shapes", "--split", "dev"]
    arguments += [f"--set={key}={world[key]}" for key in ("size", "train_images", "test_images")]
    file = tmp_path / "found.json"
    for protocol in ("foreground", "semantic", "instances"):
        assert main([*arguments, "--protocol", protocol, "--json", str(file)]) == 0
        record = json.loads(file.read_text())
        assert record["window_options"] == {"scale": 0.5}
        if protocol != "semantic":
            assert (record["polarity"], record["matching"]) == ("border", "none")
    capsys.readouterr()


def test_regions_can_be_matched_on_another_split_than_is_scored(tmp_path, capsys):
    world = {"type": "shapes", "size": 48, "train_images": 4, "test_images": 2}
    runs.train(run_of("wnet", world, split="none"), tmp_path / "run")
    arguments = ["evaluate", str(tmp_path / "run"), "--data", "shapes", "--split", "test"]
    arguments += [f"--set={key}={world[key]}" for key in ("size", "train_images", "test_images")]
    arguments += ["--protocol", "semantic", "--match-on", "dev"]
    assert main([*arguments, "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["matching"] == "hungarian on dev"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "regions"), "has no annotations"),
        (("--protocol", "semantic", "--refine", "crf"), "--refine means nothing for"),
        (("--protocol", "semantic", "--boxes", "gt"), "--boxes means nothing for"),
        (("--protocol", "instances", "--levels", "3"), "--levels means nothing for"),
        (("--refine", "ucm"), "--refine means nothing for"),
    ],
)
def test_options_that_would_change_nothing_are_refused(arguments, message, capsys):
    world = ["--set=size=48", "--set=train_images=2", "--set=test_images=2"]
    assert main(["evaluate", "otsu", "--data", "shapes", *world, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("error: ") == 1


def test_partitions_cannot_be_refined_or_matched_to_classes(tmp_path, capsys):
    root = save_bsds(tmp_path / "BSDS500")
    base = ["evaluate", "felzenszwalb", "--data", "bsds500", "--root", str(root), "--split", "dev"]
    assert main([*base, "--protocol", "regions", "--refine", "crf"]) == 2
    assert "--refine needs regions with probabilities" in capsys.readouterr().err
    world = ["--set=size=48", "--set=train_images=2", "--set=test_images=2"]
    assert main(["evaluate", "slic_rag", "--data", "shapes", *world, "--protocol=semantic"]) == 2
    assert "cuts each picture by itself" in capsys.readouterr().err
