"""Formats, refinements, sizes, patterns, tiles and videos of `segan predict`."""

import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from test_predict import outputs, save_model, save_picture

from segan import config, networks
from segan.checkpoint import save_segmenter
from segan.data.images import read_image
from segan.errors import ConfigError
from segan.networks import UNetConfig
from segan.opening import open_segmenter
from segan.predicting import engines, pipeline
from segan.predicting.engines import build_engine
from segan.predicting.finding import Options
from segan.prediction import predict
from segan.segmenter import RegionSegmenter

SQUARES = ((5, 5, 10), (30, 8, 4), (60, 40, 20), (10, 60, 2))


def save_squares(path: Path) -> np.ndarray:
    """Bright squares on black, which Otsu's threshold finds: x, y and side of each."""
    mask = np.zeros((80, 100), np.uint8)
    for x, y, side in SQUARES:
        mask[y : y + side, x : x + side] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(230 * mask[..., None], 3, axis=2)).save(path)
    return mask


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_formats_named_are_written_and_no_others(tmp_path):
    mask = save_squares(tmp_path / "pictures/a/x.png")
    predict("otsu", [tmp_path / "pictures"], tmp_path / "out", formats=["coco", "soft"])
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {"coco", "soft", "segan-predict.json"}
    document = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert document["images"][0]["file_name"] == "a/x.png"
    (annotation,) = document["annotations"]
    assert np.array_equal(coco_masks.decode(annotation["segmentation"]), mask)
    assert np.array_equal(read(tmp_path / "out/soft/a/x.png"), 65535 * mask.astype(np.int32))


def test_a_format_asked_for_later_is_added_and_the_rest_left(tmp_path):
    pictures = tmp_path / "pictures"
    for name in ("a", "b"):
        save_squares(pictures / f"{name}.png")
    predict("otsu", [pictures], tmp_path / "out", formats=["masks", "coco"])
    stamp = (tmp_path / "out/masks/a.png").stat().st_mtime_ns
    (tmp_path / "out/coco/pictures/b.json").unlink()
    again = predict("otsu", [pictures], tmp_path / "out", formats=["masks", "coco"])
    assert (again.num_written, again.num_finished) == (1, 1)
    more = predict("otsu", [pictures], tmp_path / "out", formats=["masks", "coco", "cvat"])
    assert more.num_written == 2
    assert (tmp_path / "out/masks/a.png").stat().st_mtime_ns == stamp
    document = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.png", "b.png"]
    with zipfile.ZipFile(tmp_path / "out/cvat.zip") as archive:
        assert "SegmentationObject/b.png" in archive.namelist()
    with pytest.raises(ConfigError, match="made with another threshold"):
        predict("otsu", [pictures], tmp_path / "out", options=Options(threshold=0.7))
    predict("otsu", [pictures], tmp_path / "out", formats=["npz"], overwrite=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"npz", "segan-predict.json"}


def test_pieces_become_objects_and_are_chosen_by_size(tmp_path):
    mask = save_squares(tmp_path / "x.png")
    options = Options(instances=True, min_area=10, max_area=200)
    predict(
        "otsu", [tmp_path / "x.png"], tmp_path / "out", formats=["instances", "masks"],
        options=options,
    )  # fmt: skip
    wanted = mask.copy()
    wanted[40:60, 60:80] = wanted[60:62, 10:12] = 0
    assert np.array_equal(read(tmp_path / "out/masks/x.png"), wanted)
    objects = read(tmp_path / "out/instances/x.png")
    assert np.array_equal(objects > 0, wanted)
    assert set(np.unique(objects)) == {0, 1, 2}
    predict(
        "otsu", [tmp_path / "x.png"], tmp_path / "one", formats=["instances"],
        options=Options(min_area=10),
    )  # fmt: skip
    assert set(np.unique(read(tmp_path / "one/instances/x.png"))) == {0, 1}


def test_thresholds_cut_the_probability(tmp_path):
    model = save_model(tmp_path / "segmenter.safetensors")
    save_picture(tmp_path / "x.png", 0)
    sums = []
    for threshold in (0.45, 0.5, 0.55):
        out = tmp_path / str(threshold)
        options = Options(threshold=threshold)
        predict(model, [tmp_path / "x.png"], out, formats=["masks", "soft"], options=options)
        mask, soft = read(out / "masks/x.png"), read(out / "soft/x.png") / 65535
        sure = np.abs(soft - threshold) > 1e-4
        assert np.array_equal(mask[sure] > 0, soft[sure] > threshold)
        sums.append(mask.sum())
    assert sums[0] > sums[1] > sums[2]


