"""Training-free segmenters, on made pictures and near the numbers known for the real sets."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor

from segan.data.sample import Mask, Sample
from segan.errors import ConfigError
from segan.evaluation.cases import Cases
from segan.evaluation.foreground import compare, trivial_rows
from segan.evaluation.metrics import iou
from segan.methods.classical import (
    TRIVIAL_ROWS,
    CentreEllipse,
    GivenBox,
    GrabCut,
    KMeans,
    Otsu,
    OtsuInBox,
)

BOXES = torch.tensor([[12.0, 10.0, 36.0, 34.0], [12.0, 10.0, 36.0, 34.0]])


def discs(*, noise: float = 0.04) -> tuple[Tensor, np.ndarray]:
    """Two pictures [2, 3, 48, 48] of one disc, bright in the first and dark in the second."""
    y, x = np.mgrid[:48, :48] + 0.5
    disc = (x - 24) ** 2 + (y - 22) ** 2 <= 11**2
    bright = np.where(disc, [[[0.8]], [[0.5]], [[0.4]]], [[[0.1]], [[0.3]], [[0.2]]])
    pictures = np.stack([bright, 0.9 - bright])
    pictures += np.random.default_rng(0).normal(0, noise, pictures.shape)
    return torch.from_numpy(pictures).float().clamp(0, 1), disc


@pytest.mark.parametrize("name", TRIVIAL_ROWS)
def test_regions_are_a_partition_and_repeat(name: str) -> None:
    segmenter = TRIVIAL_ROWS[name]()
    images = torch.rand(2, 3, 31, 45, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[5.5, 3.0, 30.25, 20.0], [0.0, 0.0, 45.0, 31.0]])
    regions = segmenter.forward_in_boxes(images, boxes)
    assert regions.shape == (2, 2, 31, 45)
    assert regions.dtype == images.dtype
    torch.testing.assert_close(regions.sum(dim=1), torch.ones(2, 31, 45))
    assert torch.equal(regions, segmenter.forward_in_boxes(images, boxes))
    assert not list(segmenter.parameters())


@pytest.mark.parametrize("name", ["otsu", "kmeans", "otsu_in_box", "grabcut"])
def test_colour_methods_find_a_disc_of_another_colour(name: str) -> None:
    images, disc = discs()
    regions = TRIVIAL_ROWS[name]().forward_in_boxes(images, BOXES).numpy() > 0.5
    named = TRIVIAL_ROWS[name].foreground is not None
    assert iou(regions[0, 1], disc) > 0.97
    # Unnamed regions are ordered dark, bright.
    assert iou(regions[1, 1 if named else 0], disc) > 0.97


def test_clusters_are_ordered_by_lightness_as_the_eye_sees_it() -> None:
    images = torch.full((1, 3, 8, 8), 107 / 255)  # gray, L = 45
    images[:, :, :, 3:] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]  # red, L = 53; blue has 32
    assert KMeans()(images)[0, 1].sum() == 40


def test_otsu_in_box_is_not_misled_by_what_lies_outside() -> None:
    images, disc = discs(noise=0.01)
    inside = torch.zeros(48, 48, dtype=torch.bool)
    inside[10:34, 12:36] = True
    images = torch.where(inside, 0.4 * images, 1)
    labels = OtsuInBox().forward_in_boxes(images, BOXES)[0, 1].bool()
    assert iou((labels & inside).numpy(), disc) > 0.97
    assert not (Otsu()(images)[0, 1].bool() & inside).any()


@pytest.mark.parametrize("name", ["otsu", "kmeans", "otsu_in_box", "grabcut"])
def test_flat_pictures_and_tiny_boxes_are_no_error(name: str) -> None:
    images = torch.full((2, 3, 20, 24), 0.5)
    boxes = torch.tensor([[3.1, 3.1, 3.3, 3.3], [0.0, 0.0, 24.0, 20.0]])
    regions = TRIVIAL_ROWS[name]().forward_in_boxes(images, boxes)
    torch.testing.assert_close(regions.sum(dim=1), torch.ones(2, 20, 24))


def test_given_box_covers_exactly_its_area() -> None:
    boxes = torch.tensor([[3.25, 2.0, 9.5, 7.75], [4.2, 4.2, 4.6, 4.6]])
    mask = GivenBox().forward_in_boxes(torch.zeros(2, 3, 10, 12), boxes)[:, 1]
    torch.testing.assert_close(mask.sum(dim=(1, 2)), torch.tensor([6.25 * 5.75, 0.16]))
    assert mask[0, 3, 3] == 0.75


def test_ellipse_has_the_axes_it_is_given() -> None:
    mask = CentreEllipse(width=0.5, height=1.0)(torch.zeros(1, 3, 100, 200))[0, 1]
    assert mask[50].sum() == 100
    assert mask[:, 100].sum() == 100
    assert mask.mean() == pytest.approx(np.pi / 8, abs=2e-3)


def test_grabcut_stays_inside_its_box_or_margin() -> None:
    images, _ = discs(noise=0.2)
    inside = torch.zeros(48, 48, dtype=torch.bool)
    inside[10:34, 12:36] = True
    assert not GrabCut().forward_in_boxes(images, BOXES)[:, 1, ~inside].any()
    assert not GrabCut(margin=0.25)(images)[:, 1, :12].any()


@pytest.mark.parametrize("segmenter", [GivenBox(), OtsuInBox()])
def test_rows_that_need_a_box_say_so(segmenter: GivenBox | OtsuInBox) -> None:
    with pytest.raises(ConfigError, match="needs a box"):
        segmenter(torch.zeros(1, 3, 8, 8))


# --- the real sets, at 256 px --------------------------------------------------------------------


class Pictures:
    """Pictures and masks resampled to 256 x 256, as the table of trivial guesses was measured."""

    provides = frozenset({"images", "masks"})
    box_source = ""

    def __init__(self, name: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.name = name
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        picture, mask = self.pairs[index]
        picture = cv2.resize(picture[..., ::-1], (256, 256), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST)
        image = torch.from_numpy(picture.transpose(2, 0, 1).copy())
        return Sample(name=str(index), image=image, truth=Mask(torch.from_numpy(mask > 0)))


def read_wbc(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for path in sorted((root / "segmentation_WBC" / "Dataset 1").glob("*.bmp"))[::6]:
        yield cv2.imread(str(path)), cv2.imread(str(path.with_suffix(".png")), 0) > 0


def read_dsb2018(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for folder in sorted((root / "DSB2018" / "stage1_train").iterdir())[::4]:
        masks = [cv2.imread(str(path), 0) > 0 for path in (folder / "masks").glob("*.png")]
        (path,) = (folder / "images").glob("*.png")
        yield cv2.imread(str(path)), np.logical_or.reduce(masks)


def read_ccp(root: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    folder = root / "clothing-co-parsing"
    for path in sorted((folder / "annotations" / "pixel-level").glob("*.mat"))[::6]:
        photo = str(folder / "photos" / f"{path.stem}.jpg")
        picture = cv2.imread(photo, cv2.IMREAD_REDUCED_COLOR_2)
        yield picture, scipy.io.loadmat(path)["groundtruth"] > 0


@pytest.mark.parametrize(
    ("read", "ellipse", "otsu", "kmeans"),
    [
        (read_wbc, 0.708, 0.807, 0.792),
        (read_dsb2018, 0.094, 0.773, 0.758),
        (read_ccp, 0.589, 0.376, 0.382),
    ],
)
def test_trivial_rows_score_as_known_on_real_sets(
    read, ellipse: float, otsu: float, kmeans: float
) -> None:
    if "SEGAN_DATA" not in os.environ:
        pytest.skip("SEGAN_DATA is unset: no real pictures")
    pictures = Pictures(read.__name__, list(read(Path(os.environ["SEGAN_DATA"]))))
    assert len(pictures) >= 40
    results = compare(trivial_rows(Cases()), pictures, Cases(), split="all")
    # Small samples; and the known numbers choose the polarity with the truth.
    assert results["centre_ellipse"].metrics["iou"] == pytest.approx(ellipse, abs=0.05)
    assert results["otsu"].metrics["iou_oracle_polarity"] == pytest.approx(otsu, abs=0.05)
    assert results["kmeans"].metrics["iou_oracle_polarity"] == pytest.approx(kmeans, abs=0.05)
