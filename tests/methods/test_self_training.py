"""A second stage: what it learns from, what it says of it, and that it never sees truth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from segan import config, data, methods, runs
from segan.checkpoint import load_segmenter
from segan.cli import main
from segan.data.guesses import Guessed, GuessView
from segan.data.sample import Dataset, Guess, Sample
from segan.data.targets import TargetBatch
from segan.errors import ConfigError
from segan.guessing import (
    confidences_of,
    guessed_mask,
    make_guesses,
    open_teacher,
    with_guesses,
)
from segan.methods.self_training import SelfTraining, SelfTrainingConfig
from segan.training.config import RunConfig

SMALL = {"network": {"width": 4, "depth": 1}, "view": {"size": 16}}


def method(**settings) -> SelfTraining:
    torch.manual_seed(0)
    tree = {"type": "self_training", "teacher": "otsu", **SMALL, **settings}
    built = methods.build(config.build(SelfTrainingConfig, tree))
    assert isinstance(built, SelfTraining)
    return built


def run(**settings) -> RunConfig:
    tree = {
        "method": {"type": "self_training", "teacher": "otsu", **SMALL, **settings},
        "data": {"type": "shapes", "level": "single", "size": 48, "train_images": 8},
        "train": {"images": 16, "batch_size": 8, "precision": "fp32", "log_every": 1},
        "evaluation": {"split": "none"},
    }
    return config.build(RunConfig, tree)


def shapes(split: str = "train"):
    tree = {"type": "shapes", "level": "single", "size": 48, "train_images": 6}
    return data.build(config.build(data.ShapesConfig, tree), split)


def batch(opacity: float = 0.75, count: int = 3) -> TargetBatch:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    ones = torch.ones(count, 1, 16, 16)
    return TargetBatch(images, opacity * ones, ones, torch.ones(count), torch.zeros(count, 3))


class Bands:
    """Six pictures with a bright band, whose truth is a lie: the whole picture."""

    name, provides, box_source = "bands", frozenset({"images", "boxes", "masks"}), "procedural"

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        image = torch.full((3, 30, 30), 20, dtype=torch.uint8)
        image[:, 5 + index : 15 + index, 8:20] = 220
        box = torch.tensor([[8.0, 5 + index, 20, 15 + index]])
        return Sample(f"band {index}", image, box, data.sample.Mask(torch.ones(30, 30) > 0))


# --- the teacher's masks -------------------------------------------------------------------------


def guessed_by(
    settings: SelfTrainingConfig, folder: Path, dataset: Dataset | None = None
) -> Guessed:
    dataset = Bands() if dataset is None else dataset
    make_guesses(dataset, open_teacher(settings), folder)
    return with_guesses(dataset, settings, folder)


def test_guesses_of_otsu_are_the_bands_with_the_border_as_background(tmp_path: Path):
    settings = config.build(SelfTrainingConfig, {"type": "self_training", "teacher": "otsu"})
    found = guessed_by(settings, tmp_path / "guesses")
    for index in range(6):
        sample = found[index]
        assert sample.truth is None
        expected = (Bands()[index].image[0] == 220).float()
        torch.testing.assert_close(sample.guess.opacity, expected)
        assert sample.guess.confidence == 1
    assert found.provides == {"images", "boxes", "guesses"}


def test_guesses_are_read_again_and_those_of_another_teacher_are_replaced(tmp_path: Path):
    settings = config.build(SelfTrainingConfig, {"type": "self_training", "teacher": "otsu"})
    folder = tmp_path / "guesses"
    guessed_by(settings, folder)
    marked = folder / "00002.png"
    Image.fromarray(np.full((30, 30), 7, np.uint8)).save(marked)
    again = guessed_by(settings, folder)
    assert float(again[2].guess.opacity.max()) == pytest.approx(7 / 255)
    other = replace(settings, teacher="kmeans")
    anew = guessed_by(other, folder)
    assert float(anew[2].guess.opacity.max()) == 1


class Changed(Bands):
    """As many bands, but that of index 2 is another."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, **self.changes) if index == 2 else sample


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"name": "another band"}, True),
        ({"image": Bands()[5].image}, True),
        ({"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]])}, True),
        ({"truth": None}, False),
    ],
)
def test_guesses_of_other_pictures_are_replaced(tmp_path: Path, change, anew):
    settings = config.build(SelfTrainingConfig, {"type": "self_training", "teacher": "otsu"})
    guessed_by(settings, tmp_path)
    Image.fromarray(np.full((30, 30), 7, np.uint8)).save(tmp_path / "00002.png")
    dataset = Changed(**change)
    opacity = guessed_by(settings, tmp_path, dataset)[2].guess.opacity
    if anew:
        torch.testing.assert_close(opacity, (dataset[2].image[0] == 220).float())
    else:
        assert float(opacity.max()) == pytest.approx(7 / 255)


