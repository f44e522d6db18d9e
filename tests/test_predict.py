import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segan import config, networks
from segan import prediction as predict
from segan.checkpoint import load_segmenter, save_segmenter
from segan.data.images import read_image, read_mask
from segan.data.sample import Mask, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation.cases import Cases, cases_of
from segan.evaluation.foreground import _regions
from segan.evaluation.rows import probability_in_boxes
from segan.exporting.formats import export_file
from segan.exporting.loading import load_exported
from segan.exporting.whole import WholePicture
from segan.networks import UNetConfig
from segan.overlay import MASK_COLOR, index_image, label_overlay, overlay, palette, tint
from segan.segmenter import MaskSegmenter, RegionSegmenter, Segmenter, WindowSpec
from segan.windows import boxes_to_mask, resize, window_around

WINDOW = WindowSpec(size=16, context=1.5, scale=0.5)


def save_model(path: Path, *, seed: int = 0, window: WindowSpec | None = WINDOW) -> Path:
    torch.manual_seed(seed)
    settings = UNetConfig(width=4, depth=1)
    network = networks.build(settings)
    with torch.no_grad():  # masks with as many pixels of either kind
        network.head.bias -= network(torch.rand(1, 3, 32, 32)).median()
    save_segmenter(
        path,
        MaskSegmenter(network, stride=network.stride),
        network=config.as_tree(settings),
        window=window,
        provenance={"supervision": {"train": "none"}},
    )
    return path


