import builtins
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segan import export, networks
from segan.errors import ConfigError, DataError, ParityError
from segan.export import WholePicture, export_onnx, open_onnx, scaled_side
from segan.networks.unet import UNetConfig
from segan.segmenter import MaskSegmenter, Segmenter
from segan.windows import resize

METADATA = {"segan_version": "0", "foreground": 1, "supervision": {"train": "boxes"}}


def make_model(scale: float) -> WholePicture:
    torch.manual_seed(0)
    network = networks.build(UNetConfig(width=4, depth=2))
    with torch.no_grad():  # masks with as many pixels of either kind
        network.head.bias -= network(torch.rand(1, 3, 32, 32)).median()
    return WholePicture(MaskSegmenter(network, stride=network.stride), scale=scale).eval()


@pytest.fixture(scope="module", params=[1.0, 0.5])
def exported(request, tmp_path_factory):
    model = make_model(request.param)
    path = tmp_path_factory.mktemp("export") / "segmenter.onnx"
    return model, path, export_onnx(model, path, metadata=METADATA)


def test_export_is_one_file_that_agrees(exported):
    _, path, report = exported
    assert report.parity.max_difference <= 1e-4
    assert report.parity.equal_pixels >= 0.9999
    assert report.parity.num_pixels >= 1_000_000
    assert [file.name for file in path.parent.iterdir()] == ["segmenter.onnx"]
    assert report.num_bytes == path.stat().st_size
    assert "agrees with the segmenter: probabilities within" in str(report)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (64, 33), (101, 67)])
def test_exported_masks_are_those_of_the_model_at_any_size(exported, size):
    model, path, _ = exported
    pictures = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        masks, probabilities = model(pictures)
    found, exact = open_onnx(path).run(None, {"pictures": pictures.numpy()})
    assert masks.shape == found.shape == (2, *size)
    assert (masks.dtype, probabilities.dtype) == (torch.uint8, torch.float32)
    np.testing.assert_allclose(exact, probabilities, atol=1e-5)
    np.testing.assert_array_equal(found, exact > 0.5)


def test_exported_file_names_its_sizes_and_origin(exported):
    _, path, _ = exported
    session = open_onnx(path)
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert [output.name for output in session.get_outputs()] == ["masks", "probabilities"]
    entries = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(entries[key]) for key in METADATA} == METADATA
    # Exporters like to record stack traces, with the paths of the machine.
    assert str(Path(export.__file__).parent).encode() not in path.read_bytes()


def test_a_file_that_differs_is_an_error_and_not_kept(exported, tmp_path, monkeypatch):
    original, good, _ = exported

    def convert_then_perturb(model, path, _):
        shutil.copy(good, path)
        with torch.no_grad():
            for weights in model.parameters():
                weights += 1e-2

    monkeypatch.setattr(export, "_convert", convert_then_perturb)
    monkeypatch.setattr(export, "NUM_PIXELS", 50_000)
    with pytest.raises(ParityError, match=r"probabilities by up to .* mask pixels equal") as caught:
        export_onnx(make_model(original.scale), tmp_path / "bad.onnx", metadata={})
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_onnx(name, *args, **kwargs):
        if name == "onnxscript":
            raise ImportError(name=name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(ConfigError, match=r'onnxscript: pip install "segan\[onnx\]"'):
        export_onnx(make_model(1.0), tmp_path / "a.onnx", metadata={})


def test_files_that_are_no_models_are_refused(tmp_path):
    path = tmp_path / "a.onnx"
    with pytest.raises(ConfigError, match="cannot read model"):
        open_onnx(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="is not an ONNX model"):
        open_onnx(path)


def test_unwritable_path_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(export, "_convert", lambda *_: None)
    with pytest.raises(DataError, match="cannot write"):
        export_onnx(make_model(1.0), tmp_path / "file" / "a.onnx", metadata={}, verify=False)


def test_scaled_side_is_the_rounded_product():
    random.seed(0)
    for _ in range(20_000):
        side = random.randint(1, 5000)
        window = random.choice([48, 64, 96, 128]) / random.randint(8, 700)
        for scale in (window, random.uniform(0.05, 8), 0.5, 1.5):
            assert scaled_side(side, scale) == max(round(scale * side), 1)


def test_whole_picture_is_what_evaluation_does():
    model = make_model(0.4)
    picture = torch.randint(0, 256, (1, 57, 80, 3), dtype=torch.uint8)
    with torch.inference_mode():
        masks, probabilities = model(picture)
        images = resize(picture.permute(0, 3, 1, 2).float() / 255, (23, 32)).clamp(0, 1)
        expected = resize(model.segmenter(images)[:, 1:], (57, 80))[:, 0]
    assert torch.equal(probabilities, expected)
    assert torch.equal(masks, (expected > 0.5).to(torch.uint8))


def test_segmenters_without_foreground_are_refused():
    with pytest.raises(ConfigError, match="regions are unnamed clusters"):
        WholePicture(Segmenter())
