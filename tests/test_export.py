"""Files that give the masks of the segmenter, in every format; and ones that do not, refused."""

import builtins
import json
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from segan import exporting, networks
from segan.errors import ConfigError, DataError, ParityError
from segan.evaluation.rows import native_regions
from segan.exporting import comparison, formats, int8, openvino, parity, program
from segan.exporting.comparison import compare_formats, table
from segan.exporting.formats import FORMATS, ExportReport, export_file, format_of
from segan.exporting.loading import load_exported
from segan.exporting.onnx import open_session, write_onnx
from segan.exporting.opened import OpenFile, as_arrays
from segan.exporting.whole import WholePicture, scaled_side
from segan.networks.unet import UNetConfig
from segan.segmenter import MaskSegmenter, RegionSegmenter
from segan.windows import resize

METADATA = {
    "segan_version": "0",
    "foreground": 1,
    "num_regions": 2,
    "supervision": {"train": "boxes"},
    "dataset": "caf\u00e9",
}
SCALES = {"cut_paste": 0.5, "wnet": 1.0, "iic": 1.0}
# Compiling and quantising take a minute each: every day one format of all methods, and all but the
# compiled format of one.
MATRIX = [
    pytest.param(
        method,
        name,
        marks=[]
        if name == "onnx" or (method == "cut_paste" and name != "aot")
        else [pytest.mark.slow],
    )
    for method in SCALES
    for name in FORMATS
]
# The same claim about others takes as long again.
ONNX_DAILY = ["onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in ("openvino", "pt2"))]


def make_model(scale: float) -> WholePicture:
    torch.manual_seed(0)
    network = networks.build(UNetConfig(width=4, depth=2))
    return WholePicture(balanced(MaskSegmenter(network, stride=network.stride)), scale=scale).eval()


def small_model() -> WholePicture:
    """One convolution, which is soon traced, where the network is beside the point."""
    torch.manual_seed(0)
    network = nn.Sequential(OrderedDict(head=nn.Conv2d(3, 1, 3, padding=1)))
    return WholePicture(balanced(MaskSegmenter(network, stride=1))).eval()


def balanced(segmenter: MaskSegmenter) -> MaskSegmenter:
    """With masks of as many pixels of either kind."""
    segmenter.eval()
    pictures = parity.soft_shapes(np.random.default_rng(3), 4, 48, 48)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        segmenter.network.head.bias -= segmenter.logits(images).median()
    return segmenter


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, WholePicture]:
    """A segmenter of each of three methods, after four steps of training."""
    models = {}
    for name, scale in SCALES.items():
        run = tiny.trainer(tmp_path_factory.mktemp(name), steps=4, name=name)
        run.run()
        segmenter = run.ema.segmenter.eval()
        if isinstance(segmenter, MaskSegmenter):
            segmenter = balanced(segmenter)
        models[name] = WholePicture(segmenter, scale=scale).eval()
    return models


_WRITTEN: dict[int, bytes] = {}


def once(model: WholePicture, path: Path, metadata: dict[str, object]) -> None:
    """`write_onnx`, but for a model that it has written before."""
    if id(model) not in _WRITTEN:
        write_onnx(model, path, metadata)
        _WRITTEN[id(model)] = path.read_bytes()
    path.write_bytes(_WRITTEN[id(model)])


def metadata_of(model: WholePicture, num_regions: int = 3) -> dict[str, object]:
    return METADATA | {"foreground": model.foreground, "num_regions": num_regions}


def require(name: str) -> None:
    try:
        FORMATS[name].require()
    except ConfigError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("method", "name"), MATRIX)
