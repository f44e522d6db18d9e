"""The foreground protocol from pictures to scores, on pictures whose scores are known by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from segan.data.sample import Annotations, Instances, Mask, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation import metrics
from segan.evaluation.cases import Cases, batches, cases_of
from segan.evaluation.foreground import Row, compare, foreground, trivial_rows
from segan.segmenter import Segmenter, WindowSpec

SPEC = WindowSpec(size=24, context=1.5)
WINDOWS = Cases(windows="box", spec=SPEC)
SCORES = {"iou", "accuracy", "f_beta_max", "mae", "boundary_iou", "hausdorff_95"}


class Pictures:
    name = "pictures"
    box_source = "instance masks"

    def __init__(self, *samples: Sample, provides: str = "images boxes instances") -> None:
        self.samples = samples
        self.provides = frozenset(provides.split())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


class Red(Segmenter):
    """The object is what is more than half red: perfect on the pictures made here."""

    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([1 - images[:, 0], images[:, 0]], dim=1)


class NotRed(Red):
    """The same two regions, unnamed, in the other order."""

    foreground = None

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flip(1)


def picture(
    name: str, *boxes: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)
) -> Sample:
    """Black, with one red rectangle that fills each box."""
    labels = torch.zeros(size, dtype=torch.int32)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        labels[y0:y1, x0:x1] = index + 1
    image = torch.zeros(3, *size, dtype=torch.uint8)
    image[0, labels > 0] = 255
    return Sample(name, image, torch.tensor(boxes).reshape(-1, 4).float(), Instances(labels))


PAIR = picture("pair", (10, 12, 34, 28), (44, 20, 60, 44))
ONE = picture("one", (30, 20, 54, 44), size=(90, 70))


def test_whole_pictures_of_a_perfect_segmenter_score_perfectly() -> None:
    result = foreground(Row(segmenter=Red()), Pictures(PAIR, ONE), Cases(), split="test")
    assert result.metrics == {
        "iou": 1, "accuracy": 1, "f_beta_max": 1, "mae": 0, "boundary_iou": 1, "hausdorff_95": 0,
    }  # fmt: skip
    assert result.intervals["iou"] == (1, 1)
    assert (result.num_images, result.num_instances, result.undefined) == (2, None, {})


def test_whole_pictures_are_seen_at_network_scale_and_scored_at_their_own() -> None:
    seen = []

    class Spy(Red):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape[-2:]))
            return super().forward(images)

    spec = WindowSpec(size=24, context=1.5, scale=0.5)
    result = foreground(Row(segmenter=Spy()), Pictures(PAIR, ONE), Cases(spec=spec), split="test")
    assert seen == [(30, 40), (45, 35)]
    assert 0.98 < result.metrics["iou"] < 1  # corners are lost
    assert result.records[0]["image"] == "pair"


def test_window_truth_is_the_boxed_object_alone() -> None:
    near = picture("near", (10, 10, 30, 30), (32, 10, 52, 30))
    case, _ = cases_of(Pictures(near), WINDOWS)
    # The window reaches from 5 to 35: three columns of the neighbour are seen, none is truth.
    assert case.truth.shape == (30, 30)
    assert case.truth.sum() == 400
    assert case.image.shape == (3, 24, 24)
    assert case.box.tolist() == [4, 4, 20, 20]
    red = foreground(Row(segmenter=Red()), Pictures(near), WINDOWS, split="test")
    clipped = foreground(Row(segmenter=Red(), clip=True), Pictures(near), WINDOWS, split="test")
    assert red.metrics["iou"] < 0.92
    assert clipped.metrics["iou"] == 1
    assert clipped.postprocessing == "clipped to the box"
    assert clipped.supervision == {"train": "none", "test": "boxes"}


def test_means_over_instances_and_over_pictures_differ_as_they_should() -> None:
    pictures = Pictures(PAIR, ONE)
    result = foreground(trivial_rows(WINDOWS)["all_foreground"], pictures, WINDOWS, split="test")
    shares = [case.truth.mean() for case in cases_of(pictures, WINDOWS)]
    assert result.metrics["iou"] == pytest.approx(np.mean(shares))
    expected = (np.mean(shares[:2]) + shares[2]) / 2
    assert result.metrics["iou_image_mean"] == pytest.approx(expected)
    assert result.metrics["iou"] != pytest.approx(expected)
    assert (result.num_images, result.num_instances) == (2, 3)
    low, high = result.intervals["iou"]
    assert low < result.metrics["iou"] < high


def test_max_f_beta_is_the_maximum_of_the_mean_curve() -> None:
    class Faint(Red):
        """Sure of the object in the first picture, faint in the second, noise between."""

        def forward(self, images: Tensor) -> Tensor:
            level = 1.0 if images.shape[-1] == 80 else 0.3
            mask = torch.where(images[:, 0] > 0.5, level, level - 0.2)
            return torch.stack([1 - mask, mask], dim=1)

    result = foreground(Row(segmenter=Faint()), Pictures(PAIR, ONE), Cases(), split="test")
    curves = []
    for sample, level in ((PAIR, 1.0), (ONE, 0.3)):
        truth = (sample.truth.labels > 0).numpy()
        curves.append(metrics.f_beta_curve(np.where(truth, level, level - 0.2), truth))
    expected = np.mean(curves, axis=0).max()
    assert result.metrics["f_beta_max"] == pytest.approx(expected)
    assert expected < np.mean([curve.max() for curve in curves]) - 0.05


def test_unnamed_regions_get_their_polarity_without_labels_and_an_oracle_beside() -> None:
    full = picture("full", (2, 2, 58, 40), (0, 0, 80, 3))
    result = foreground(Row(segmenter=NotRed()), Pictures(PAIR, full), Cases(), split="test")
    assert result.polarity == "border"
    assert [record["iou"] for record in result.records] == [1, 1]
    most = picture("most", (0, 0, 70, 60))  # touches most of the border: the rule must fail
    result = foreground(Row(segmenter=NotRed()), Pictures(most), Cases(), split="test")
    assert result.metrics["iou"] == 0
    assert result.metrics["iou_oracle_polarity"] == 1
    named = foreground(Row(segmenter=Red()), Pictures(most), Cases(), split="test")
    assert named.polarity == "named"
    assert set(named.metrics) == SCORES


def test_oracle_complement_is_clipped_like_the_mask() -> None:
    red = Sample("red", torch.zeros_like(ONE.image), ONE.boxes, ONE.truth)
    red.image[0] = 255  # nothing but red: the rule takes the other region, which is empty
    row = Row(segmenter=NotRed(), clip=True)
    result = foreground(row, Pictures(red), WINDOWS, split="test")
    assert result.metrics["iou"] == 0
    assert result.metrics["iou_oracle_polarity"] == 1


def test_ignored_pixels_count_nowhere() -> None:
    truth = PAIR.truth.labels > 0
    ignore = torch.zeros_like(truth)
    ignore[:, 40:] = True
    image = PAIR.image.clone()
    image[0, :, 40:] = 255 - image[0, :, 40:]  # wrong wherever nobody knows
    sample = Sample("partly", image, truth=Mask(truth, ignore))
    pictures = Pictures(sample, provides="images masks")
    result = foreground(Row(segmenter=Red()), pictures, Cases(), split="test")
    assert [result.metrics[name] for name in sorted(SCORES)] == [1, 1, 1, 0, 1, 0]
    unknown = Sample("unknown", image, truth=Mask(truth, torch.ones_like(truth)))
    both = Pictures(sample, unknown, provides="images masks")
    assert foreground(Row(segmenter=Red()), both, Cases(), split="test").num_images == 1


def test_undefined_values_are_null_and_counted() -> None:
    empty = picture("empty")
    result = foreground(Row(segmenter=Red()), Pictures(PAIR, empty), Cases(), split="test")
    assert result.undefined == {"hausdorff_95": 1}
    assert result.metrics["hausdorff_95"] == 0
    assert result.metrics["iou"] == 1
    result = foreground(Row(segmenter=Red()), Pictures(empty), Cases(), split="test")
    assert result.metrics["hausdorff_95"] is None
    assert result.intervals["hausdorff_95"] is None


def test_every_row_sees_the_same_cases_as_alone() -> None:
    pictures = Pictures(PAIR, ONE)
    which = Cases(windows="box", spec=SPEC, box_jitter=0.1, shift=0.2)
    rows = {"red": Row(segmenter=Red(), clip=True), **trivial_rows(which)}
    assert len(rows) == 8
    for name, result in compare(rows, pictures, which, split="test").items():
        assert result == foreground(rows[name], pictures, which, split="test")
    assert list(trivial_rows(Cases())) == ["all_foreground", "centre_ellipse", "otsu", "kmeans"]


def test_given_box_scores_its_exact_overlap_with_the_truth() -> None:
    row = trivial_rows(WINDOWS)["given_box"]
    assert foreground(row, Pictures(PAIR, ONE), WINDOWS, split="test").metrics["iou"] == 1
    labels = torch.zeros(60, 80, dtype=torch.int32)
    labels[12:28, 10:22] = 1  # the left half of the box
    half = Sample("half", PAIR.image, PAIR.boxes[:1], Instances(labels))
    assert foreground(row, Pictures(half), WINDOWS, split="test").metrics["iou"] == 0.5


def test_jitter_and_shift_depend_on_the_name_alone_and_stay_in_range() -> None:
    samples = [picture(f"p{i}", (20, 15, 60, 45)) for i in range(40)]
    plain = next(cases_of(Pictures(samples[0]), WINDOWS))
    which = Cases(windows="box", spec=SPEC, box_jitter=0.1, shift=0.2)
    cases = list(cases_of(Pictures(*samples), which))
    again = list(cases_of(Pictures(*reversed(samples)), which))[::-1]
    for case, same in zip(cases, again, strict=True):
        assert torch.equal(case.image, same.image)
        assert torch.equal(case.box, same.box)
    areas = np.array([case.inside.sum() for case in cases])
    assert areas.min() >= 0.8**2 * 0.95 * plain.inside.sum()
    assert areas.max() <= 1.2**2 * 1.05 * plain.inside.sum()
    assert areas.std() > 0.03 * areas.mean()
    shifted = list(cases_of(Pictures(*samples), Cases(windows="box", spec=SPEC, shift=0.2)))
    # Only horizontally: the window is as high as the picture.
    left = np.array([case.box[0].item() / 24 * 60 for case in shifted])
    assert np.abs(left - 10).max() <= 8.5
    assert left.std() > 3


def test_masks_without_instances_are_the_object_inside_its_box() -> None:
    near = picture("near", (10, 10, 30, 30), (32, 10, 52, 30))
    masked = Sample("near", near.image, near.boxes, Mask(near.truth.labels > 0))
    pictures = Pictures(masked, provides="images boxes masks")
    pairs = zip(cases_of(pictures, WINDOWS), cases_of(Pictures(near), WINDOWS), strict=True)
    for case, expected in pairs:
        assert (case.truth == expected.truth).all()


def test_batches_hold_consecutive_cases_of_one_size() -> None:
    samples = [PAIR] * 70 + [ONE] * 3 + [PAIR]
    sizes = [len(batch) for batch in batches(cases_of(Pictures(*samples), Cases()))]
    assert sizes == [64, 6, 3, 1]
    large = picture("large", (5, 5, 9, 9), size=(800, 800))
    assert [len(b) for b in batches(cases_of(Pictures(large, large), Cases()))] == [1, 1]


def test_what_cannot_be_scored_is_said_in_one_line() -> None:
    row = Row(segmenter=Red())
    with pytest.raises(ConfigError, match=r"pictures has no masks .*; it provides boxes, images"):
        foreground(row, Pictures(PAIR, provides="images boxes"), Cases(), split="test")
    with pytest.raises(ConfigError, match="no boxes for windows"):
        foreground(row, Pictures(PAIR, provides="images instances"), WINDOWS, split="test")
    with pytest.raises(DataError, match="nothing to score in pictures, split dev"):
        foreground(row, Pictures(picture("empty")), WINDOWS, split="dev")
    annotated = Sample("annotated", PAIR.image, truth=Annotations((PAIR.truth.labels,)))
    with pytest.raises(DataError, match="annotated has no mask"):
        foreground(row, Pictures(annotated), Cases(), split="test")
    with pytest.raises(ConfigError, match="needs a box"):
        foreground(trivial_rows(WINDOWS)["given_box"], Pictures(PAIR), Cases(), split="test")


@pytest.mark.parametrize(
    "wrong", [{"windows": "box"}, {"box_jitter": 0.5}, {"shift": -0.1}, {"limit": 0}]
)
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        Cases(**wrong)


def test_limit_takes_the_first_pictures() -> None:
    cases = cases_of(Pictures(PAIR, ONE), Cases(limit=1))
    assert [case.picture for case in cases] == ["pair"]
