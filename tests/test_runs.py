"""What a run records about its data."""

import numpy as np
import torch

from segan.data.loading import Cached
from segan.data.sample import Sample
from segan.data.views import CutPasteView, Units
from segan.runs import _fingerprint, _whole_picture_scale
from segan.segmenter import WindowSpec


class Growing:
    """Blank pictures of 100 x 100 with one box each, of 10, 11, 12, ... pixels by 20."""

    name = "growing"
    provides = frozenset({"images", "boxes"})
    box_source = "procedural"

    def __init__(self, count: int, *, first: int = 10) -> None:
        self.count = count
        self.first = first
        self.reads = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        box = torch.tensor([[40.0, 40, 40 + self.first + index % 40, 60]])
        return Sample(str(index), torch.zeros(3, 100, 100, dtype=torch.uint8), box)


class Windowed:
    """As much of a method as is looked at."""

    window = WindowSpec(size=30, context=1.0, square=False)
    view = CutPasteView(window, "uniform")


BOXES = CutPasteView.needs


def units(dataset: Growing) -> Units:
    return Units([(index, 0) for index in range(len(dataset))], [])


def test_scale_of_whole_pictures_is_the_median_over_width_and_height_of_all_windows():
    dataset = Growing(40)
    found = _whole_picture_scale(Windowed(), Cached(dataset, 0), units(dataset))
    scales = [30 / np.sqrt(side * 20) for side in range(10, 50)]
    assert np.isclose(found.scale, np.median(scales))


def test_scale_looks_at_windows_from_all_over_a_large_set(monkeypatch):
    monkeypatch.setattr("segan.runs._MOST_WINDOWS", 10)
    dataset = Growing(40)
    found = _whole_picture_scale(Windowed(), Cached(dataset, 0), units(dataset))
    assert dataset.reads == 10
    assert np.isclose(found.scale, np.median([30 / np.sqrt(s * 20) for s in range(10, 50, 4)]))


def test_fingerprint_is_of_names_sizes_and_boxes_and_reads_each_picture_once():
    dataset = Growing(5)
    cached = Cached(dataset, 0)
    first = _fingerprint(cached, units(dataset), BOXES)
    assert _fingerprint(cached, units(dataset), BOXES) == first
    assert dataset.reads == 5
    assert _fingerprint(Cached(Growing(5), 1), units(dataset), BOXES) == first
    assert _fingerprint(Cached(Growing(5, first=11), 0), units(dataset), BOXES) != first
    assert _fingerprint(cached, units(Growing(4)), BOXES) != first