def save_picture(path: Path, seed: int, size: tuple[int, int] = (40, 31)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "segmenter.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    save_picture(root / "x.png", 0)
    save_picture(root / "a" / "x.png", 1, (33, 50))
    save_picture(root / "b" / "x.png", 2)
    save_picture(root / "b" / "x.jpg", 3)
    return root


def outputs(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def test_index_png_is_the_mask_and_has_the_name_of_its_picture(tmp_path, model, pictures):
    summary = predict.predict(model, [pictures], tmp_path / "out")
    names = ["a/x.png", "b/x.jpg.png", "b/x.png.png", "x.png"]
    folders = ("masks", "overlays")
    assert outputs(tmp_path / "out") == [f"{folder}/{name}" for folder in folders for name in names]
    assert summary.num_written == 4
    assert "4 masks written" in str(summary)
    loaded = load_segmenter(model)
    whole = WholePicture(loaded.segmenter, scale=WINDOW.scale)
    with torch.inference_mode():
        expected, _ = whole(read_image(pictures / "a/x.png").permute(1, 2, 0)[None])
    with Image.open(tmp_path / "out/masks/a/x.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[3:6] == list(MASK_COLOR)
        np.testing.assert_array_equal(np.asarray(mask), expected[0])
    assert torch.equal(read_mask(tmp_path / "out/masks/a/x.png") > 127, expected[0] == 1)
    data = (tmp_path / "out/masks/a/x.png").read_bytes()
    assert data[24] == 8  # bits per index, as label readers expect
    assert 0 < expected.float().mean() < 1


def test_restart_writes_only_what_is_missing(tmp_path, model, pictures):
    out = tmp_path / "out"
    predict.predict(model, [pictures], out)
    before = {name: (out / name).read_bytes() for name in outputs(out)}
    (out / "masks/x.png").unlink()
    (out / "overlays/a/x.png").unlink()
    stamp = (out / "masks/b/x.png.png").stat().st_mtime_ns
    summary = predict.predict(model, [pictures], out)
    assert (summary.num_written, summary.num_finished) == (2, 2)
    assert {name: (out / name).read_bytes() for name in outputs(out)} == before
    assert (out / "masks/b/x.png.png").stat().st_mtime_ns == stamp


def test_interrupted_runs_leave_only_whole_files(tmp_path, model, pictures, monkeypatch):
    out = tmp_path / "out"
    write = predict._Run.write

    def fail_late(run, loaded, values):
        if loaded.job.name == "x":
            raise KeyboardInterrupt
        write(run, loaded, values)

    monkeypatch.setattr(predict._Run, "write", fail_late)
    with pytest.raises(KeyboardInterrupt):
        predict.predict(model, [pictures], out)
    assert len(outputs(out)) == 6
    assert not list(out.rglob(".*"))
    monkeypatch.undo()
    assert predict.predict(model, [pictures], out).num_finished == 3


def test_out_of_another_run_is_refused(tmp_path, model, pictures):
    out = tmp_path / "out"
    predict.predict(model, [pictures / "a"], out)
    before = outputs(out)
    other = save_model(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ConfigError, match="another segmenter_sha256"):
        predict.predict(other, [pictures / "a"], out)
    # Equal names of different pictures: nothing there counts as finished.
    with pytest.raises(ConfigError, match="another root"):
        predict.predict(model, [pictures / "b"], out)
    assert outputs(out) == before
    predict.predict(other, [pictures / "b"], out, overwrite=True)
    assert "masks/b/x.png.png" not in before
    assert outputs(out) == [
        "masks/x.jpg.png", "masks/x.png.png", "overlays/x.jpg.png", "overlays/x.png.png"
    ]  # fmt: skip


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_out_is_refused_and_untouched(tmp_path, model, pictures, overwrite):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter.tex").write_text("")
    with pytest.raises(ConfigError, match="did not write"):
        predict.predict(model, [pictures], out, overwrite=overwrite)
    assert [path.name for path in out.iterdir()] == ["chapter.tex"]


def test_out_inside_the_pictures_is_not_read_as_pictures(model, pictures):
    predict.predict(model, [pictures], pictures / "out")
    summary = predict.predict(model, [pictures], pictures / "out")
    assert (summary.num_written, summary.num_finished) == (0, 4)


def test_bad_images_are_named_and_skipped(tmp_path, model, pictures, capsys):
    (pictures / "broken.png").write_bytes((pictures / "x.png").read_bytes()[:500])
    summary = predict.predict(model, [pictures], tmp_path / "out")
    assert summary.num_written == 4
    assert [skipped.name for skipped in summary.skipped] == [str(pictures / "broken.png")]
    assert "broken.png" in capsys.readouterr().err.replace("\n", "")
    assert "1 image cannot be read" in str(summary)
    # Nothing but bad images is an error.
    with pytest.raises(DataError, match="none of the 1 images"):
        predict.predict(model, [pictures / "broken.png"], tmp_path / "none")


def test_mistakes_write_nothing(tmp_path, model, pictures):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"no image or folder .*nowhere"):
        predict.predict(model, [pictures / "nowhere"], out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no images in"):
        predict.predict(model, [tmp_path / "empty"], out)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\nx.png,100,100,120,120\n")
    with pytest.raises(ConfigError, match="outside the picture"):
        predict.predict(model, [pictures / "x.png"], out, boxes=boxes)
    whole = save_model(tmp_path / "whole.safetensors", window=None)
    with pytest.raises(ConfigError, match="no windows of its own"):
        predict.predict(whole, [pictures], out, boxes=boxes)
    assert not out.exists()


class Bright(Segmenter):
    """Bright pixels are objects."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        mask = (images.mean(1, keepdim=True) - 0.25).mul(20).sigmoid()
        return torch.cat([1 - mask, mask], dim=1)


def test_boxes_confine_masks_and_join_them():
    picture = torch.zeros(3, 40, 60, dtype=torch.uint8)
    picture[:, 5:20, 5:50] = 255
    boxes = torch.tensor([[5, 5, 20, 20], [15, 5, 30, 20], [40, 30, 50, 40]]).float()
    probability = probability_in_boxes(Bright(), WindowSpec(size=32, context=1.6), picture, boxes)
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[5:20, 5:30] = True
    assert torch.equal(probability > 0.5, expected)
    outside = torch.ones(40, 60, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes.int().tolist():
        outside[y0:y1, x0:x1] = False
    assert not probability[outside].any()
    assert probability.max() <= 1


def test_boxes_from_a_file_reach_their_pictures(tmp_path, model, pictures, capsys):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x0,y0,x1,y1\na/x.png,10,5,30,25\n")
    out = tmp_path / "out"
    summary = predict.predict(model, [pictures], out, boxes=boxes)
    assert summary.without_boxes == ("b/x.jpg", "b/x.png", "x")
    assert "no boxes for b/x.jpg" in capsys.readouterr().err
    assert outputs(out) == ["masks/a/x.png", "overlays/a/x.png"]
    mask = np.asarray(Image.open(out / "masks/a/x.png"))
    assert mask[5:25, 10:30].any()
    mask = mask.copy()
    mask[5:25, 10:30] = 0
    assert not mask.any()
    boxes.write_text("image,x0,y0,x1,y1\na/x.png,10,5,31,25\n")
    with pytest.raises(ConfigError, match="another boxes_sha256"):
        predict.predict(model, [pictures], out, boxes=boxes)


def test_exported_file_predicts_the_same(tmp_path, model, pictures):
    loaded = load_segmenter(model)
    path = tmp_path / "segmenter.onnx"
    whole = WholePicture(loaded.segmenter, scale=WINDOW.scale)
    export_file(whole, path, metadata=loaded.metadata, verify=False)
    predict.predict(model, [pictures], tmp_path / "eager")
    predict.predict(path, [pictures], tmp_path / "exported")
    for name in outputs(tmp_path / "eager"):
        if name.startswith("masks"):
            masks = [np.asarray(Image.open(tmp_path / run / name)) for run in ("eager", "exported")]
            assert (masks[0] == masks[1]).mean() > 0.999
    with pytest.raises(ConfigError, match="the segmenter file itself"):
        predict.predict(path, [pictures], tmp_path / "no", boxes=tmp_path / "boxes.csv")
    shutil.copy(model, tmp_path / "renamed.onnx")
    with pytest.raises(ConfigError, match="is not an ONNX model"):
        predict.predict(tmp_path / "renamed.onnx", [pictures], tmp_path / "no")


class Picture:
    """One picture of noise as a data set, with two boxes apart from each other."""

    name = "picture"
    provides = frozenset({"images", "boxes", "masks"})
    box_source = "annotated"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        image = torch.randint(0, 256, (3, 57, 80), generator=torch.Generator().manual_seed(index))
        boxes = torch.tensor([[4.0, 6, 30, 40], [50, 10, 71, 37]])
        truth = Mask(torch.zeros(57, 80, dtype=torch.bool))
        return Sample("one", image.to(torch.uint8), boxes, truth)


@pytest.mark.slow
def test_evaluation_scores_the_mask_that_prediction_and_export_write(tmp_path, model):
    loaded = load_segmenter(model)
    whole = WholePicture(loaded.segmenter, scale=WINDOW.scale)
    export_file(whole, tmp_path / "a.onnx", metadata=loaded.metadata, verify=False)
    sample = Picture()[0]

    def scored(which: Cases) -> list[Tensor]:
        cases = list(cases_of(Picture(), which))
        regions = _regions(loaded.segmenter, cases)[:, 1:]
        pairs = zip(regions, cases, strict=True)
        return [resize(mask[None], case.truth.shape)[0, 0] > 0.5 for mask, case in pairs]

    with torch.inference_mode():
        written, _ = whole(sample.image.permute(1, 2, 0)[None])
    exported = load_exported(tmp_path / "a.onnx").segmenter(sample.image[None] / 255)
    (mask,) = scored(Cases(spec=WINDOW))
    assert 0.1 < mask.float().mean() < 0.9
    assert (mask == written[0].bool()).float().mean() >= 0.9999
    assert (mask == (exported[0, 1] > 0.5)).float().mean() >= 0.9999

    with torch.inference_mode():
        boxed = probability_in_boxes(loaded.segmenter, WINDOW, sample.image, sample.boxes) > 0.5
    joined = torch.zeros_like(boxed)
    windows = scored(Cases(windows="box", spec=WINDOW))
    for box, mask in zip(sample.boxes, windows, strict=True):
        frame = window_around(box, (57, 80), context=WINDOW.context)
        inside = boxes_to_mask(box[None], (57, 80))[0, 0].bool()
        rows, columns = slice(frame.y0, frame.y1), slice(frame.x0, frame.x1)
        joined[rows, columns] |= mask & inside[rows, columns]
    assert boxed.any()
    assert (joined == boxed).float().mean() >= 0.9999


def test_overlay_marks_the_outline_and_leaves_the_rest():
    picture = np.full((60, 80, 3), 100, dtype=np.uint8)
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:40, 0:50] = 1
    drawn = overlay(picture, mask)
    assert (drawn[mask == 0] == 100).all()
    assert tuple(drawn[20, 10]) == MASK_COLOR
    assert tuple(drawn[30, 49]) == MASK_COLOR
    # The object may go on beyond the picture: no line along its border.
    assert tuple(drawn[30, 0]) == tuple(drawn[30, 25]) != MASK_COLOR
    assert (picture == 100).all()


def test_tints_are_mixed_in_and_rounded():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    labels = random.integers(0, 3, (20, 30))
    mixed = np.round(0.7 * picture + 0.3 * np.array([10, 225, 255]))
    expected = np.where(labels[..., None] > 0, mixed, picture)
    assert np.array_equal(tint(picture, labels, color=(10, 225, 255), strength=0.3), expected)
    drawn = label_overlay(picture, labels)
    mixed = np.round(0.55 * picture + 0.45 * palette(3)[labels])
    inner = (drawn != 255).any(2)
    assert np.array_equal(drawn[inner], mixed[inner])
    flat = np.ones((20, 30), np.int32)
    assert np.array_equal(
        label_overlay(picture, flat), np.round(0.55 * picture + 0.45 * palette(2)[1])
    )


def test_regions_are_written_as_their_numbers_and_painted(tmp_path, pictures):
    settings = UNetConfig(width=4, depth=1)
    torch.manual_seed(0)
    network = networks.build(settings, out_channels=4)
    save_segmenter(
        tmp_path / "regions.safetensors",
        RegionSegmenter(network, stride=network.stride),
        network=config.as_tree(settings),
        num_regions=4,
        window=None,
        scale=0.5,
        provenance={"supervision": {"train": "none"}},
    )
    out = tmp_path / "out"
    predict.predict(tmp_path / "regions.safetensors", [pictures], out)
    segmenter = load_segmenter(tmp_path / "regions.safetensors").segmenter
    picture = read_image(pictures / "a" / "x.png")
    with torch.inference_mode():
        small = resize(picture[None].float() / 255, (16, 25)).clamp(0, 1)
        expected = resize(segmenter(small), (33, 50)).argmax(1)[0]
    with Image.open(out / "masks" / "a" / "x.png") as written:
        assert written.mode == "P"
        labels = np.asarray(written)
    assert np.array_equal(labels, expected.numpy())
    assert len(np.unique(labels)) > 1
    assert (out / "overlays" / "a" / "x.png").exists()


def test_more_than_256_regions_are_written_in_16_bits():
    labels = np.arange(20 * 20, dtype=np.int32).reshape(20, 20)
    assert np.array_equal(np.asarray(index_image(labels, b"")), labels)
    with pytest.raises(ConfigError, match="70001 regions in one picture"):
        index_image(np.array([[0, 70_000]]), b"")


def test_boxes_are_refused_for_unnamed_regions(tmp_path, pictures):
    settings = UNetConfig(width=4, depth=1)
    network = networks.build(settings, out_channels=4)
    save_segmenter(
        tmp_path / "regions.safetensors",
        RegionSegmenter(network, stride=network.stride),
        network=config.as_tree(settings),
        num_regions=4,
        window=None,
        provenance={"supervision": {"train": "none"}},
    )
    with pytest.raises(ConfigError, match="unnamed regions, not objects; leave out --boxes"):
        predict.predict(
            tmp_path / "regions.safetensors", [pictures], tmp_path / "out", boxes=tmp_path
        )