def test_a_half_made_set_of_guesses_goes_on(tmp_path: Path):
    settings = config.build(SelfTrainingConfig, {"type": "self_training", "teacher": "otsu"})
    folder = tmp_path / "guesses"
    guessed_by(settings, folder)
    (folder / "contrast.json").unlink()
    (folder / "00003.png").unlink()
    written = (folder / "00001.png").stat().st_mtime_ns
    guessed_by(settings, folder)
    assert (folder / "00003.png").exists()
    assert (folder / "00001.png").stat().st_mtime_ns == written


def test_teacher_in_windows_finds_objects_in_their_boxes_alone():
    tree = {"type": "self_training", "teacher": "given_box", "teacher_windows": True}
    teacher = open_teacher(config.build(SelfTrainingConfig, tree))
    sample = Bands()[1]
    expected = (sample.image[0] == 220).float()
    torch.testing.assert_close(guessed_mask(teacher, sample), expected, atol=0.3, rtol=0)
    inside = expected > 0
    assert float(guessed_mask(teacher, sample)[~inside].max()) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "otsuu"}, "'method.teacher': there is no segmenter 'otsuu'"),
        ({"teacher": "grabcut"}, "'method.teacher': grabcut looks at boxes; set"),
    ],
)
def test_a_teacher_that_cannot_teach_is_one_clear_line(settings, message):
    tree = {"type": "self_training", **settings}
    with pytest.raises(ConfigError, match=message):
        open_teacher(config.build(SelfTrainingConfig, tree))


def test_confidences_keep_the_share_with_the_highest_scores():
    scores = [0.1, 0.9, 0.5, 0.7]
    assert confidences_of(scores, keep=0.5, weighted=False) == [0, 1, 0, 1]
    assert confidences_of(scores, keep=1.0, weighted=False) == [1, 1, 1, 1]
    assert sum(c > 0 for c in confidences_of([*range(100)], keep=0.55, weighted=False)) == 55
    weighted = confidences_of(scores, keep=0.5, weighted=True)
    assert weighted == pytest.approx([0, 0.9 / 0.8, 0, 0.7 / 0.8])


def test_pictures_without_confidence_are_no_units():
    guesses = [Guess(torch.zeros(48, 48), float(index % 2)) for index in range(6)]
    dataset = Guessed(shapes(), lambda index: guesses[index])
    units = GuessView(16).units(dataset)
    assert [index for index, _ in units.items] == [1, 3, 5]
    assert len(units.skipped) == 3


# --- the objective -------------------------------------------------------------------------------


def test_hard_targets_are_a_threshold_and_soft_ones_are_tempered():
    assert method().targets(batch(0.6)).unique().tolist() == [1.0]
    assert method().targets(batch(0.4)).unique().tolist() == [0.0]
    soft = method(targets="soft", temperature=2.0).targets(batch(0.9))
    # sigmoid(log(9) / 2) = 3 / 4
    torch.testing.assert_close(soft, torch.full_like(soft, 0.75))


def test_undecided_pixels_do_not_count():
    model = method(undecided=0.2)
    assert float(model("fit", batch(0.6)).terms["cross_entropy"]) == 0
    assert float(model("fit", batch(0.9)).terms["cross_entropy"]) > 0


def test_pictures_count_by_their_confidence():
    model = method()
    some = batch()
    weights = torch.tensor([2.0, 1.0, 0.0])
    total = model("fit", some._replace(confidence=weights)).total
    alone = [model("fit", type(some)(*(field[i : i + 1] for field in some))).total for i in (0, 1)]
    torch.testing.assert_close(total, (2 * alone[0] + alone[1]) / 3)


def test_mean_teacher_is_the_running_average_of_the_students_weights():
    model = method(consistency=1.0, decay=0.75)
    assert model.batch_statistics
    start = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        for parameter in model.segmenter.parameters():
            parameter.add_(1.0)
    model.averaged_masks(batch().images)
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, start[name] + 0.25)


def test_consistency_is_the_distance_to_the_average_and_is_warmed_up():
    model = method(consistency=3.0, decay=0.9)
    noisy = batch()._replace(photometric=torch.ones(3, 3))
    model.progress = 0.0
    assert model.warmup() == pytest.approx(np.exp(-5))
    model.progress = 0.2
    assert model.warmup() == pytest.approx(1)
    found = model("fit", noisy)
    assert float(found.terms["consistency"]) > 0
    fitted = sum(term for name, term in found.terms.items() if name != "consistency")
    for progress in (0.0, 0.1, 0.2):
        again = method(consistency=3.0, decay=0.9)
        again.progress = progress
        total = again("fit", noisy).total.detach()
        expected = fitted + 3 * again.warmup() * found.terms["consistency"]
        torch.testing.assert_close(total, expected)
    clean = model("fit", batch())
    assert float(clean.terms["consistency"]) == pytest.approx(0, abs=1e-10)