def test_every_format_gives_the_maps_of_a_trained_segmenter(
    trained, tmp_path, monkeypatch, method, name
):
    require(name)
    model = trained[method]
    # Tracing takes longest: the two formats made from ONNX take the file that another test made.
    monkeypatch.setattr(int8, "write_onnx", once)
    monkeypatch.setattr(openvino, "write_onnx", once)
    path = tmp_path / "out" / f"segmenter{FORMATS[name].suffix}"
    report = export_file(model, path, format=name, metadata=metadata_of(model))
    if name == "onnx-int8":
        assert report.parity.equal_pixels >= int8.MIN_EQUAL_INT8
        assert "compared with the segmenter" in str(report)
    else:
        assert report.parity.num_pixels >= 1_000_000
        assert report.parity.equal_pixels >= 0.9999
        assert report.parity.max_difference <= 1e-4
        assert "agrees with the segmenter: probabilities within" in str(report)
    files = list(path.parent.iterdir())
    assert {file.suffix for file in files} == {path.suffix, FORMATS[name].beside} - {""}
    assert report.num_bytes == sum(file.stat().st_size for file in files)
    if name != "aot":  # a compiler writes down what it compiled
        own = str(Path(exporting.__file__).parent).encode()
        assert not any(own in file.read_bytes() for file in files)

    loaded = load_exported(path, trust=True)
    assert {key: loaded.metadata[key] for key in METADATA} == metadata_of(model)
    assert loaded.metadata["export"]["format"] == name
    assert isinstance(loaded.segmenter, RegionSegmenter) == (method != "cut_paste")
    picture = torch.from_numpy(parity.soft_shapes(np.random.default_rng(7), 1, 45, 70))
    with torch.inference_mode():
        maps, _ = model(picture)
        regions = loaded.segmenter(picture.permute(0, 3, 1, 2) / 255)
    assert 0.02 < (maps == maps.mode().values.mode().values).float().mean() < 0.98
    assert (regions.argmax(1) == maps).float().mean() >= (0.9 if name == "onnx-int8" else 0.999)
    assert regions.sum(1).allclose(torch.ones(()))


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.slow), 0.5])
@pytest.mark.parametrize("name", ONNX_DAILY)
def test_exported_masks_are_those_of_the_model_at_any_size(tmp_path, name, scale):
    require(name)
    model = make_model(scale)
    path = tmp_path / f"segmenter{FORMATS[name].suffix}"
    export_file(model, path, format=name, metadata=METADATA, verify=False)
    run = FORMATS[name].open(path).run
    for size in ((1, 1), (3, 50), (64, 33), (101, 67)):
        for batch in (1, 2):
            pictures = torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8)
            with torch.inference_mode():
                masks, probabilities = model(pictures)
            found, exact = run(pictures.numpy())
            assert masks.shape == found.shape == (batch, *size)
            assert (found.dtype, exact.dtype) == (np.uint8, np.float32)
            np.testing.assert_allclose(exact, probabilities, atol=2e-5)
            np.testing.assert_array_equal(found, exact > 0.5)


def test_onnx_names_its_sizes_and_origin(tmp_path):
    path = tmp_path / "a.onnx"
    export_file(small_model(), path, metadata=METADATA, verify=False)
    session = open_session(path)
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert [output.name for output in session.get_outputs()] == ["masks", "probabilities"]
    entries = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(entries[key]) for key in METADATA} == METADATA


# --- the gate -------------------------------------------------------------------------------------


def perturbed(kind: formats.Format, size: float) -> formats.Format:
    """A format whose writer adds `size` to every weight first."""

    def write(model, path, metadata):
        before = [weights.clone() for weights in model.parameters()]
        with torch.no_grad():
            for weights in model.parameters():
                weights += size
        kind.write(model, path, metadata)
        with torch.no_grad():
            for weights, exact in zip(model.parameters(), before, strict=True):
                weights.copy_(exact)

    fields = {name: getattr(kind, name) for name in kind.__dataclass_fields__}
    return formats.Format(**fields | {"write": write})


@pytest.mark.parametrize("name", ONNX_DAILY)
def test_a_perturbed_export_fails_the_gate_and_is_not_kept(tmp_path, monkeypatch, name):
    require(name)
    monkeypatch.setitem(FORMATS, name, perturbed(FORMATS[name], 1e-2))
    monkeypatch.setattr(parity, "NUM_PIXELS", 50_000)
    out = tmp_path / f"bad{FORMATS[name].suffix}"
    with pytest.raises(ParityError, match=r"probabilities by up to .* mask pixels equal") as caught:
        export_file(small_model(), out, format=name, metadata=METADATA)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_int8_that_loses_too_much_is_not_kept(tmp_path, monkeypatch):
    require("onnx-int8")
    monkeypatch.setattr(int8, "MIN_EQUAL_INT8", 1.01)
    with pytest.raises(ParityError, match="mask pixels equal"):
        export_file(small_model(), tmp_path / "a.onnx", format="onnx-int8", metadata=METADATA)
    assert list(tmp_path.iterdir()) == []


def eager(model: WholePicture):
    @torch.inference_mode()
    def run(pictures):
        return as_arrays(model(torch.from_numpy(pictures)))

    return run


