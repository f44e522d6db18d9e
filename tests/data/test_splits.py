from collections import Counter

import pytest

from segan.data.splits import members, split_of


def test_splits_never_change() -> None:
    """From `printf NAME | sha256sum`: the first four digits over 16^4, against .6 and .8."""
    expected = {"0001": "train", "raccoon-1": "test", "photos/été 7": "dev", "112": "dev"}
    assert {name: split_of(name) for name in expected} == expected


def test_splits_are_60_20_20() -> None:
    counts = Counter(split_of(f"picture {i}") for i in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.6, abs=0.01)
    assert counts["dev"] / 20_000 == pytest.approx(0.2, abs=0.01)


def test_every_picture_is_in_one_split() -> None:
    names = [str(i) for i in range(100)]
    parts = [members(names, names, split) for split in ("train", "dev", "test")]
    together = sorted(i for part in parts for i in part)
    assert together == list(range(100)) == members(names, names, "all")


def test_exact_copies_go_with_the_first() -> None:
    names = [f"picture {i}" for i in range(50)]
    digests = ["same"] * 50
    expected = split_of("picture 0")
    assert members(names, digests, expected) == list(range(50))


def test_names_of_any_bytes_have_a_split() -> None:
    assert split_of("bytes \udcff\n") in ("train", "dev", "test")
