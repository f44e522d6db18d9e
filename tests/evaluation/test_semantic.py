"""The semantic protocol against scikit-learn and brute force, and from pictures to scores."""

import io
import itertools
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn import metrics as oracle
from torch import Tensor

from segan.data.sample import Annotations, Classes, Instances, Mask, Sample
from segan.errors import ConfigError, DataError
from segan.evaluation.confusion import (
    Matching,
    adjusted_rand_index,
    class_counts,
    class_ious,
    confusion_matrix,
    match,
    normalised_mutual_information,
)
from segan.evaluation.results import table
from segan.evaluation.rows import Row
from segan.evaluation.semantic import control_rows, evaluate_semantic, learn_matchings
from segan.segmenter import PartitionSegmenter, Segmenter

NAMES = ("sky", "tree", "water", "road")


def random_confusion(seed: int, num_regions: int, num_classes: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 60, (num_regions, num_classes)) * generator.integers(
        0, 2, (num_regions, num_classes)
    )


def as_labels(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    regions, classes = np.indices(confusion.shape)
    return tuple(np.repeat(each.ravel(), confusion.ravel()) for each in (regions, classes))


# --- one confusion matrix ------------------------------------------------------------------------


def test_confusion_matrix_is_that_of_a_loop_and_leaves_void_out() -> None:
    generator = np.random.default_rng(0)
    labels, truth = generator.integers(0, 5, (9, 7)), generator.integers(-1, 3, (9, 7))
    expected = np.zeros((5, 3), int)
    for label, real in zip(labels.ravel(), truth.ravel(), strict=True):
        if real >= 0:
            expected[label, real] += 1
    found = confusion_matrix(labels, truth, num_regions=5, num_classes=3)
    assert np.array_equal(found, expected)
    assert found.sum() == (truth >= 0).sum() < truth.size
    void = confusion_matrix(labels, np.full_like(truth, -1), num_regions=5, num_classes=3)
    assert void.shape == (5, 3)
    assert not void.any()


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (6, 6), (5, 3), (3, 5), (1, 4), (6, 2)])
def test_matching_is_the_best_of_all_permutations(shape: tuple[int, int]) -> None:
    num_regions, num_classes = shape
    for seed in range(5):
        confusion = random_confusion(seed, *shape)
        padded = np.zeros((max(shape), max(shape)), int)
        padded[:num_regions, :num_classes] = confusion
        best = max(
            padded[np.arange(max(shape)), list(order)].sum()
            for order in itertools.permutations(range(max(shape)))
        )
        matching = match(confusion, split="test")
        hits = class_counts(confusion, matching.one_to_one).hits
        assert hits.sum() == best
        given = [each for each in matching.one_to_one if each >= 0]
        assert len(set(given)) == len(given) <= min(shape)
        many = class_counts(confusion, matching.many_to_one).hits
        assert many.sum() == confusion.max(axis=1).sum() >= best


def test_counts_and_ious_are_those_of_scikit_learn() -> None:
    confusion = random_confusion(3, 4, 4)
    matching = match(confusion, split="test")
    labels, truth = as_labels(confusion)
    predicted = np.array(matching.one_to_one)[labels]
    ious = class_ious(*class_counts(confusion, matching.one_to_one))
    expected = oracle.jaccard_score(truth, predicted, labels=range(4), average=None)
    np.testing.assert_allclose(ious, expected, atol=1e-15)


def test_regions_that_stand_for_nothing_are_wrong_but_of_no_class() -> None:
    confusion = np.array([[50, 0], [0, 20], [10, 20]])
    counts = class_counts(confusion, (0, 1, -1))
    assert counts.hits.tolist() == [50, 20]
    assert counts.truth.tolist() == [60, 40]
    assert counts.predicted.tolist() == [50, 20]
    assert class_ious(*counts).tolist() == [50 / 60, 20 / 40]
    assert match(confusion, split="dev") == Matching((0, 1, -1), (0, 1, 1), "dev")


def test_a_region_without_a_pixel_in_common_stands_for_nothing() -> None:
    confusion = np.array([[5, 3, 0], [0, 0, 0], [4, 2, 0]])
    matching = match(confusion, split="test")
    assert matching.one_to_one == (0, -1, 1)
    assert matching.many_to_one == (0, -1, 0)


