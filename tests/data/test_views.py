"""What cut-and-paste draws: an object's window, and one beside it that overlaps no object."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from segan.data.datasets.shapes import Shapes, ShapesConfig
from segan.data.sample import Sample
from segan.data.views import CutPasteView, ImageView, PairView, Placement, random_polygon
from segan.errors import ConfigError
from segan.segmenter import WindowSpec
from segan.windows import Window, boxes_to_mask, crop, window_around


class Pictures:
    """Samples in a list."""

    name = "pictures"
    provides = frozenset({"images", "boxes"})
    box_source = "annotated"

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def view(size: int = 16, placement: Placement = "uniform", context: float = 1.6) -> CutPasteView:
    return CutPasteView(WindowSpec(size=size, context=context), placement)


def coordinates(height: int, width: int) -> Tensor:
    """A picture whose red is its column and whose green its row."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    return torch.stack([columns, rows, torch.zeros_like(rows)])


def sample(size: tuple[int, int], *boxes: tuple[float, ...], name: str = "a") -> Sample:
    return Sample(name, coordinates(*size), torch.tensor(boxes).reshape(-1, 4).float())


def corner(image: Tensor) -> tuple[int, int]:
    """The column and row that a window at native resolution starts at."""
    column, row = (image[:2, 0, 0] * 255).round().tolist()
    return int(column), int(row)


def corner_of_any(image: Tensor) -> tuple[int, int]:
    """As `corner`, for windows that were shrunk a little."""
    column, row = (image[:2, 0, 0] * 255).floor().tolist()
    return int(column), int(row)


BUSY = sample((80, 100), (10, 10, 20, 20), (50, 40, 62, 50), (70.5, 5.25, 79, 11))


@pytest.mark.parametrize("placement", ["uniform", "scanline"])
def test_backgrounds_overlap_no_box(placement):
    boxes = BUSY.boxes
    assert boxes is not None
    for unit in range(3):
        window = view().window(BUSY, unit)
        assert window.width == window.height
        cutter = view(window.width, placement)
        for seed in range(60):
            item = cutter(BUSY, unit, np.random.default_rng(seed))
            x, y = corner(item.backgrounds)
            place = Window(x, y, x + window.width, y + window.height)
            assert place.x1 <= 100
            assert place.y1 <= 80
            assert torch.equal(item.backgrounds, crop(BUSY.image, place, window.width))
            for x0, y0, x1, y1 in boxes.tolist():
                assert x >= x1 or place.x1 <= x0 or y >= y1 or place.y1 <= y0


def test_uniform_places_cover_the_picture_and_scanline_keeps_the_row():
    window = view().window(BUSY, 1)
    uniform, scanline = view(window.width), view(window.width, "scanline")
    rows = {corner(uniform(BUSY, 1, np.random.default_rng(s)).backgrounds)[1] for s in range(200)}
    assert len(rows) > 20
    for seed in range(60):
        item = scanline(BUSY, 1, np.random.default_rng(seed))
        assert corner(item.backgrounds)[1] == window.y0 == corner(item.objects)[1]
    columns = {
        corner(scanline(BUSY, 1, np.random.default_rng(s)).backgrounds)[0] for s in range(60)
    }
    assert len(columns) > 10


def test_scanline_goes_elsewhere_when_its_row_is_full():
    crowded = sample((90, 40), (4, 10, 36, 30))
    window = view(context=1.1).window(crowded, 0)
    item = view(window.width, "scanline", context=1.1)(crowded, 0, np.random.default_rng(0))
    assert corner(item.backgrounds)[1] >= 30


def test_object_and_background_are_resampled_from_the_same_number_of_pixels():
    """On a picture of one slope, equal resampling gives equal slopes."""
    slope = torch.arange(100, dtype=torch.uint8)[None, None].expand(3, 80, 100).clone()
    picture = Sample("slope", slope, torch.tensor([[40.0, 30.0, 57.0, 44.0]]))
    item = view(16)(picture, 0, np.random.default_rng(0))
    objects, backgrounds = item.objects[0, 0].diff(), item.backgrounds[0, 0].diff()
    torch.testing.assert_close(objects, backgrounds, atol=1e-6, rtol=0)
    window = view(16).window(picture, 0)
    assert float(objects[2:-2].mean()) * 255 == pytest.approx(window.width / 16, rel=0.02)


def test_items_hold_what_they_say():
    item = view(16)(BUSY, 1, np.random.default_rng(3))
    window = window_around(torch.tensor([50.0, 40.0, 62.0, 50.0]), (80, 100), context=1.6)
    assert torch.equal(item.objects, crop(BUSY.image, window, 16))
    scale = 16 / window.width
    expected = torch.tensor([50.0, 40, 62, 50]) - torch.tensor([window.x0, window.y0] * 2)
    torch.testing.assert_close(item.boxes, expected * scale)
    for images in (item.objects, item.backgrounds):
        assert images.shape == (3, 16, 16)
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert item.jitter.shape == (3,)
    assert bool(((item.jitter >= 0) & (item.jitter < 1)).all())
    assert item.polygons.shape == (1, 16, 16)