@pytest.mark.parametrize(
    "broken",
    [
        lambda maps, probabilities: (maps, probabilities + np.float32(2e-4)),
        lambda maps, probabilities: (
            maps,
            np.where(probabilities > 0.5, np.float32(np.nan), probabilities),
        ),
        lambda maps, probabilities: (1 - maps, probabilities),
        lambda maps, probabilities: (maps[:, :-1], probabilities),
        lambda maps, probabilities: (maps.astype(np.int64), probabilities),
        lambda maps, probabilities: (maps[::-1], probabilities[::-1]),
    ],
    ids=["offset", "nan", "inverted", "cropped", "type", "order"],
)
def test_the_gate_sees_every_kind_of_damage(broken):
    model = make_model(0.5)
    run = eager(model)

    def measured(change):
        found = parity.measure(model, lambda x: change(*run(x)), parity.probes(30_000))
        parity.require_parity(found, tolerance=1e-4, min_equal=0.9999)

    measured(lambda maps, probabilities: (maps, probabilities))
    with pytest.raises(ParityError, match="not kept"):
        measured(broken)


def test_the_gate_sees_a_file_that_fails():
    def run(_):
        raise RuntimeError("bad size\nlong story")

    with pytest.raises(ParityError, match=r"fails on pictures \[1, 64, 64, 3\]: bad size; not"):
        parity.measure(make_model(1.0), run, parity.probes(1))


def test_probes_are_of_many_shapes_and_batches_and_hold_both_kinds_of_pixels():
    shapes = {pictures.shape for pictures in parity.probes()}
    assert sum(np.prod(pictures.shape[:3]) for pictures in parity.probes()) >= 1_000_000
    assert {shape[0] for shape in shapes} >= {1, 3}
    assert len({shape[1:3] for shape in shapes}) >= 5
    model = make_model(0.5)
    masks = [eager(model)(pictures)[0].mean() for pictures in parity.probes(30_000)]
    assert 0.05 < np.mean(masks) < 0.95


# --- what can be wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "package", "line"),
    [
        ("onnx", "onnxscript", r'onnxscript: pip install "segan\[onnx\]"'),
        ("openvino", "openvino", r'openvino: pip install "segan\[openvino\]"'),
    ],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, name, package, line):
    original = builtins.__import__

    def without(found, *args, **kwargs):
        if found == package:
            raise ImportError(name=found)
        return original(found, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    out = tmp_path / f"a{FORMATS[name].suffix}"
    with pytest.raises(ConfigError, match=line):
        export_file(make_model(1.0), out, format=name, metadata={})


def test_a_missing_compiler_is_one_line(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler and found none: install g\+\+"):
        export_file(make_model(1.0), tmp_path / "a.aot.pt2", format="aot", metadata={})


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".aot.pt2", ".xml"])
def test_files_that_are_no_models_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(ConfigError, match="cannot read model"):
        load_exported(path, trust=True)
    path.write_bytes(b"not a model")
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"is not a"):
        load_exported(path, trust=True)


@pytest.mark.parametrize("name", ONNX_DAILY)
def test_files_that_segan_did_not_export_are_refused(tmp_path, name):
    require(name)
    path = tmp_path / f"a{FORMATS[name].suffix}"
    FORMATS[name].write(small_model(), path, {"author": "someone"})
    with pytest.raises(ConfigError, match="but not one that segan exported"):
        load_exported(path, trust=True)


@pytest.mark.parametrize(
    "changed", [{"foreground": 0}, {"num_regions": None}, {"num_regions": 1}, {"foreground": "1"}]
)
def test_damaged_metadata_is_one_line(tmp_path, monkeypatch, changed):
    opened = OpenFile(run=eager(make_model(1.0)), metadata=METADATA | changed)
    fields = {name: getattr(FORMATS["onnx"], name) for name in formats.Format.__dataclass_fields__}
    changed_format = formats.Format(**fields | {"open": lambda _: opened})
    monkeypatch.setitem(FORMATS, "onnx", changed_format)
    with pytest.raises(ConfigError, match="it is damaged"):
        load_exported(tmp_path / "a.onnx")


@pytest.mark.parametrize("suffix", [".pt2", ".aot.pt2"])
def test_files_that_can_run_code_want_trust(tmp_path, suffix):
    with pytest.raises(ConfigError, match="can run code of whoever made it: add --trust"):
        load_exported(tmp_path / f"a{suffix}")


def test_suffixes_tell_formats_apart():
    assert format_of(Path("a.b.ONNX")) is FORMATS["onnx"]
    assert format_of(Path("a.pt2")) is FORMATS["pt2"]
    assert format_of(Path("a.aot.pt2")) is FORMATS["aot"]
    assert format_of(Path("segmenter.safetensors")) is None


