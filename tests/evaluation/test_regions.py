"""Region scores against naive references and the official program's printed digits."""

import json
from dataclasses import astuple
from pathlib import Path

import bench_fixtures as bench
import numpy as np
import pytest
from skimage.measure import label
from skimage.metrics import variation_of_information as reference_vi
from sklearn.metrics import rand_score

from segan.cli import main
from segan.evaluation.hierarchies import Hierarchy, Partitions, label_maps
from segan.evaluation.regions import (
    RegionScores,
    contingency,
    numbered,
    rand_index,
    region_curves,
    score_regions,
    summarise_regions,
    variation_of_information,
)


def random_maps(seed: int, *, num: int, size=(13, 17), regions: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, regions, size).astype(np.int32) for _ in range(num)]


def naive_covering(people: list[np.ndarray], scales: list[np.ndarray]) -> tuple[list, float, int]:
    """Sums of |R| max_S IoU per scale, with each region's best scale, and of |R|; R > 0."""
    sums, best, area = [0.0] * len(scales), 0.0, 0
    for truth in people:
        for region in set(truth.ravel().tolist()) - {0}:
            here = truth == region
            ious = [
                max((here & (m == s)).sum() / (here | (m == s)).sum() for s in np.unique(m))
                for m in scales
            ]
            sums = [old + here.sum() * iou for old, iou in zip(sums, ious, strict=True)]
            best += here.sum() * max(ious)
            area += int(here.sum())
    return sums, best, area


@pytest.mark.parametrize("regions", [2, 6, 200])
def test_rand_index_and_variation_equal_their_references(regions):
    for seed in range(5):
        first, second = random_maps(seed, num=2, regions=regions)
        table = contingency(first, second)
        assert rand_index(table) == pytest.approx(rand_score(first.ravel(), second.ravel()))
        expected = sum(reference_vi(first, second))
        assert variation_of_information(table) == pytest.approx(expected, abs=1e-12)


def test_covering_equals_brute_force_and_leaves_out_the_truths_label_0():
    people = random_maps(0, num=3)
    people[1][:4] = 0
    scales = random_maps(1, num=4)
    scores = score_regions(Partitions(tuple(scales)), people)
    sums, best, area = naive_covering(people, scales)
    assert scores.covering == pytest.approx(sums)
    assert scores.covering_best == pytest.approx(best)
    assert scores.area == area == 3 * 13 * 17 - 4 * 17


def test_pixels_that_a_person_left_out_count_in_no_pair():
    people, scales = random_maps(0, num=2), random_maps(1, num=1)
    people[1][:4] = 0
    scores = score_regions(Partitions(tuple(scales)), people)
    kept = [(people[0], scales[0]), (people[1][4:], scales[0][4:])]
    expected = [rand_score(a.ravel(), b.ravel()) for a, b in kept]
    assert scores.rand[0] == pytest.approx(np.mean(expected))
    expected = [sum(reference_vi(a, b)) for a, b in kept]
    assert scores.variation[0] == pytest.approx(np.mean(expected))


def test_large_numbers_of_regions_leave_0_alone():
    truth = np.array([[0, 0, 1000, 1000], [7, 7, 1000, 1000]])
    assert numbered(truth).tolist() == [[0, 0, 2, 2], [1, 1, 2, 2]]
    two = np.array([[1, 1000], [1, 1000]])
    small = np.array([[1, 2], [1, 2]])
    found, expected = (score_regions(Partitions((small,)), [people]) for people in (two, small))
    assert (found.area, found.covering) == (expected.area, expected.covering) == (4, 4)


def test_a_table_is_the_same_whether_counted_or_sorted():
    first, second = random_maps(3, num=2, size=(20, 20), regions=400)  # too many pairs to count
    table = contingency(first, second)
    dense = np.zeros((first.max() + 1, second.max() + 1), int)
    np.add.at(dense, (first, second), 1)
    assert np.array_equal(dense[table.rows, table.columns], table.shared)
    assert table.shared.sum() == first.size
    assert (table.shared > 0).all()


def test_scores_do_not_depend_on_how_regions_are_numbered():
    people, scales = random_maps(0, num=2), random_maps(1, num=2)
    before = score_regions(Partitions(tuple(scales)), people)
    renumbered = tuple(np.int32(10**9) - 7 * labels for labels in scales)
    after = score_regions(Partitions(renumbered), people)
    assert np.array_equal(before.rand, after.rand)
    assert before.covering == pytest.approx(after.covering)
    assert before.variation == pytest.approx(after.variation)
    assert numbered(renumbered[0]).max() < 10


def test_the_truth_itself_scores_perfectly_and_one_region_has_closed_forms():
    (truth,) = random_maps(0, num=1, size=(10, 10), regions=3)
    halves = np.repeat(np.int32([1, 2]), 50).reshape(10, 10)
    perfect = score_regions(Partitions((truth,)), [truth, truth])
    assert perfect.covering[0] == pytest.approx(perfect.area)
    assert perfect.rand[0] == 1
    assert perfect.variation[0] == pytest.approx(0, abs=1e-12)
    whole = score_regions(Partitions((np.zeros((10, 10), np.int32),)), [halves])
    assert whole.covering[0] / whole.area == 0.5
    assert whole.rand[0] == pytest.approx(2 * 50 * 49 / (100 * 99))
    assert whole.variation[0] == pytest.approx(1)