def test_items_depend_on_their_generator_alone():
    def draw(seed: int) -> tuple[Tensor, ...]:
        return view(16)(BUSY, 0, np.random.default_rng(seed))

    first = draw(5)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(5), strict=True))
    assert not torch.equal(first[1], draw(6)[1])


def test_polygons_are_binary_and_vary():
    polygons = torch.stack([random_polygon(np.random.default_rng(s), 24) for s in range(80)])
    assert set(polygons.unique().tolist()) == {0.0, 1.0}
    areas = polygons.mean((1, 2, 3))
    assert float(areas.min()) < 0.05
    assert float(areas.max()) > 0.25
    assert 0.05 < float(areas.mean()) < 0.4


def test_objects_without_room_are_skipped_with_the_reason_and_counted():
    dataset = Pictures(
        [
            sample((60, 60), (5, 5, 15, 15), (0, 20, 60, 60), name="full"),
            sample((60, 60), (5, 5, 15, 15), name="roomy"),
            sample((60, 60), name="empty"),
        ]
    )
    units = view(16).units(dataset)
    assert units.items == [(0, 0), (1, 0)]
    assert units.skipped == ["full, box 2: no room for a background window beside the objects"]


# Two objects side by side and one apart; and one whose neighbour only shows in its own window.
PAIR = sample((80, 80), (10, 10, 20, 20), (21, 10, 31, 20), (60, 60, 70, 70), name="pair")
NEAR = sample((80, 80), (10, 10, 30, 30), (33, 18, 38, 23), name="near")
SPEC = WindowSpec(size=16, context=1.6)


def test_neighbours_can_be_avoided():
    dataset = Pictures([PAIR, NEAR])
    assert len(CutPasteView(SPEC, "uniform").units(dataset).items) == 5
    units = CutPasteView(SPEC, "uniform", neighbours="avoid").units(dataset)
    assert units.items == [(0, 2), (1, 1)]
    reason = "its window shows another object ('method.neighbours' is 'avoid')"
    boxes = ("pair, box 1", "pair, box 2", "near, box 1")
    assert units.skipped == [f"{box}: {reason}" for box in boxes]
    # A window that may be moved shows more: here the one of 5 x 5 pixels, beside one of 20 x 20.
    shifted = CutPasteView(SPEC, "uniform", neighbours="avoid", shift=0.5)
    assert shifted.units(dataset).items == [(0, 2)]


def test_hidden_is_the_neighbours_boxes_without_the_own():
    item = CutPasteView(SPEC, "uniform")(NEAR, 0, np.random.default_rng(0))
    window = CutPasteView(SPEC, "uniform").window(NEAR, 0)
    assert window == Window(4, 4, 36, 36)
    expected = torch.zeros(1, 16, 16)
    # Picture pixels 33 to 36 and 18 to 23, at half the resolution: centres at 0.5, 1.5, ...
    expected[:, 7:9, 14:16] = 1
    assert torch.equal(item.hidden, expected)
    overlapping = sample((80, 80), (10, 10, 30, 30), (20, 10, 36, 30))
    item = CutPasteView(SPEC, "uniform")(overlapping, 0, np.random.default_rng(0))
    own = boxes_to_mask(item.boxes[None], (16, 16))[0]
    assert float((item.hidden * own).sum()) == 0
    assert float(item.hidden.sum()) > 0
    for neighbours in ("show", "avoid"):
        shown = CutPasteView(SPEC, "uniform", neighbours=neighbours)
        assert float(shown(NEAR, 0, np.random.default_rng(0)).hidden.sum()) == 0
    assert float(CutPasteView(SPEC, "uniform")(PAIR, 2, np.random.default_rng(0)).hidden.sum()) == 0


def test_smaller_backgrounds_are_taken_only_where_the_full_size_has_no_room():
    spec = WindowSpec(size=16, context=1.0)
    crowded = sample((60, 60), (0, 0, 40, 40), name="crowded")
    roomy = sample((60, 60), (0, 0, 20, 20), name="roomy")
    strict = CutPasteView(spec, "uniform").units(Pictures([crowded, roomy]))
    assert strict.items == [(1, 0)]
    lenient = CutPasteView(spec, "uniform", smallest_background=0.4)
    assert lenient.units(Pictures([crowded, roomy])).items == [(0, 0), (1, 0)]
    # 40, 36, 32.4, ... pixels: the first that fits beside 40 of 60 pixels is 19, from 0.9^7 * 40.
    for seed in range(20):
        item = lenient(crowded, 0, np.random.default_rng(seed))
        x, y = corner_of_any(item.backgrounds)
        assert x >= 40 or y >= 40
        span = float((item.backgrounds[0, 0, -1] - item.backgrounds[0, 0, 0]) * 255)
        assert span == pytest.approx(19 - 19 / 16, abs=1)
    assert CutPasteView(spec, "uniform", smallest_background=0.5).units(
        Pictures([crowded, roomy])
    ).items == [(1, 0)]