def test_wrong_names_are_one_line(tmp_path):
    model = make_model(1.0)
    with pytest.raises(ConfigError, match="no format 'tflite'; valid: onnx, onnx-int8, openvino"):
        export_file(model, tmp_path / "a.tflite", format="tflite", metadata={})
    with pytest.raises(ConfigError, match=r"a\.onnx must end in \.xml"):
        export_file(model, tmp_path / "a.onnx", format="openvino", metadata={})
    with pytest.raises(ConfigError, match="is a folder; name a file"):
        export_file(model, tmp_path, metadata={})
    one = [np.zeros((8, 8, 3), np.uint8)]
    with pytest.raises(ConfigError, match="at least two pictures"):
        export_file(model, tmp_path / "a.onnx", format="onnx-int8", metadata={}, pictures=one)


def test_unwritable_path_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        export_file(make_model(1.0), tmp_path / "file" / "a.onnx", metadata={}, verify=False)


# --- the module that is exported ------------------------------------------------------------------


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


@pytest.mark.parametrize("scale", [1.0, 0.4])
@pytest.mark.parametrize(("num_regions", "dtype"), [(3, torch.uint8), (257, torch.int32)])
def test_unnamed_regions_are_numbered_as_prediction_does(scale, num_regions, dtype):
    torch.manual_seed(0)
    network = networks.build(UNetConfig(width=4, depth=1), out_channels=num_regions)
    segmenter = RegionSegmenter(network, stride=network.stride).eval()
    picture = torch.randint(0, 256, (1, 57, 80, 3), dtype=torch.uint8)
    with torch.inference_mode():
        labels, probabilities = WholePicture(segmenter, scale=scale)(picture)
    expected = native_regions(segmenter, picture[0].permute(2, 0, 1), scale)
    assert labels.dtype == dtype
    assert probabilities.shape == (1, num_regions, 57, 80)
    # Where two regions are as likely, the order in memory decides.
    assert (labels[0] == expected.argmax(0)).float().mean() >= 0.999


# --- side by side ---------------------------------------------------------------------------------


def test_formats_are_compared_and_what_cannot_be_made_says_why(tmp_path, monkeypatch):
    model = make_model(0.5)
    source = tmp_path / "segmenter.safetensors"
    source.write_bytes(b"12345")

    def missing(*_):
        raise ConfigError("no such package")

    def write(_, path, __):
        path.write_bytes(b"123")

    good = formats.Format(
        title="good",
        suffix=".onnx",
        require=lambda: None,
        write=write,
        open=lambda _: OpenFile(run=eager(model), metadata={}),
    )
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    inverted = lambda x: (1 - eager(model)(x)[0], eager(model)(x)[1])  # noqa: E731
    bad = fields | {"suffix": ".xml", "open": lambda _: OpenFile(run=inverted, metadata={})}
    monkeypatch.setitem(FORMATS, "onnx", good)
    monkeypatch.setitem(FORMATS, "openvino", formats.Format(**bad))
    monkeypatch.setitem(
        FORMATS, "aot", formats.Format(**fields | {"suffix": ".aot.pt2", "require": missing})
    )
    monkeypatch.setattr(parity, "NUM_PIXELS", 30_000)
    scores = {"segmenter.safetensors": 0.5, "segmenter.onnx": 0.25}
    rows = compare_formats(
        model,
        source,
        tmp_path / "out",
        metadata={},
        formats=("onnx", "openvino", "aot"),
        score=lambda path: ("iou", scores[path.name]),
    )
    assert [row.format for row in rows] == [comparison.EAGER, "onnx", "openvino", "aot"]
    assert [row.num_bytes for row in rows] == [5, 3, None, None]
    assert [row.accuracy for row in rows] == [0.5, 0.25, None, None]
    assert [row.failed for row in rows] == [False, False, True, False]
    assert rows[1].parity.equal_pixels == 1
    assert 0 < rows[0].milliseconds < 10_000
    assert "mask pixels equal" in rows[2].reason
    assert rows[3].reason == "no such package"
    json.dumps([row.as_tree() for row in rows], allow_nan=False)
    shown = table(rows)
    assert [str(column.header) for column in shown.columns][-1] == "iou"
    assert list(shown.columns[0].cells) == [row.format for row in rows]
    with pytest.raises(ConfigError, match="no format 'tflite'"):
        compare_formats(model, source, tmp_path, metadata={}, formats=("tflite",))


def test_report_without_parity_says_so(tmp_path):
    report = ExportReport(path=tmp_path / "a.onnx", format="onnx", num_bytes=1, parity=None)
    assert "not compared with the segmenter" in str(report)


def test_traced_graph_holds_no_paths_of_this_machine():
    graph = program.traced(small_model()).graph
    assert not any({"stack_trace", "nn_module_stack"} & set(node.meta) for node in graph.nodes)