def test_a_class_without_truth_has_no_iou_even_where_it_is_predicted() -> None:
    counts = class_counts(np.array([[5, 0], [3, 0]]), (0, 1))
    ious = class_ious(*counts)
    assert ious[0] == 5 / 8
    assert np.isnan(ious[1])


@pytest.mark.parametrize("shape", [(2, 2), (5, 5), (7, 3), (3, 7), (1, 4), (4, 1), (1, 1)])
def test_information_and_rand_index_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    for seed in range(5):
        confusion = random_confusion(seed, *shape)
        confusion[0, 0] += 1
        labels, truth = as_labels(confusion)
        expected = oracle.normalized_mutual_info_score(truth, labels)
        assert normalised_mutual_information(confusion) == pytest.approx(expected, abs=1e-12)
        expected = oracle.adjusted_rand_score(truth, labels)
        assert adjusted_rand_index(confusion) == pytest.approx(expected, abs=1e-12)


def test_information_and_rand_index_of_known_matrices() -> None:
    diagonal = np.diag([4, 9, 5])
    assert normalised_mutual_information(diagonal) == pytest.approx(1)
    assert adjusted_rand_index(diagonal) == 1
    independent = np.outer([1, 2, 3], [4, 5])
    assert normalised_mutual_information(independent) == pytest.approx(0, abs=1e-12)
    assert adjusted_rand_index(np.ones((2, 2), int)) == -0.5
    assert adjusted_rand_index(np.eye(3, dtype=int)) == 1  # every pixel by itself


def test_rand_index_of_more_pairs_than_64_bits_hold() -> None:
    small = np.array([[30, 7], [5, 58]])
    index = [adjusted_rand_index(small * 10**power) for power in (9, 10, 11)]
    assert index == pytest.approx([index[0]] * 3, abs=1e-9)
    shares = small / small.sum()
    together = (shares**2).sum()
    rows, columns = (shares.sum(axis=1) ** 2).sum(), (shares.sum(axis=0) ** 2).sum()
    limit = (together - rows * columns) / ((rows + columns) / 2 - rows * columns)
    assert index[-1] == pytest.approx(limit, abs=1e-9)


# --- from pictures to scores ---------------------------------------------------------------------


