import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from segan import config, networks
from segan.checkpoint import FORMAT_VERSION, load_segmenter, save_segmenter
from segan.errors import ConfigError, DivergenceError
from segan.networks import IICNetworkConfig, UNetConfig, WNetNetworkConfig
from segan.segmenter import MaskSegmenter, RegionSegmenter, WindowSpec

SETTINGS = UNetConfig(width=4, depth=2)
WINDOW = WindowSpec(size=64, context=1.6, scale=64 / 37)
PROVENANCE = {"supervision": {"train": "boxes"}, "method": "cut_paste", "seed": 3}


def make_segmenter() -> MaskSegmenter:
    torch.manual_seed(0)
    network = networks.build(SETTINGS)
    return MaskSegmenter(network, stride=network.stride)


def write(path: Path, segmenter: MaskSegmenter | None = None) -> Path:
    save_segmenter(
        path,
        segmenter or make_segmenter(),
        network=config.as_tree(SETTINGS),
        window=WINDOW,
        provenance=PROVENANCE,
    )
    return path


def rewrite(path: Path, without: tuple[str, ...] = (), **changes: object) -> None:
    """The file again, with entries of its header changed or left out."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["segan"])
    kept = {key: value for key, value in (header | changes).items() if key not in without}
    path.write_bytes(save(load(data), {"segan": json.dumps(kept)}))


def test_round_trip_is_bitwise(tmp_path):
    segmenter = make_segmenter().eval()
    loaded = load_segmenter(write(tmp_path / "new" / "segmenter.safetensors", segmenter))
    images = torch.rand(2, 3, 33, 21)
    assert torch.equal(loaded.segmenter(images), segmenter(images))
    assert loaded.window == WINDOW
    assert not loaded.segmenter.training
    assert loaded.metadata["supervision"] == {"train": "boxes"}
    assert loaded.metadata["seed"] == 3
    # A run directory stands for the segmenter in it.
    assert load_segmenter(tmp_path / "new").sha256 == loaded.sha256
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["segmenter.safetensors"]


@pytest.mark.parametrize(
    "settings",
    [
        UNetConfig(width=4, depth=2),
        WNetNetworkConfig(width=4, depth=2),
        IICNetworkConfig(width=4, sub_heads=2),
    ],
    ids=lambda settings: settings.type,
)
def test_segmenters_of_regions_come_back_with_their_scale(tmp_path, settings):
    torch.manual_seed(0)
    network = networks.build(settings, out_channels=5)
    segmenter = RegionSegmenter(network, stride=network.stride).eval()
    path = tmp_path / "s.safetensors"
    save_segmenter(
        path,
        segmenter,
        network=config.as_tree(settings),
        num_regions=5,
        window=None,
        scale=0.4,
        provenance={"supervision": {"train": "none"}},
    )
    loaded = load_segmenter(path)
    images = torch.rand(1, 3, 22, 30)
    assert torch.equal(loaded.segmenter(images), segmenter(images))
    assert loaded.segmenter.foreground is None
    assert loaded.scale == 0.4
    assert loaded.window is None
    rewrite(path, num_regions=4)
    with pytest.raises(ConfigError, match="its network settings want"):
        load_segmenter(path)


def test_files_of_the_first_format_are_read(tmp_path):
    path = write(tmp_path / "s.safetensors")
    now = load_segmenter(path)
    rewrite(path, format_version=1, without=("scale", "num_regions"))
    then = load_segmenter(path)
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(then.segmenter(images), now.segmenter(images))
    assert then.scale == now.scale == WINDOW.scale


def test_equal_segmenters_make_equal_files(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_non_finite_weights_are_never_written(tmp_path):
    path = write(tmp_path / "s.safetensors")
    before = path.read_bytes()
    broken = make_segmenter()
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(DivergenceError, match=r"stem\.0\.weight"):
        write(path, broken)
    assert path.read_bytes() == before


@pytest.mark.parametrize("length", [0, 5, 40, 3000])
def test_truncated_files_are_refused(tmp_path, length):
    path = write(tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        load_segmenter(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(ConfigError, match=r"cannot read segmenter .*No such file"):
        load_segmenter(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        load_segmenter(path)
    path.write_bytes(save({"weight": torch.zeros(1)}, {"format": "pt"}))
    with pytest.raises(ConfigError, match="no segmenter that segan saved"):
        load_segmenter(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": FORMAT_VERSION + 1}, "update segan"),
        ({"format_version": "1"}, "no format version"),
        ({"foreground": 0}, "foreground is 0"),
        ({"foreground": None}, "network settings want"),
        ({"num_regions": 10**9}, "num_regions is 1000000000"),
        ({"num_regions": True}, "num_regions is True"),
        ({"scale": 0}, "impossible scale 0"),
        ({"scale": "1"}, "impossible scale '1'"),
        ({"supervision": None}, "supervision"),
        ({"network": {"type": "unet", "width": 8, "depth": 2}}, r"\[8\], .*want float32 \[16\]"),
        ({"network": {"type": "unet", "width": 4, "depth": 3}}, "is missing, .*want float32"),
        ({"network": {"type": "unet", "width": 4, "depth": 1}}, "none of that name"),
        ({"network": {"type": "unet", "width": 10**6, "depth": 6}}, "want float32"),
        ({"network": {"type": "unet", "width": 2**62, "depth": 6}}, "too large"),
        ({"network": {"type": "os.system"}}, "network"),
        ({"network": ["unet"]}, "network"),
        ({"window": {"size": 64, "context": 1.6, "scale": 1e9}}, "impossible window"),
        ({"window": {"size": 64, "context": float("nan")}}, "impossible window"),
        ({"window": {"size": "__import__('os')", "context": 1}}, "size"),
        ({"window": 3}, "window"),
    ],
)
def test_hostile_headers_are_refused_in_one_line(tmp_path, changes, message):
    path = write(tmp_path / "s.safetensors")
    rewrite(path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_segmenter(path)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_refused(tmp_path):
    path = write(tmp_path / "s.safetensors")
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", float("inf"))
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="is not finite"):
        load_segmenter(path)


def test_header_that_is_not_json_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    for entry in ("{", "[]", "[" * 100_000):
        path.write_bytes(save({"weight": torch.zeros(1)}, {"segan": entry}))
        with pytest.raises(ConfigError, match="the file is damaged"):
            load_segmenter(path)
