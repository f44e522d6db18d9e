"""Segmenters on the Hub, all without a network: from folders, from the cache, to a stand-in."""

import json
from types import SimpleNamespace

import pytest
import torch

from segan import hub, networks
from segan.checkpoint import FILE_NAME, load_segmenter, save_segmenter
from segan.errors import ConfigError, DataError
from segan.networks.unet import UNetConfig
from segan.opening import open_segmenter
from segan.segmenter import MaskSegmenter, WindowSpec

huggingface_hub = pytest.importorskip("huggingface_hub")

SETTINGS = {"width": 4, "depth": 1}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
EVALUATION = {
    "protocol": "foreground",
    "dataset": "shapes",
    "split": "test",
    "windows": "none",
    "num_images": 200,
    "metrics": {"iou": 0.81234, "hausdorff_95": None},
    "intervals": {"iou": [0.8, 0.825]},
}


@pytest.fixture
def run(tmp_path):
    """A run directory with a segmenter and what it scored."""
    torch.manual_seed(0)
    network = networks.build(UNetConfig(**SETTINGS))
    folder = tmp_path / "run"
    save_segmenter(
        folder / FILE_NAME,
        MaskSegmenter(network, stride=network.stride),
        network={"type": "unet", **SETTINGS},
        window=WindowSpec(size=48, context=1.6, scale=0.5),
        provenance={
            "method": "cut_paste",
            "dataset": "shapes | <b>x</b>\n# title",
            "supervision": {"train": "boxes"},
            "box_source": "procedural",
            "images_seen": 16000,
            "seed": 3,
            "git_commit": "abc",
        },
    )
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


@pytest.fixture
def cached(tmp_path, monkeypatch, run):
    """The cache of the Hub as an earlier download of someone/thing left it, and no network."""
    cache = tmp_path / "cache"
    download = huggingface_hub.hf_hub_download

    def in_cache(*arguments, **options):
        return download(*arguments, cache_dir=cache, local_files_only=True, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", in_cache)
    repository = cache / "models--someone--thing"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / FILE_NAME).write_bytes((run / FILE_NAME).read_bytes())
    return run


def test_what_was_saved_is_loaded_without_a_network(run, tmp_path):
    hub.save_pretrained(run, tmp_path / "saved", license="apache-2.0")
    assert sorted(file.name for file in (tmp_path / "saved").iterdir()) == ["README.md", FILE_NAME]
    assert hub.from_pretrained(tmp_path / "saved").sha256 == load_segmenter(run).sha256


def test_what_was_fetched_before_is_found_offline(cached):
    sha256 = load_segmenter(cached).sha256
    for name in ("someone/thing", "hf://someone/thing", f"someone/thing@{COMMIT}"):
        assert hub.from_pretrained(name).sha256 == sha256
    opened = open_segmenter("hf://someone/thing")
    assert opened.sha256 == sha256
    assert opened.scale == 0.5


@pytest.mark.usefixtures("cached")
def test_what_cannot_be_fetched_is_one_line():
    with pytest.raises(ConfigError, match=r"cannot fetch .* of hf://someone/else") as caught:
        hub.from_pretrained("someone/else")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="not of the form hf://OWNER/NAME"):
        open_segmenter("hf://thing")


def test_names_without_prefix_never_reach_for_the_network(monkeypatch):
    monkeypatch.setattr(hub, "_hub", lambda: pytest.fail("the Hub was asked"))
    with pytest.raises(ConfigError, match="there is no segmenter 'someone/thing'"):
        open_segmenter("someone/thing")


def test_card_says_what_a_stranger_should_know(run):
    loaded = load_segmenter(run)
    card = hub.model_card(loaded, EVALUATION, license="apache-2.0")
    head, body = card.split("---\n")[1:]
    assert "license: apache-2.0\n" in head
    assert "library_name: segan\n" in head
    for part in (
        "# cut_paste on shapes",
        "a picture in, a mask of objects out",
        "- Supervision: a box around each object; no mask was seen",
        "- Boxes: procedural",
        "- Images seen: 16000",
        "On shapes, test split, 200 pictures, whole pictures, protocol foreground:",
        "| iou | 0.8123 | 0.8000 to 0.8250 |",
        "| hausdorff_95 | undefined |  |",
        "training looked at windows around boxes",
        f"- SHA-256 of the file: {loaded.sha256}",
        "- Commit: abc",
    ):
        assert part in body
    for heading in ("Training", "Results", "Limits", "Provenance"):
        assert f"\n## {heading}\n" in body
    # A header may be a stranger's: no markup, no line of its own.
    assert "<b>" not in card
    assert "\n# title" not in card


def test_card_without_results_says_so(run):
    card = hub.model_card(load_segmenter(run), None, license=None)
    assert "None were recorded" in card
    assert "license" not in card


def test_upload_holds_the_file_and_its_card(run, monkeypatch):
    seen = {}

    class Api:
        def __init__(self, **_):
            pass

        def create_repo(self, repository, *, private, exist_ok):
            seen["made"] = (repository, private, exist_ok)

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            loaded = load_segmenter(hub.Path(folder_path))
            seen["sent"] = (repo_id, loaded.sha256, commit_message)
            seen["card"] = (hub.Path(folder_path) / "README.md").read_text()
            return SimpleNamespace(commit_url="https://example.org/commit")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert hub.push_to_hub(run, "me/thing", private=True) == "https://example.org/commit"
    assert seen["made"] == ("me/thing", True, True)
    assert seen["sent"] == ("me/thing", load_segmenter(run).sha256, "Upload segmenter")
    assert "0.8123" in seen["card"]


def test_mistakes_are_one_line(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="not of the form OWNER/NAME"):
        hub.push_to_hub(run, "thing")
    with pytest.raises(ConfigError, match="license is 'my own!'"):
        hub.save_pretrained(run, tmp_path / "saved", license="my own!")
    with pytest.raises(ConfigError, match="cannot read segmenter"):
        hub.save_pretrained(tmp_path / "nothing", tmp_path / "saved")
    (run / "evaluation.json").write_text("[")
    with pytest.raises(ConfigError, match=r"evaluation\.json is damaged"):
        hub.save_pretrained(run, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    (run / "evaluation.json").unlink()

    class Refusing:
        def __init__(self, **_):
            pass

        def create_repo(self, *_, **__):
            raise RuntimeError("401 Unauthorized\nlong story")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(DataError) as caught:
        hub.push_to_hub(run, "me/thing")
    assert str(caught.value) == "cannot upload to me/thing: 401 Unauthorized"


def test_a_missing_package_is_named(monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "huggingface_hub":
            raise ImportError(name=name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r'pip install "segan\[hub\]"'):
        hub.from_pretrained("someone/thing")
