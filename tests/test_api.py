"""`segan.load`, `train`, `predict`, `evaluate` and `export` do what the commands do."""

import inspect
import json

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import segan
from segan import cli, config, export_commands
from segan.errors import ConfigError
from segan.training.config import RunConfig

DATA = {"size": 48, "test_images": 3}
SETTINGS = [f"{key}={value}" for key, value in DATA.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    (folder.parent / "tiny.yaml").write_text(config.to_yaml(tiny.tree(steps=2)))
    assert segan.train(folder.parent / "tiny.yaml", folder) == {}
    return folder


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regions") / "wnet"
    segan.train(config.build(RunConfig, tiny.tree(steps=2, name="wnet")), folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name in ("0", "1"):
        picture = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder


def test_names_are_documented_and_typed():
    for name in ("load", "train", "predict", "evaluate", "export", "from_pretrained"):
        function = getattr(segan, name)
        assert inspect.getdoc(function)
        signature = inspect.signature(function)
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = segan.nothing


def test_training_is_that_of_the_command(run, tmp_path):
    path = run.parent / "tiny.yaml"
    assert cli.main(["train", str(path), "--out", str(tmp_path / "cli")]) == 0
    files = [folder / "segmenter.safetensors" for folder in (run, tmp_path / "cli")]
    assert files[0].read_bytes() == files[1].read_bytes()
    built = config.build(RunConfig, tiny.tree(steps=2))
    with pytest.raises(ConfigError, match="not a RunConfig"):
        segan.train(built, tmp_path / "no", overrides=["train.seed=1"])


def test_evaluation_is_that_of_the_command(run, tmp_path):
    found = segan.evaluate(run, "shapes", settings=DATA, trivial=True)
    data = [word for setting in SETTINGS for word in ("--set", setting)]
    path = tmp_path / "e.json"
    arguments = ["evaluate", str(run), "--data", "shapes", *data, "--trivial", "--json", str(path)]
    assert cli.main(arguments) == 0
    tree = json.loads(path.read_text())
    first = next(iter(found.values()))
    assert first.metrics == tree["metrics"]
    assert list(found)[1:] == list(tree["others"])
    with pytest.raises(ConfigError, match="no protocol 'nothing'"):
        segan.evaluate(run, "shapes", protocol="nothing")


def test_prediction_is_that_of_the_command_and_maps_are_what_it_writes(run, pictures, tmp_path):
    segan.predict(run, [pictures], tmp_path / "library")
    assert cli.main(["predict", str(run), str(pictures), "--out", str(tmp_path / "cli")]) == 0
    segmenter = segan.load(run)
    for name in ("0.png", "1.png"):
        masks = [tmp_path / out / "masks" / name for out in ("library", "cli")]
        assert masks[0].read_bytes() == masks[1].read_bytes()
        picture = torch.from_numpy(np.asarray(Image.open(pictures / name)))[None]
        expected = np.asarray(Image.open(masks[0]))
        np.testing.assert_array_equal(segmenter.maps(picture)[0].cpu(), expected)


def test_paths_are_text_or_paths_as_the_page_on_python_has_them(run, pictures, tmp_path):
    for number, source in enumerate((str(pictures), pictures, [str(pictures)])):
        summary = segan.predict(str(run), source, str(tmp_path / str(number)))
        assert summary.num_written == 2
    segan.save_pretrained(str(run), str(tmp_path / "saved"))
    assert segan.from_pretrained(str(tmp_path / "saved")).window is not None


def test_pictures_of_another_kind_are_one_line(run):
    segmenter = segan.load(run)
    for wrong in (torch.rand(1, 20, 30, 3), torch.zeros(1, 3, 20, 30, dtype=torch.uint8)):
        with pytest.raises(ConfigError, match=r"uint8 \[N, H, W, 3\], these are torch\.\w+ \[1, "):
            segmenter.maps(wrong)


@pytest.mark.slow
def test_exports_of_masks_and_of_regions_predict_and_are_scored(
    run, regions, pictures, tmp_path, capsys
):
    pytest.importorskip("onnxruntime")
    for folder, protocol in ((run, "foreground"), (regions, "semantic")):
        out = tmp_path / f"{folder.name}.onnx"
        report = segan.export(folder, out)
        assert report.parity.equal_pixels >= 0.9999
        shown = tmp_path / f"{folder.name}-cli.onnx"
        assert cli.main(["export", str(folder), "--out", str(shown)]) == 0
        assert "agrees with the segmenter" in capsys.readouterr().out
        assert shown.read_bytes() == out.read_bytes()
        maps = []
        for source in (folder, out):
            target = tmp_path / f"{folder.name}-{source.suffix}"
            segan.predict(source, [pictures], target)
            maps.append(np.asarray(Image.open(target / "masks" / "0.png")))
        assert (maps[0] == maps[1]).mean() >= 0.999
        scores = [
            next(iter(segan.evaluate(source, "shapes", settings=DATA, protocol=protocol).values()))
            for source in (folder, out)
        ]
        metric = {"foreground": "iou", "semantic": "miou"}[protocol]
        first, second = (score.metrics[metric] for score in scores)
        assert first == pytest.approx(second, abs=2e-3)
        regions_of = segan.load(out)(torch.rand(2, 3, 40, 30))
        assert regions_of.shape == (2, 2 if folder is run else 3, 40, 30)


def test_programs_want_trust_on_the_command_line_too(run, pictures, tmp_path, capsys):
    out = tmp_path / "a.pt2"
    segan.export(run, out, format="pt2", verify=False)
    arguments = ["predict", str(out), str(pictures), "--out", str(tmp_path / "masks")]
    assert cli.main(arguments) == 2
    assert "add --trust" in capsys.readouterr().err
    assert cli.main([*arguments, "--trust"]) == 0
    with pytest.raises(ConfigError, match="trust=True"):
        segan.load(out)
    assert segan.load(out, trust=True).opened.supervision == "boxes"


@pytest.mark.slow
def test_comparison_prints_size_latency_agreement_and_accuracy(run, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    data = [word for setting in SETTINGS for word in ("--set", setting)]
    arguments = ["export", str(run), "--compare", "onnx", "pt2", "--out", str(tmp_path / "all")]
    scored = ["--data", "shapes", *data, "--split", "test", "--json", str(tmp_path / "c.json")]
    assert cli.main([*arguments, *scored]) == 0
    printed = capsys.readouterr().out
    for word in ("pytorch", "onnx", "pt2", "MB", "ms", "equal pixels", "iou", "256 x 256"):
        assert word in printed
    rows = json.loads((tmp_path / "c.json").read_text())["formats"]
    assert [row["format"] for row in rows] == ["pytorch", "onnx", "pt2"]
    assert all(row["milliseconds"] > 0 and row["cpu_milliseconds"] > 0 for row in rows)
    assert all(row["num_bytes"] > 1000 for row in rows)
    assert rows[0]["accuracy"] == pytest.approx(rows[1]["accuracy"], abs=2e-3)
    assert rows[0]["accuracy"] == pytest.approx(rows[2]["accuracy"], abs=2e-3)
    files = sorted(file.name for file in (tmp_path / "all").iterdir())
    assert files == ["segmenter.onnx", "segmenter.pt2"]


def test_a_comparison_with_a_format_that_differs_exits_with_5(run, monkeypatch, capsys):
    rows = [
        export_commands.FormatRow(
            format="pytorch", num_bytes=1, milliseconds=1.0, cpu_milliseconds=1.0
        ),
        export_commands.FormatRow(format="onnx", reason="the exported file differs", failed=True),
    ]
    monkeypatch.setattr(export_commands, "compare_formats", lambda *_, **__: rows)
    assert cli.main(["export", str(run), "--compare"]) == 5
    printed = capsys.readouterr().out
    assert "not kept" in printed
    assert "onnx: the exported file differs" in printed


@pytest.mark.slow
def test_int8_takes_its_ranges_from_a_folder_of_pictures(run, pictures, tmp_path):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "a.onnx"
    with pytest.raises(ConfigError, match="not a folder of pictures"):
        segan.export(run, out, format="onnx-int8", pictures=tmp_path / "nowhere")
    report = segan.export(run, out, format="onnx-int8", pictures=pictures)
    assert report.parity.num_pixels == 40 * 56  # of two, one sets ranges and one measures