def test_temperature_without_soft_targets_is_refused():
    with pytest.raises(ConfigError, match=r"'method\.temperature' is for soft targets"):
        method(temperature=2.0)


# --- runs ----------------------------------------------------------------------------------------


def test_run_records_its_teacher_and_goes_on_where_it_was(tmp_path: Path):
    runs.train(run(keep=0.5), tmp_path / "run")
    header = load_segmenter(tmp_path / "run").metadata
    assert header["supervision"] == {"train": "none"}
    assert header["teacher"] == {
        "name": "otsu",
        "sha256": None,
        "supervision": "none",
        "windows": False,
        "first_sha256": None,
    }
    before = (tmp_path / "run" / "segmenter.safetensors").read_bytes()
    runs.train(run(keep=0.5), tmp_path / "run")
    assert (tmp_path / "run" / "segmenter.safetensors").read_bytes() == before


def test_supervision_of_the_teacher_is_inherited(tmp_path: Path):
    """Of a run on boxes, and by a second stage on a second stage."""
    first = config.build(RunConfig, tiny.tree(steps=1))
    runs.train(first, tmp_path / "first")
    loaded = load_segmenter(tmp_path / "first")
    second = run(teacher=str(tmp_path / "first"))
    runs.train(second, tmp_path / "second")
    header = load_segmenter(tmp_path / "second").metadata
    assert header["supervision"] == {"train": "boxes"}
    assert header["teacher"]["sha256"] == loaded.sha256
    runs.train(run(teacher=str(tmp_path / "second")), tmp_path / "third")
    assert load_segmenter(tmp_path / "third").metadata["supervision"] == {"train": "boxes"}


def test_windows_around_boxes_are_supervision_by_boxes(tmp_path: Path):
    runs.train(run(teacher_windows=True), tmp_path / "run")
    assert load_segmenter(tmp_path / "run").metadata["supervision"] == {"train": "boxes"}


def test_later_rounds_learn_from_the_student_before(tmp_path: Path):
    out = tmp_path / "run"
    runs.train(run(rounds=2), out)
    before = load_segmenter(out / "rounds" / "1")
    header = load_segmenter(out).metadata
    assert header["teacher"]["sha256"] == before.sha256
    assert before.metadata["teacher"]["name"] == "otsu"
    facts = json.loads((out / "guesses" / "teacher.json").read_text())
    assert facts["sha256"] == before.sha256
    runs.train(run(rounds=2), out, overwrite=True)
    assert load_segmenter(out).sha256


def test_truth_of_the_training_pictures_changes_nothing(tmp_path: Path):
    """The same pictures with and without masks give the same segmenter, bit by bit."""
    for name in ("with", "without"):
        for index in range(12):
            path = tmp_path / name / "pictures" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            mask = tmp_path / "masks" / f"{index}.png"
            mask.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels[..., 0]).save(mask)
    weights = []
    for name, more in (("with", {"masks": str(tmp_path / "masks")}), ("without", {"split": True})):
        tree = config.as_tree(run())
        tree["data"] = {"type": "folder", "root": str(tmp_path / name / "pictures"), **more}
        runs.train(config.build(RunConfig, tree), tmp_path / f"run {name}")
        loaded = load_segmenter(tmp_path / f"run {name}")
        weights.append(loaded.segmenter.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_unknown_teacher_writes_nothing(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text("method: {type: self_training, teacher: nobody}\ndata: {type: shapes}\n")
    assert main(["train", str(path), "--out", "run"]) == 2
    assert "'method.teacher': there is no segmenter 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_student_of_a_threshold_resembles_it():
    """On pictures where Otsu's threshold is right, so is what is learnt from it."""
    dataset = Guessed(Bands(), lambda index: tiny.guess_of(Bands()[index]))
    view = GuessView(24)
    model = method(network={"width": 8, "depth": 2}, view={"size": 24})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(60):
        items = [view(dataset[i % 6], 0, np.random.default_rng((step, i))) for i in range(6)]
        drawn = TargetBatch(*(torch.stack(field) for field in zip(*items, strict=True)))
        optimizer.zero_grad()
        model("fit", drawn).total.backward()
        optimizer.step()
    for index in range(6):
        image = Bands()[index].image[None].float() / 255
        found = model.segmenter(image)[0, 1] > 0.5
        truth = image[0, 0] > 0.5
        assert float((found & truth).sum() / (found | truth).sum()) > 0.9
