"""The BSDS protocols from segmenters and from folders of predictions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from skimage.measure import label
from torch import Tensor

from segan import cli, commands
from segan.cli import main
from segan.data.sample import Annotations, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation.annotated import evaluate_annotated
from segan.evaluation.foreground import Row
from segan.evaluation.hierarchies import Contours, Hierarchy, Partitions
from segan.evaluation.partitions import absorb, label_maps_of, least_areas
from segan.evaluation.predictions import PredictionFolder, open_predictions
from segan.segmenter import PartitionSegmenter, Segmenter


class Annotated:
    """Pictures of two colours, left and right, with two people's truth."""

    name = "annotated"
    provides = frozenset({"images", "annotations"})
    box_source = ""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        image = torch.zeros(3, 20, 30, dtype=torch.uint8)
        image[:, :, 10 + index :] = 200
        halves = (image[0] > 0).int() + 1
        thirds = halves.clone()
        thirds[:10] = 3
        return Sample(f"p{index}", image, truth=Annotations((halves, thirds)))


class Bright(Segmenter):
    """Dark and bright."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images[:, :1] > 0.5).float()
        return torch.cat([1 - bright, bright], dim=1)


class Strips(PartitionSegmenter):
    """Level n is n + 1 strips."""

    def partitions(self, image: Tensor, *, num_levels: int) -> list[Tensor]:
        columns = torch.arange(image.shape[2]).expand(image.shape[1:])
        return [(columns * (n + 1) // image.shape[2]).int() for n in range(num_levels)]


# --- from a segmenter ----------------------------------------------------------------------------


def test_a_perfect_segmenter_covers_the_person_who_agrees_with_it():
    rows = {"bright": Row(segmenter=Bright()), "strips": Row(segmenter=Strips())}
    found = evaluate_annotated(
        rows, Annotated(), kind="regions", split="dev", num_levels=3, workers=1
    )
    bright = found["bright"]
    assert bright.num_images == 3
    assert bright.metrics["covering_ods"] > found["strips"].metrics["covering_ods"]
    assert bright.matching == bright.polarity == "none"
    assert "absorbed" in bright.postprocessing
    assert found["strips"].postprocessing == "none"
    assert set(found["strips"].best_scales) == {"covering_ods", "pri_ods", "vi_ods"}
    assert all(1 <= scale <= 3 for scale in found["strips"].best_scales.values())
    assert [record["image"] for record in bright.records] == ["p0", "p1", "p2"]
    json.dumps(bright.as_tree(), allow_nan=False)


@pytest.mark.parametrize("kind", ["regions", "boundaries"])
def test_workers_change_nothing(kind):
    rows = {"bright": Row(segmenter=Bright()), "strips": Row(segmenter=Strips())}
    one, two = (
        evaluate_annotated(
            rows, Annotated(), kind=kind, split="dev", num_levels=2, workers=workers, limit=2
        )
        for workers in (1, 2)
    )
    assert one == two
    assert one["bright"].num_images == 2
    assert one["bright"].records == two["bright"].records


def test_levels_of_a_partition_segmenter_are_its_own_and_others_are_absorbed():
    image = Annotated()[0].image
    maps = label_maps_of(Strips(), image, num_levels=4)
    assert [len(np.unique(labels)) for labels in maps] == [1, 2, 3, 4]
    noisy = image.clone()
    noisy[:, 3, 4] = 255  # one bright pixel in the dark
    maps = label_maps_of(Bright(), noisy, num_levels=5)
    assert [len(np.unique(labels)) for labels in maps] == [2, 2, 2, 2, 3]
    assert all(labels.dtype == np.int32 and labels.shape == (20, 30) for labels in maps)
    assert len(label_maps_of(Bright(), noisy, num_levels=1)) == 1
    with pytest.raises(ConfigError, match="levels is 0; it must be at least 1"):
        label_maps_of(Bright(), noisy, num_levels=0)


def test_pieces_of_one_class_are_regions_of_their_own_and_touch_at_corners():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, 0, 0] = image[:, 1, 1] = image[:, 6:, 6:] = 255
    finest = label_maps_of(Bright(), image, num_levels=2)[-1]
    assert finest[0, 0] == finest[1, 1] != finest[7, 7]
    assert len(np.unique(finest)) == 3


def test_least_areas_run_from_a_pixel_to_a_tenth():
    areas = least_areas(1000, 3)
    assert areas == pytest.approx([1, 10, 100])
    assert least_areas(481 * 321, 1) == pytest.approx([100])


def naive_absorb(labels: np.ndarray, least: float) -> np.ndarray:
    """One region at a time, everything recounted."""
    labels = labels.copy()
    while True:
        names, sizes = np.unique(labels, return_counts=True)
        small = [(size, name) for name, size in zip(names, sizes, strict=True) if size < least]
        if not small or len(names) == 1:
            return labels
        name = min(small)[1]
        borders: dict[int, int] = {}
        for first, second in (
            (labels[:, :-1], labels[:, 1:]),
            (labels[:, 1:], labels[:, :-1]),
            (labels[:-1], labels[1:]),
            (labels[1:], labels[:-1]),
        ):
            for other in second[(first == name) & (second != name)].tolist():
                borders[other] = borders.get(other, 0) + 1
        labels[labels == name] = max(borders, key=lambda near: (borders[near], -near))


def test_absorbing_equals_recounting_everything_and_each_map_refines_the_next():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        classes = rng.integers(0, 3, (14, 15))
        pieces = label(classes, background=-1, connectivity=2) - 1
        maps = absorb(pieces, [1, 4, 20])
        before = pieces
        for least, found in zip([1, 4, 20], maps, strict=True):
            before = naive_absorb(before, least)
            pairs = np.unique(np.stack([before.ravel(), found.ravel()]), axis=1).shape[1]
            assert pairs == len(np.unique(before)) == len(np.unique(found))
            assert np.bincount(found.ravel()).min() >= least


# --- from a folder -------------------------------------------------------------------------------

MAPS = [np.arange(12, dtype=np.int32).reshape(3, 4) // divisor for divisor in (2, 5)]


def cells(maps: list[np.ndarray]) -> np.ndarray:
    found = np.empty((1, len(maps)), dtype=object)
    found[0] = [*maps] if len(maps) > 1 else maps[:1]
    return found


def test_label_maps_read_alike_from_every_format(tmp_path: Path):
    savemat(tmp_path / "a.mat", {"segs": cells([MAPS[0].astype(np.float64), MAPS[1]])})
    np.save(tmp_path / "b.npy", np.stack(MAPS).astype(np.uint16))
    np.savez_compressed(tmp_path / "c.npz", labels=np.stack(MAPS))
    np.save(tmp_path / "d.npy", MAPS[0])
    Image.fromarray(MAPS[0].astype(np.uint8)).save(tmp_path / "e.png")
    Image.fromarray(MAPS[0].astype(np.uint16)).save(tmp_path / "f.png")
    palette = Image.fromarray(MAPS[0].astype(np.uint8))
    palette = palette.convert("P")
    palette.save(tmp_path / "g.png")
    folder = open_predictions(tmp_path)
    for name, maps in zip("abcdefg", [MAPS, MAPS, MAPS] + 4 * [MAPS[:1]], strict=True):
        found = folder.read(name, (3, 4), kind="regions")
        assert isinstance(found, Partitions)
        assert len(found.labels) == len(maps)
        assert all(np.array_equal(*pair) for pair in zip(found.labels, maps, strict=True)), name
    for name in "fg":
        assert isinstance(folder.read(name, (3, 4), kind="boundaries"), Partitions)


def test_gray_pictures_are_contours_for_boundaries_and_ucm2_is_a_hierarchy(tmp_path: Path):
    Image.fromarray(np.full((3, 4), 51, np.uint8)).save(tmp_path / "a.png")
    savemat(tmp_path / "b.mat", {"ucm2": np.full((7, 9), 0.5)})
    folder = PredictionFolder(tmp_path)
    contours = folder.read("a", (3, 4), kind="boundaries")
    assert isinstance(contours, Contours)
    assert contours.strength == pytest.approx(0.2)
    Image.fromarray(np.eye(3, 4, dtype=bool)).save(tmp_path / "c.png")
    drawn = PredictionFolder(tmp_path).read("c", (3, 4), kind="boundaries")
    assert isinstance(drawn, Contours)
    assert drawn.strength.tolist() == np.eye(3, 4).tolist(), "one bit is a boundary of strength 1"
    for kind in ("regions", "boundaries"):
        assert isinstance(folder.read("b", (3, 4), kind=kind), Hierarchy)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("p.mat", {"segs": cells(MAPS[:1])}, "it is 3 x 4 .*, expected 20 x 30"),
        ("p.mat", {"ucm2": np.zeros((20, 30))}, "it is 20 x 30 .*, expected 41 x 61"),
        ("p.mat", {"ucm2": np.full((41, 61), 2.0)}, "values outside"),
        ("p.mat", {"ucm2": np.zeros((41, 61), np.uint8)}, "'ucm2' is uint8"),
        ("p.mat", {"segs": np.ones((20, 30))}, "'segs' is not a cell"),
        ("p.mat", {"other": np.ones((20, 30))}, "neither 'segs' nor 'ucm2'"),
        ("p.mat", {"segs": cells([np.full((20, 30), 0.5)])}, "labels are float64"),
        ("p.npy", np.zeros((20, 30)), "labels are float64"),
        ("p.npy", np.full((20, 30), -1), "labels run from -1"),
        ("p.npy", np.zeros((1, 1, 20, 30), int), "4 axes"),
        ("p.npy", np.array([{}]), "[Oo]bject arrays"),
        ("p.npy", b"junk", "cannot read"),
        ("p.npz", b"junk", "not a zip file"),
        ("p.mat", b"junk", "cannot read"),
        ("p.png", np.zeros((20, 30, 3), np.uint8), "it is RGB"),
    ],
)
def test_unfit_files_are_named_in_one_line(tmp_path: Path, file, content, message):
    path = tmp_path / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".mat":
        savemat(path, content)
    elif path.suffix == ".png":
        Image.fromarray(content).save(path)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=rf"cannot read .*{path.name}: ") as caught:
        PredictionFolder(tmp_path).read("p", (20, 30), kind="regions")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=message):
        PredictionFolder(tmp_path).read("p", (20, 30), kind="regions")


def test_missing_doubled_and_uneven_predictions_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"is no run .* and no folder of predictions"):
        open_predictions(tmp_path)
    shape = (20, 30)
    for index in range(2):
        np.save(tmp_path / f"p{index}.npy", np.zeros((index + 1, *shape), int))
    sources = {"theirs": open_predictions(tmp_path)}
    with pytest.raises(DataError, match=r"p1 has 2 label maps, p0 1; every picture needs as many"):
        evaluate_annotated(sources, Annotated(), kind="regions", split="dev", workers=1)
    np.save(tmp_path / "p1.npy", np.zeros(shape, int))
    with pytest.raises(DataError, match=r"no prediction for p2 in .*: looked for p2\.mat, "):
        evaluate_annotated(sources, Annotated(), kind="regions", split="dev", workers=1)
    found = evaluate_annotated(
        sources, Annotated(), kind="regions", split="dev", limit=2, workers=1
    )
    assert found["theirs"].supervision == {"train": "unknown", "test": "none"}
    savemat(tmp_path / "p0.mat", {"segs": cells(MAPS)})
    with pytest.raises(DataError, match=r"has p0\.mat and p0\.npy; keep one of them"):
        evaluate_annotated(sources, Annotated(), kind="regions", split="dev", workers=1)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_line_knows_the_protocols_that_there_are():
    assert list(commands._PROTOCOLS) == cli._PROTOCOLS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "regions"], "shapes has no annotations of several people"),
        (["--protocol", "regions", "--boxes", "gt"], "--boxes means nothing for otsu"),
        (["--protocol", "boundaries", "--trivial"], "--trivial means nothing for otsu"),
        (["--levels", "3"], "--levels means nothing for otsu and the protocol foreground"),
    ],
)
def test_options_of_other_protocols_are_refused(capsys, arguments, message):
    assert main(["evaluate", "otsu", "--data", "shapes", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_numbers_below_1_are_refused():
    for name in ("num_levels", "workers", "limit"):
        with pytest.raises(ConfigError, match=r"is 0; it must be at least 1"):
            evaluate_annotated(
                {"": Row(segmenter=Bright())}, Annotated(), kind="regions", split="dev", **{name: 0}
            )