def test_covering_is_pooled_over_pictures_and_people_before_dividing():
    small = score_regions(
        Partitions((np.zeros((2, 4), np.int32),)), [np.repeat(np.int32([1, 2]), 4).reshape(2, 4)]
    )
    large = score_regions(Partitions((np.ones((20, 4), np.int32),)), [np.ones((20, 4), np.int32)])
    assert region_curves([small, large]).covering[0] == pytest.approx((4 + 80) / 88)


def test_ods_ois_and_best_choose_their_scales_as_named():
    pictures = [
        score_regions(Partitions(tuple(random_maps(s, num=5))), random_maps(s + 50, num=3))
        for s in range(4)
    ]
    found = summarise_regions(pictures)
    covering = np.array([p.covering for p in pictures]).sum(0) / sum(p.area for p in pictures)
    assert found.metrics["covering_ods"] == pytest.approx(covering.max())
    assert found.best["covering_ods"] == covering.argmax()
    own = sum(p.covering.max() for p in pictures) / sum(p.area for p in pictures)
    assert found.metrics["covering_ois"] == pytest.approx(own)
    assert found.metrics["vi_ods"] == pytest.approx(
        np.mean([p.variation for p in pictures], axis=0).min()
    )
    assert found.metrics["pri_ois"] == pytest.approx(np.mean([p.rand.max() for p in pictures]))
    order = [found.metrics[f"covering_{name}"] for name in ("ods", "ois", "best")]
    assert order == sorted(order)
    for name, (low, high) in found.intervals.items():
        assert low <= found.metrics[name] <= high


def test_a_hierarchy_is_cut_into_8_connected_pieces():
    rng = np.random.default_rng(0)
    strength = rng.choice(np.linspace(0, 1, 7), (2 * 9 + 1, 2 * 12 + 1)) ** 2
    strength[1::2, 1::2] = 0
    maps = list(label_maps(Hierarchy(strength), num_thresholds=9))
    assert len(maps) == 9
    for threshold, found in zip(np.arange(1, 10) / 10, maps, strict=True):
        expected = label(strength <= threshold, connectivity=2)[1::2, 1::2]
        assert rand_score(found.ravel(), expected.ravel()) == 1


# --- the official program's figures --------------------------------------------------------------


def as_in_text(scores: RegionScores) -> RegionScores:
    """Scores as they are read back from a file of six digits."""
    rounded = [np.vectorize(lambda v: float(f"{v:g}"))(value) for value in astuple(scores)]
    return RegionScores(*rounded)


@pytest.mark.parametrize(
    ("test", "kind"), [("test_1", "ucm2"), ("test_4", "segs"), ("test_5", "segs")]
)
def test_every_printed_digit_of_the_official_program(test, kind):
    """The program passes each picture's sums on in text files of six digits, and so do we here.

    Without that some last digits differ: .725073 for .725074.
    """
    pictures = [
        as_in_text(
            score_regions(bench.prediction(name, kind), bench.people(name), num_thresholds=5)
        )
        for name in bench.names()
    ]
    curves, found = region_curves(pictures), summarise_regions(pictures).metrics
    assert bench.same_digits(curves.covering, bench.printed(test, "eval_cover_th")[:, 1])
    assert bench.same_digits(
        np.stack([curves.rand, curves.variation], axis=1),
        bench.printed(test, "eval_RI_VOI_thr")[:, 1:],
    )
    own = [p.covering.max() / p.area for p in pictures]
    assert bench.same_digits(own, bench.printed(test, "eval_cover_img")[:, 2])
    names = ("covering_ods", "covering_ois", "covering_best")
    assert bench.same_digits([found[n] for n in names], bench.printed(test, "eval_cover")[:, 1:])
    assert bench.same_digits(
        [found[n] for n in ("pri_ods", "pri_ois", "vi_ods", "vi_ois")],
        bench.printed(test, "eval_RI_VOI")[:, [1, 2, 4, 5]],
    )


def test_the_command_gives_the_official_figures_for_a_folder_of_predictions(tmp_path: Path):
    source = bench.bench_data()
    for folder, official in (("images", "images"), ("groundTruth", "groundTruth")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "val").symlink_to(source / official)
    out = tmp_path / "out.json"
    arguments = [
        *("evaluate", str(source / "segs"), "--data", "bsds500", "--root", str(tmp_path)),
        *("--split", "dev", "--protocol", "regions", "--workers", "2", "--json", str(out)),
    ]
    assert main(arguments) == 0
    tree = json.loads(out.read_text())
    expected = {
        "covering_ods": 0.654023,
        "covering_ois": 0.725074,
        "covering_best": 0.749811,
        "pri_ods": 0.826926,
        "pri_ois": 0.898299,
        "vi_ods": 1.36877,
        "vi_ois": 1.11563,
    }
    assert {name: float(f"{value:g}") for name, value in tree["metrics"].items()} == pytest.approx(
        expected, abs=1.01e-6
    )
    assert tree["best_scales"] == {"covering_ods": 2, "pri_ods": 1, "vi_ods": 2}
    assert tree["num_images"] == 5
    assert tree["supervision"] == {"train": "unknown", "test": "none"}