def test_refinements_reach_the_mask_and_stay_in_boxes(tmp_path):
    model = save_model(tmp_path / "segmenter.safetensors")
    save_picture(tmp_path / "x.png", 0)
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\nx.png,5,5,25,30\n")
    masks = {}
    for steps in ((), ("clean",), ("guided",), ("crf",), ("flips",), ("flips", "guided", "clean")):
        out = tmp_path / "+".join(["with", *steps])
        predict(
            model, [tmp_path / "x.png"], out, formats=["masks"],
            boxes=tmp_path / "boxes.csv", options=Options(refine=steps),
        )  # fmt: skip
        masks[steps] = read(out / "masks/x.png").copy()
        outside = masks[steps].copy()
        outside[5:30, 5:25] = 0
        assert not outside.any(), steps
    different = {mask.tobytes() for mask in masks.values()}
    assert len(different) >= 5


def test_patterns_name_files_and_their_folder(tmp_path):
    for name in ("a/one.png", "a/two.png", "b/one.png", "b/note.txt"):
        path = tmp_path / "plates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_squares(path) if path.suffix == ".png" else path.write_text("")
    predict("otsu", [tmp_path / "plates/*/one.png"], tmp_path / "out")
    assert outputs(tmp_path / "out")[:2] == ["masks/a/one.png", "masks/b/one.png"]
    predict("otsu", [tmp_path / "pl*/**/*.png"], tmp_path / "deep", formats=["masks"])
    assert len(outputs(tmp_path / "deep")) == 3
    with pytest.raises(ConfigError, match=r"no images in .*three"):
        predict("otsu", [tmp_path / "plates/*/three.png"], tmp_path / "no")


def test_names_with_brackets_are_files_first(tmp_path):
    save_squares(tmp_path / "x[1].png")
    predict("otsu", [tmp_path / "x[1].png"], tmp_path / "out", formats=["masks"])
    assert outputs(tmp_path / "out") == ["masks/x[1].png"]


def test_larger_pictures_than_the_cap_are_skipped(tmp_path, capsys):
    save_squares(tmp_path / "pictures/a.png")
    Image.new("RGB", (200, 100)).save(tmp_path / "pictures/b.png")
    options = Options(max_pixels=10_000)
    summary = predict("otsu", [tmp_path / "pictures"], tmp_path / "out", options=options)
    assert summary.num_written == 1
    (skipped,) = summary.skipped
    assert "200 x 100 is 0.02 megapixels, the limit 0.01" in skipped.reason
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"threshold": 1.0}, "--threshold is 1; it must be in"),
        ({"threshold": float("nan")}, "--threshold is nan; it must be in"),
        ({"min_area": -1}, "--min-area is -1; it must be at least 0"),
        ({"min_area": 9, "max_area": 8}, "--max-area is 8; it must be at least --min-area"),
        ({"tile": 10}, "--tile is 10; it must be at least 64 pixels"),
        ({"max_pixels": 0}, "--max-pixels is 0"),
        ({"refine": ("sharpen",)}, "there is no refinement 'sharpen'"),
    ],
)
def test_options_out_of_range_are_one_line(arguments, expected):
    with pytest.raises(ConfigError, match=expected):
        Options(**arguments)