class Levels(Segmenter):
    """Region k where the red level is k times 50, in an order of choice."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.order = order

    def forward(self, images: Tensor) -> Tensor:
        labels = (images[:, 0] * 255 / 50).round().long()
        return torch.stack([(labels == level).float() for level in self.order], dim=1)


class Pictures:
    name = "pictures"
    box_source = ""
    class_names = NAMES

    def __init__(self, *samples: Sample, provides: str = "images classes") -> None:
        self.samples = samples
        self.provides = frozenset(provides.split())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def picture(name: str, levels: np.ndarray, truth: np.ndarray) -> Sample:
    image = torch.zeros(3, *levels.shape, dtype=torch.uint8)
    image[0] = torch.from_numpy(levels * 50)
    return Sample(name, image, None, Classes(torch.from_numpy(truth.astype(np.int32))))


def noisy_pictures(num_pictures: int = 6, seed: int = 0) -> list[Sample]:
    """Levels that are mostly the class, of pictures in which classes are unequally frequent."""
    generator = np.random.default_rng(seed)
    samples = []
    for index in range(num_pictures):
        size = tuple(generator.integers(8, 20, 2))
        truth = generator.choice(4, size, p=generator.dirichlet(np.full(4, 0.7)))
        noise = generator.integers(0, 4, size)
        levels = np.where(generator.random(size) < 0.7, truth, noise)
        void = generator.random(size) < 0.1
        samples.append(picture(f"p{index}", levels, np.where(void, -1, truth)))
    return samples


def score(segmenter: Segmenter, pictures: Pictures, **options):
    return evaluate_semantic({"x": Row(segmenter=segmenter)}, pictures, split="test", **options)[
        "x"
    ]


def test_scores_are_of_all_pixels_together_and_not_means_over_pictures() -> None:
    samples = noisy_pictures()
    result = score(Levels(), Pictures(*samples))
    truth = np.concatenate([each.truth.labels.numpy().ravel() for each in samples])
    labels = np.concatenate([each.image[0].numpy().ravel() // 50 for each in samples])
    labels, truth = labels[truth >= 0], truth[truth >= 0]
    ious = oracle.jaccard_score(truth, labels, average=None)
    assert result.metrics["miou"] == pytest.approx(ious.mean(), abs=1e-12)
    assert list(result.per_class) == list(NAMES)
    assert list(result.per_class.values()) == pytest.approx(ious)
    assert result.metrics["accuracy"] == pytest.approx((labels == truth).mean())
    expected = oracle.normalized_mutual_info_score(truth, labels)
    assert result.metrics["nmi"] == pytest.approx(expected)
    assert result.metrics["ari"] == pytest.approx(oracle.adjusted_rand_score(truth, labels))
    per_picture = np.mean([record["miou"] for record in result.records])
    assert abs(per_picture - result.metrics["miou"]) > 0.02
    assert list(result.metrics) == [
        *("miou", "accuracy", "nmi", "ari", "miou_many_to_one", "accuracy_many_to_one"),
    ]
    assert result.matching == "hungarian on test"
    assert (result.polarity, result.undefined, result.num_images) == ("matched", {}, 6)
    json.dumps(result.as_tree(), allow_nan=False)


def test_numbers_of_regions_change_nothing() -> None:
    pictures = Pictures(*noisy_pictures())
    expected = score(Levels(), pictures)
    for order in itertools.permutations(range(4)):
        found = score(Levels(order), pictures)
        assert found.metrics == pytest.approx(expected.metrics)
        assert found.per_class == expected.per_class
        assert found.records == expected.records


def test_void_pixels_count_nowhere() -> None:
    samples = noisy_pictures()
    changed = []
    for sample in samples:
        levels = sample.image[0].numpy() // 50
        truth = sample.truth.labels.numpy()
        changed.append(picture(sample.name, np.where(truth < 0, 3 - levels, levels), truth))
    void = picture("void", np.zeros((5, 5), int), np.full((5, 5), -1))
    assert score(Levels(), Pictures(*changed, void)) == score(Levels(), Pictures(*samples))
    with pytest.raises(DataError, match="nothing to score in pictures, split test"):
        score(Levels(), Pictures(void))


def test_more_regions_than_classes_lose_one_to_one_and_not_many_to_one() -> None:
    class Split(Levels):
        """The first region in two halves, left and right."""

        def forward(self, images: Tensor) -> Tensor:
            regions = super().forward(images)
            left = torch.arange(images.shape[-1]) < images.shape[-1] // 2
            first = regions[:, :1]
            return torch.cat([first * left, regions[:, 1:], first * ~left], dim=1)

    truth = np.repeat([[0, 0, 1, 1], [2, 2, 3, 3]], 10, axis=1)
    sample = picture("clean", np.where(truth == 0, 0, truth), truth)
    whole = np.zeros((2, 40), int)
    wide = picture("wide", whole, whole)
    result = score(Split(), Pictures(sample, wide))
    # Left: 20 of the clean picture and 40 of the wide one; right: 40.
    assert result.per_class["sky"] == pytest.approx(60 / 100)
    assert result.metrics["miou"] == pytest.approx((0.6 + 3) / 4)
    assert result.metrics["accuracy"] == pytest.approx(120 / 160)
    assert result.metrics["miou_many_to_one"] == 1
    assert result.metrics["accuracy_many_to_one"] == 1


def test_classes_that_do_not_occur_are_null_and_counted() -> None:
    truth = np.repeat([[0, 1]], 6, axis=1)
    result = score(Levels(), Pictures(picture("two", truth, truth)))
    assert result.per_class == {"sky": 1, "tree": 1, "water": None, "road": None}
    assert result.metrics["miou"] == 1
    assert result.undefined == {"miou": 2, "miou_many_to_one": 2}


def test_a_matching_of_another_split_is_kept() -> None:
    train, test = Pictures(*noisy_pictures(8, seed=1)), Pictures(*noisy_pictures(4, seed=2))
    rows = {"x": Row(segmenter=Levels((2, 0, 3, 1)))}
    matchings = learn_matchings(rows, train, split="train")
    assert matchings["x"].one_to_one == (2, 0, 3, 1)
    result = evaluate_semantic(rows, test, split="test", matchings=matchings)["x"]
    assert result.matching == "hungarian on train"
    assert result.metrics["miou"] == pytest.approx(score(Levels(), test).metrics["miou"])
    wrong = {"x": Matching((0, 2, 3, 1), (2, 2, 3, 1), "train")}
    result = evaluate_semantic(rows, test, split="test", matchings=wrong)["x"]
    assert result.metrics["accuracy"] < score(Levels(), test).metrics["accuracy"] - 0.1
    for bad in (Matching((0, 1), (0, 1), "train"), Matching((0, 1, 2, 3), (0, 1, 2, 9), "train")):
        with pytest.raises(ConfigError, match="matching of x is not one of 4 regions to 4 classes"):
            evaluate_semantic(rows, test, split="test", matchings={"x": bad})
    with pytest.raises(ConfigError, match="no matching was given for x"):
        evaluate_semantic(rows, test, split="test", matchings={})


def test_intervals_are_those_of_resampled_pictures_with_the_matching_as_it_is() -> None:
    samples = noisy_pictures(12)
    result = score(Levels(), Pictures(*samples))
    generator = np.random.default_rng(0)
    confusions = [
        confusion_matrix(
            each.image[0].numpy() // 50, each.truth.labels.numpy(), num_regions=4, num_classes=4
        )
        for each in samples
    ]
    draws = []
    for _ in range(2000):
        total = sum(confusions[index] for index in generator.integers(0, 12, 12))
        tp = total.diagonal()
        draws.append((tp / (total.sum(0) + total.sum(1) - tp)).mean())
    low, high = np.percentile(draws, [2.5, 97.5])
    assert result.intervals["miou"] == pytest.approx((low, high), abs=0.01)
    assert low < result.metrics["miou"] < high
    assert result.intervals["nmi"] is None
    one = score(Levels(), Pictures(samples[0]))
    assert one.intervals["miou"] == pytest.approx((one.metrics["miou"],) * 2)


class Red(Segmenter):
    foreground = 1

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([1 - images[:, 0], images[:, 0]], dim=1)


class Unnamed(Red):
    foreground = None


def masked(name: str, mask: np.ndarray, ignore: np.ndarray | None = None) -> Sample:
    image = torch.zeros(3, *mask.shape, dtype=torch.uint8)
    image[0] = torch.from_numpy(mask * 255)
    known = None if ignore is None else torch.from_numpy(ignore)
    return Sample(name, image, None, Mask(torch.from_numpy(mask), known))


def test_masks_are_two_classes_and_a_named_object_needs_no_matching() -> None:
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:6] = True
    ignore = np.zeros_like(mask)
    ignore[8:] = True
    sample = masked("one", mask, ignore)
    sample.image[0, 8:] = 255  # wrong where nothing is known
    sample.image[0, :2] = 255  # and 20 pixels of background
    pictures = Pictures(sample, provides="images masks")
    result = score(Red(), pictures)
    assert result.per_class == {"background": 44 / 64, "object": 16 / 36}
    assert (result.matching, result.polarity) == ("none", "named")
    assert list(result.metrics) == ["miou", "accuracy", "nmi", "ari"]
    matched = score(Unnamed(), pictures)
    assert matched.matching == "hungarian on test"
    assert matched.per_class == result.per_class
    # A named object that is mostly wrong stays wrong; unnamed regions are swapped.
    inverse = Sample("inverse", 255 - sample.image, None, sample.truth)
    pictures = Pictures(inverse, provides="images masks")
    assert score(Red(), pictures).metrics["accuracy"] == 20 / 80
    assert score(Unnamed(), pictures).metrics["accuracy"] == 60 / 80
    labels = torch.from_numpy(mask).int() * 7
    separate = Sample("one", masked("one", mask).image, None, Instances(labels))
    both = Pictures(separate, provides="images instances boxes")
    assert score(Red(), both).metrics["miou"] == 1


def test_a_named_object_is_one_of_many_classes_like_any_other_region() -> None:
    class Named(Levels):
        foreground = 3

    pictures = Pictures(*noisy_pictures())
    assert score(Named(), pictures).metrics == score(Levels(), pictures).metrics
    assert score(Named(), pictures).matching == "hungarian on test"


def test_probabilities_are_resampled_and_not_labels() -> None:
    seen = []

    class Spy(Red):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape[-2:]))
            return super().forward(images)

    mask = np.zeros((40, 60), bool)
    mask[10:30, 11:41] = True
    result = score(Spy(), Pictures(masked("a", mask), provides="images masks"), scale=0.25)
    assert seen == [(10, 15)]
    # Labels of four by four pixels could not end at columns 11 and 41.
    assert 0.97 < result.metrics["miou"] < 1
    assert result.window_options == {"scale": 0.25}
    assert score(Spy(), Pictures(masked("a", mask), provides="images masks")).metrics["miou"] == 1


def test_controls_are_what_they_say() -> None:
    samples = noisy_pictures(10)
    pictures = Pictures(*samples)
    rows = control_rows(pictures, 4)
    assert list(rows) == ["majority_oracle", "random", "colour_kmeans"]
    results = evaluate_semantic(rows, pictures, split="test")
    truth = np.concatenate([each.truth.labels.numpy().ravel() for each in samples])
    share = np.bincount(truth[truth >= 0]).max() / (truth >= 0).sum()
    assert results["majority_oracle"].metrics["accuracy"] == pytest.approx(share)
    assert results["majority_oracle"].metrics["miou"] == pytest.approx(share / 4)
    assert results["random"].metrics["ari"] == pytest.approx(0, abs=0.01)
    expected = score(Levels(), pictures).metrics
    assert results["colour_kmeans"].metrics == pytest.approx(expected)  # the colours are the levels


def test_every_row_scores_as_alone() -> None:
    pictures = Pictures(*noisy_pictures())
    rows = {"levels": Row(segmenter=Levels(), supervision="boxes"), **control_rows(pictures, 3)}
    for name, result in evaluate_semantic(rows, pictures, split="dev").items():
        assert result == evaluate_semantic({name: rows[name]}, pictures, split="dev")[name]
    assert evaluate_semantic(rows, pictures, split="dev", limit=2)["levels"].num_images == 2


def test_what_cannot_be_scored_is_said_in_one_line() -> None:
    sample = noisy_pictures(1)[0]
    with pytest.raises(ConfigError, match="pictures has no classes to score against; it provides"):
        score(Levels(), Pictures(sample, provides="images boxes"))
    with pytest.raises(DataError, match="bare has no classes to score against"):
        score(Levels(), Pictures(Sample("bare", sample.image)))
    annotated = Sample("annotated", sample.image, None, Annotations((sample.truth.labels,)))
    with pytest.raises(DataError, match="annotated has no classes"):
        score(Levels(), Pictures(annotated))
    mask = Sample("mask", sample.image, None, Mask(sample.truth.labels > 0))
    with pytest.raises(DataError, match="mask has no classes"):
        score(Levels(), Pictures(mask))
    for label in (4, -2):
        odd = picture("odd", np.zeros((3, 3), int), np.full((3, 3), label))
        with pytest.raises(DataError, match=f"odd: label {label} is no class of pictures"):
            score(Levels(), Pictures(odd))
    cut = Sample("cut", sample.image[:, 1:], None, sample.truth)
    with pytest.raises(DataError, match="cut: truth and picture differ in size"):
        score(Levels(), Pictures(cut))
    nameless = Pictures(sample)
    nameless.class_names = ()
    with pytest.raises(ConfigError, match="pictures has classes but no class_names"):
        score(Levels(), nameless)
    for options in ({"limit": 0}, {"scale": 0.0}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} is 0"):
            score(Levels(), Pictures(sample), **options)


def test_regions_without_a_fixed_number_cannot_be_matched() -> None:
    class Halves(PartitionSegmenter):
        def partition(self, image: Tensor) -> Tensor:
            return torch.zeros(image.shape[-2:], dtype=torch.int32)

    class Growing(Levels):
        def forward(self, images: Tensor) -> Tensor:
            regions = super().forward(images)
            return regions[:, : 2 + images.shape[-1] % 2]

    with pytest.raises(ConfigError, match="x cuts each picture by itself"):
        score(Halves(), Pictures(*noisy_pictures()))
    truth = np.zeros((4, 4), int)
    odd = np.zeros((4, 5), int)
    with pytest.raises(ConfigError, match="x gave 3 regions for odd and 2 before"):
        score(Growing(), Pictures(picture("even", truth, truth), picture("odd", odd, odd)))


def test_a_table_of_it_says_how_regions_were_matched_and_fits_a_terminal() -> None:
    pictures = Pictures(*noisy_pictures())
    results = evaluate_semantic(control_rows(pictures, 4), pictures, split="dev")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(results, title="pictures dev"))
    text = console.export_text()
    assert "matched: hungarian on dev" in text
    assert "ends at the box" not in text
    found = results["majority_oracle"]
    assert f"{found.metrics['miou']:.3f} [{found.intervals['miou'][0]:.3f}, " in text
    assert f"{found.metrics['accuracy']:.3f}" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