def test_shift_moves_the_window_and_the_box_in_it():
    spec = WindowSpec(size=16, context=2)
    shifted = CutPasteView(spec, "uniform", shift=0.2)
    picture = sample((90, 90), (30, 30, 50, 50))
    centres = []
    for seed in range(40):
        item = shifted(picture, 0, np.random.default_rng(seed))
        centres.append((item.boxes[:2] + item.boxes[2:]) / 2 - 8)
    offsets = torch.stack(centres) * 40 / 16 / 20  # in box sides
    assert float(offsets.abs().max()) <= 0.2 + 0.05
    assert float(offsets.abs().max()) > 0.15
    assert float(offsets.std()) > 0.08


def test_pictures_smaller_than_the_window_are_skipped_and_counted():
    dataset = Pictures(
        [
            sample((15, 60), (1, 1, 5, 5), (20, 1, 25, 5), name="low"),
            sample((16, 60), (1, 1, 5, 5), name="enough"),
            sample((60, 9), (1, 1, 5, 5), name="narrow"),
        ]
    )
    units = view(16).units(dataset)
    assert units.items == [(1, 0)]
    assert units.skipped == [
        "low, box 1: 60 x 15 pixels are less than the window of 16",
        "low, box 2: 60 x 15 pixels are less than the window of 16",
        "narrow, box 1: 9 x 60 pixels are less than the window of 16",
    ]


def test_nothing_but_small_pictures_is_a_mistake_of_the_configuration():
    dataset = Pictures([sample((15, 60), (1, 1, 5, 5)), sample((12, 12), (1, 1, 5, 5))])
    with pytest.raises(ConfigError) as caught:
        view(16).units(dataset)
    assert str(caught.value) == (
        "every picture of pictures is smaller than the windows of 16 pixels ('method.size'); "
        "the largest has 15"
    )


@pytest.mark.parametrize(
    "box",
    [
        (30, 5, 30, 15),
        (30, 15, 40, 5),
        (-1, 5, 10, 15),
        (50, 5, 61, 15),
        (5, 5, 15, 60.5),
        (float("nan"), 5, 15, 20),
        (100, 100, 110, 110),
    ],
)
def test_boxes_that_do_not_lie_in_their_picture_are_refused_by_name(box):
    dataset = Pictures([sample((60, 60), (5, 5, 15, 15), box, name="x/y")])
    with pytest.raises(ConfigError) as caught:
        view(16).units(dataset)
    corners = ", ".join(f"{value:g}" for value in box)
    assert str(caught.value) == (
        f"x/y: box 2 ({corners}) does not lie inside its picture of 60 x 60 pixels"
    )


def test_nearly_every_object_of_the_default_world_has_room():
    units = view(48).units(Shapes(ShapesConfig(test_images=40), "dev"))
    assert len(units.items) > 60
    assert len(units.skipped) < 0.2 * len(units.items)


def test_image_view_shows_square_parts_at_one_scale():
    pictures = Pictures([Sample("a", coordinates(40, 60))])
    shown = ImageView(size=16, scale=0.5)
    assert shown.units(pictures).items == [(0, 0)]
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(20):
        (image,) = shown(pictures[0], 0, rng)
        assert image.shape == (3, 16, 16)
        # Two picture pixels to a network pixel, on either axis.
        steps = 255 * (image[0, :, 1:] - image[0, :, :-1])[2:-2, 2:-2]
        torch.testing.assert_close(steps, torch.full_like(steps, 2.0), atol=0.05, rtol=0)
        corners.add((round(float(image[0, 8, 8]), 3), round(float(image[1, 8, 8]), 3)))
    assert len(corners) > 10


def test_image_view_leaves_out_pictures_smaller_than_a_part():
    small, large = Sample("small", coordinates(20, 60)), Sample("large", coordinates(40, 40))
    found = ImageView(size=16, scale=0.5).units(Pictures([small, large]))
    assert found.items == [(1, 0)]
    assert found.skipped == [
        "small: 60 x 20 pixels, less than 32 ('method.size' over 'method.scale')"
    ]
    assert found.noun == "pictures"
    with pytest.raises(ConfigError, match="every picture of pictures is smaller than 32 pixels"):
        ImageView(size=16, scale=0.5).units(Pictures([small]))


def test_pair_view_draws_its_noise_with_the_part():
    sample = Sample("a", coordinates(40, 60))
    first, again = (PairView(16)(sample, 0, np.random.default_rng(3)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    draws = [PairView(16)(sample, 0, np.random.default_rng(seed)) for seed in range(200)]
    flips = torch.stack([draw.flip for draw in draws])
    assert set(flips.tolist()) == {0.0, 1.0}
    assert 0.35 < float(flips.mean()) < 0.65
    noise = torch.stack([torch.cat([draw.photometric, draw.geometric]) for draw in draws])
    assert -1 <= float(noise.min()) < -0.9
    assert 0.9 < float(noise.max()) < 1