@pytest.mark.parametrize(
    ("model", "arguments", "expected"),
    [
        ("otsu", {"options": Options(tile=128)}, "--tile is for trained networks; otsu looks at"),
        ("otsu", {"formats": ["gif"]}, "there is no format 'gif'"),
        ("otsu", {"join_videos": True}, "joins overlays of a video's frames"),
        ("felzenszwalb", {"options": Options(refine=("flips",))}, "regions that mean the same"),
        ("felzenszwalb", {"options": Options(refine=("crf",))}, "--refine crf is for masks of"),
        ("felzenszwalb", {"options": Options(threshold=0.4)}, "--threshold is for masks of"),
        ("felzenszwalb", {"options": Options(min_area=4)}, "so give --instances too"),
        ("felzenszwalb", {"formats": ["soft"]}, "--format soft is for masks of"),
    ],
)
def test_what_makes_no_sense_together_is_one_line_and_writes_nothing(
    model, arguments, expected, tmp_path
):
    save_squares(tmp_path / "x.png")
    with pytest.raises(ConfigError, match=expected):
        predict(model, [tmp_path / "x.png"], tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_partitions_are_written_as_objects(tmp_path):
    mask = save_squares(tmp_path / "x.png")
    formats = ["masks", "coco", "instances", "labelme"]
    predict("felzenszwalb", [tmp_path / "x.png"], tmp_path / "out", formats=formats,
            options=Options(instances=True, min_area=50))  # fmt: skip
    document = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert document["categories"] == [{"id": 1, "name": "region"}]
    objects = read(tmp_path / "out/instances/x.png")
    areas = [annotation["area"] for annotation in document["annotations"]]
    assert areas == np.bincount(objects.ravel())[1:].tolist()
    assert min(areas) >= 50
    assert len(areas) > 1
    assert read(tmp_path / "out/masks/x.png").shape == mask.shape


def save_regions(path: Path, *, scale: float) -> Path:
    settings = UNetConfig(width=4, depth=1)
    torch.manual_seed(0)
    network = networks.build(settings, out_channels=3)
    save_segmenter(
        path,
        RegionSegmenter(network, stride=network.stride),
        network=config.as_tree(settings),
        num_regions=3,
        window=None,
        scale=scale,
        provenance={"supervision": {"train": "none"}},
    )
    return path


# --- tiles ---------------------------------------------------------------------------------------


def textured(size: tuple[int, int]) -> torch.Tensor:
    """Coarse and fine structure, much brighter on one side: no tile looks like the whole."""
    random = np.random.default_rng(0)
    coarse = cv2.resize(random.random((size[0] // 16, size[1] // 16, 3)), size[::-1])
    slope = np.linspace(0.1, 1, size[1])[:, None]
    return torch.from_numpy(255 * coarse * slope).to(torch.uint8).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_tiles_give_the_probability_of_the_whole_picture(scale, tmp_path):
    window = None
    model = save_model(tmp_path / "s.safetensors", window=window)
    opened = open_segmenter(str(model))
    object.__setattr__(opened, "scale", scale)
    picture = textured((480, 640))
    found = {}
    for tile in (None, 256):
        engine = build_engine(opened, in_boxes=False, window=None, flips=False, tile=tile)
        prepared = engine.prepare(picture)
        assert (prepared.dtype == torch.uint8) == (tile is not None)
        found[tile] = engine.finish(engine.segment([prepared], None)[0], (480, 640))
    assert found[None].std() > 0.01
    torch.testing.assert_close(found[256], found[None], atol=2e-4, rtol=0)


def test_tiles_give_the_regions_of_the_whole_picture(tmp_path):
    opened = open_segmenter(str(save_regions(tmp_path / "s.safetensors", scale=1.0)))
    picture = textured((300, 410))
    found = {}
    for tile in (None, 128):
        engine = build_engine(opened, in_boxes=False, window=None, flips=False, tile=tile)
        values = engine.segment([engine.prepare(picture)], None)[0]
        found[tile] = engine.finish(values, (300, 410))
    assert len(found[None].unique()) > 1
    assert (found[128] == found[None]).float().mean() > 0.9995


def test_only_large_pictures_are_cut_without_being_asked(tmp_path):
    opened = open_segmenter(str(save_model(tmp_path / "s.safetensors", window=None)))
    engine = build_engine(opened, in_boxes=False, window=None, flips=False, tile=None)
    assert isinstance(engine, engines.MaskEngine)
    assert engine.tiling((1400, 1400)) is None
    tiling = engine.tiling((4000, 4000))
    assert tiling is not None
    assert tiling.side == 1024
    # Training-free segmenters look at the whole picture, however large.
    otsu = build_engine(open_segmenter("otsu"), in_boxes=False, window=None, flips=False, tile=None)
    assert isinstance(otsu, engines.MaskEngine)
    assert otsu.tiling((9000, 9000)) is None


# --- the pipeline --------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 5000, 2**26])
def test_a_small_budget_of_pixels_delays_and_changes_nothing(budget, tmp_path, monkeypatch):
    model = save_model(tmp_path / "segmenter.safetensors")
    for number in range(25):
        size = [(40, 31), (24, 50), (60, 60)][number // 4 % 3]
        save_picture(tmp_path / f"pictures/{number:02d}.png", number, size)
    (tmp_path / "pictures/bad.png").write_bytes(b"no picture")
    monkeypatch.setattr(pipeline, "PIXELS_UNDER_WAY", budget)
    summary = predict(model, [tmp_path / "pictures"], tmp_path / "out", formats=["masks"])
    assert (summary.num_written, len(summary.skipped)) == (25, 1)
    opened = open_segmenter(str(model))
    engine = build_engine(opened, in_boxes=False, window=None, flips=False, tile=None)
    for number in range(25):
        picture = read_image(tmp_path / f"pictures/{number:02d}.png")
        size = int(picture.shape[1]), int(picture.shape[2])
        alone = engine.finish(engine.segment([engine.prepare(picture)], None)[0], size)
        mask = read(tmp_path / f"out/masks/{number:02d}.png")
        assert (mask == (alone.numpy() > 0.5)).mean() > 0.999, number


def test_pictures_of_one_size_are_segmented_together(tmp_path, monkeypatch):
    model = save_model(tmp_path / "segmenter.safetensors")
    for number in range(19):
        save_picture(tmp_path / f"pictures/{number:02d}.png", number)
    sizes = []
    segment = engines.MaskEngine.segment

    def noted(self, images, boxes):
        sizes.append(len(images))
        return segment(self, images, boxes)

    monkeypatch.setattr(engines.MaskEngine, "segment", noted)
    predict(model, [tmp_path / "pictures"], tmp_path / "out", formats=["masks"])
    assert sum(sizes) == 19
    assert max(sizes) == pipeline.BATCH
    assert len(sizes) <= 4


# --- videos --------------------------------------------------------------------------------------


def save_video(path: Path, num_frames: int) -> None:
    """A bright square that moves to the right, eight pixels per frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for number in range(num_frames):
        frame = np.zeros((64, 96, 3), np.uint8)
        frame[20:40, 8 * number + 4 : 8 * number + 24] = 240
        writer.write(frame)
    writer.release()


def test_frames_of_videos_are_numbered_and_a_restart_goes_on(tmp_path):
    save_video(tmp_path / "clip.avi", 6)
    out = tmp_path / "out"
    summary = predict("otsu", [tmp_path / "clip.avi"], out)
    names = [f"clip/{number:06d}.png" for number in range(6)]
    assert outputs(out) == [f"{each}/{name}" for each in ("masks", "overlays") for name in names]
    assert summary.num_written == 6
    for number, name in enumerate(names):
        mask = read(out / "masks" / name)
        assert mask.shape == (64, 96)
        wanted = np.zeros((64, 96), np.bool_)
        wanted[20:40, 8 * number + 4 : 8 * number + 24] = True
        assert (mask.astype(bool) == wanted).mean() > 0.98
    before = {name: (out / "masks" / name).read_bytes() for name in names}
    (out / "masks" / names[3]).unlink()
    again = predict("otsu", [tmp_path / "clip.avi"], out)
    assert (again.num_written, again.num_finished) == (1, 5)
    assert {name: (out / "masks" / name).read_bytes() for name in names} == before


def test_videos_go_beside_pictures_and_are_joined_again(tmp_path):
    (tmp_path / "media").mkdir()
    save_video(tmp_path / "media/clip.avi", 5)
    save_squares(tmp_path / "media/still.png")
    summary = predict(
        "otsu", [tmp_path / "media/still.png", tmp_path / "media/*.avi"], tmp_path / "out",
        formats=["overlays", "coco"], join_videos=True,
    )  # fmt: skip
    assert summary.num_written == 6
    assert "overlays of clip.avi joined" in str(summary)
    joined = cv2.VideoCapture(str(tmp_path / "out/videos/clip.mp4"))
    assert joined.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    num_frames = 0
    while joined.read()[0]:
        num_frames += 1
    assert num_frames == 5
    document = json.loads((tmp_path / "out/coco/annotations.json").read_text())
    assert len(document["images"]) == 6


def test_videos_of_one_name_do_not_share_frames(tmp_path):
    save_video(tmp_path / "clip.avi", 2)
    save_video(tmp_path / "clip.mkv", 3)
    sources = [tmp_path / "clip.avi", tmp_path / "clip.mkv"]
    summary = predict("otsu", sources, tmp_path / "out", formats=["masks"])
    assert summary.num_written == 5
    frames = [
        path.relative_to(tmp_path / "out/masks").as_posix()
        for path in (tmp_path / "out/masks").rglob("*.png")
    ]
    assert sorted(frames) == [
        *("clip.avi/000000.png", "clip.avi/000001.png"),
        *("clip.mkv/000000.png", "clip.mkv/000001.png", "clip.mkv/000002.png"),
    ]


def test_videos_that_are_none_or_too_large_are_one_line(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(ConfigError, match=r"clip\.mp4: not a video that OpenCV reads"):
        predict("otsu", [tmp_path / "clip.mp4"], tmp_path / "out")
    save_video(tmp_path / "clip.avi", 2)
    options = Options(max_pixels=1000)
    with pytest.raises(ConfigError, match="are 96 x 64, more than the 1000 pixels"):
        predict("otsu", [tmp_path / "clip.avi"], tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()


# --- real pictures -------------------------------------------------------------------------------


def test_a_real_picture_in_every_format(tmp_path):
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: it names the folder of the real sets")
    root = Path(os.environ["SEGAN_DATA"]) / "BSDS500/BSDS500/data/images/val"
    if not root.is_dir():
        pytest.skip("BSDS500 is not there")
    from segan.formats import FORMATS

    picture = sorted(root.glob("*.jpg"))[0]
    options = Options(instances=True, min_area=20)
    predict("otsu", [picture], tmp_path, formats=[*FORMATS], options=options)
    objects = read(tmp_path / f"instances/{picture.stem}.png")
    document = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert len(document["annotations"]) == objects.max()
    for number, annotation in enumerate(document["annotations"], start=1):
        assert np.array_equal(coco_masks.decode(annotation["segmentation"]), objects == number)
