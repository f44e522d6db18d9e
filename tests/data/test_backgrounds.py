"""Object-free pictures: where they come from, and how views put them beside those with objects."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from segan import config
from segan.data.datasets.folder import Folder, FolderConfig
from segan.data.datasets.shapes import _LEVELS, Shapes, ShapesConfig, draw_picture
from segan.data.loading import Cached, Draws
from segan.data.sample import Sample, WithBackgrounds, backgrounds_of
from segan.data.scenes import BoxedSceneView, PictureSceneView, SceneView, doubts_about
from segan.errors import ConfigError
from segan.segmenter import WindowSpec
from segan.windows import Window, crop, overlaps


class Pictures:
    """Samples in a list, and object-free ones in another."""

    name = "pictures"
    provides = frozenset({"images", "boxes", "backgrounds"})
    box_source = "annotated"

    def __init__(self, samples: Sequence[Sample], backgrounds: Sequence[Sample] = ()) -> None:
        self.samples = samples
        if backgrounds:
            self.backgrounds = Pictures(backgrounds)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def flat(name: str, height: int, width: int, level: int) -> Sample:
    return Sample(name, torch.full((3, height, width), level, dtype=torch.uint8))


def noise(name: str, height: int, width: int, seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return Sample(name, image)


def draw(view: Any, dataset: Any, position: int = 0, index: int = 0, unit: int = 0) -> Any:
    view.units(dataset)
    return view(dataset[index], unit, np.random.default_rng(position))


def shapes(**options: Any) -> Shapes:
    tree = {"size": 48, "train_images": 4, "backgrounds": 3, **options}
    return Shapes(config.build(ShapesConfig, tree), "train")


def save(path: Path, seed: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def folder(root: Path, **options: object) -> Folder:
    return Folder(config.build(FolderConfig, {"root": str(root), **options}), "train")


# --- shapes --------------------------------------------------------------------------------------


def test_shapes_ground_is_a_pure_function_of_seed_and_index() -> None:
    first, again = shapes().backgrounds, shapes(train_images=9, backgrounds=8).backgrounds
    assert len(first) == 3
    for index in range(3):
        assert torch.equal(first[index].image, again[index].image)
    images = [first[i].image for i in range(3)] + [shapes(seed=1).backgrounds[0].image]
    assert len({image.numpy().tobytes() for image in images}) == 4


def test_shapes_ground_has_no_object_and_says_nothing_of_any() -> None:
    ground = shapes().backgrounds
    assert ground.provides == {"images"}
    for index in range(3):
        assert ground[index].boxes is None
        assert ground[index].truth is None
        assert ground[index].image.shape == (3, 48, 48)


def test_shapes_ground_is_the_ground_that_objects_are_drawn_on() -> None:
    """The number of objects is drawn after ground and distractors, which are thus the same."""
    level = _LEVELS["single"]
    image, labels = draw_picture(np.random.default_rng(3), level, 64)
    ground, none = draw_picture(np.random.default_rng(3), replace(level, objects=(0, 0)), 64)
    assert labels.any()
    assert not none.any()
    difference = np.abs(image.astype(int) - ground).max(2)
    assert difference[labels > 0].mean() > 3 * difference[labels == 0].mean()


def test_shapes_without_ground_do_not_provide_it() -> None:
    assert "backgrounds" in shapes().provides
    none = shapes(backgrounds=0)
    assert "backgrounds" not in none.provides
    assert not isinstance(none, WithBackgrounds)


# --- folders -------------------------------------------------------------------------------------


def test_a_second_folder_holds_the_backgrounds_wherever_it_lies(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "all" / f"{i}.png", i)
        save(tmp_path / "all" / "empty" / "deep" / f"{i}.jpg", 10 + i, (40, 30))
    found = folder(tmp_path / "all", backgrounds=str(tmp_path / "all" / "empty"))
    assert found.provides == {"images", "backgrounds"}
    assert [found[i].name for i in range(len(found))] == ["0", "1", "2"]
    empty = backgrounds_of(found)
    assert [empty[i].name for i in range(3)] == ["deep/0", "deep/1", "deep/2"]
    assert empty[0].image.shape == (3, 30, 40)
    assert not isinstance(folder(tmp_path / "all"), WithBackgrounds)


def test_backgrounds_do_not_follow_the_split(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / "a" / f"{i}.png", i)
        save(tmp_path / "b" / f"{i}.png", 100 + i)
    found = folder(tmp_path / "a", backgrounds=str(tmp_path / "b"), split=True)
    assert len(found) < 30
    assert len(found.backgrounds) == 30


@pytest.mark.parametrize("other", ["a", "a/../a", "."])
def test_the_same_folder_twice_is_refused_in_one_line(tmp_path: Path, other: str) -> None:
    save(tmp_path / "a" / "0.png")
    with pytest.raises(ConfigError, match=r"data\.backgrounds: .* (is|holds) data\.root") as caught:
        folder(tmp_path / "a", backgrounds=str(tmp_path / other))
    assert "\n" not in str(caught.value)


def test_copies_of_pictures_with_objects_are_left_out(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "a" / f"{i}.png", i)
    save(tmp_path / "b" / "same.bmp", 1)
    save(tmp_path / "b" / "own.png", 7)
    found = folder(tmp_path / "a", backgrounds=str(tmp_path / "b"))
    assert [found.backgrounds[i].name for i in range(len(found.backgrounds))] == ["own"]
    skipped = [(name, reason.rpartition(" ")[2]) for name, reason in found.skipped]
    assert skipped == [(f"{tmp_path / 'b'}/same", "1")]
    (tmp_path / "b" / "own.png").unlink()
    with pytest.raises(ConfigError, match="all 1 pictures in"):
        folder(tmp_path / "a", backgrounds=str(tmp_path / "b"))


def test_missing_and_empty_folders_of_backgrounds_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "0.png")
    (tmp_path / "none").mkdir()
    for name in ("gone", "none"):
        with pytest.raises(ConfigError, match=rf"data\.backgrounds: .*{name}"):
            folder(tmp_path / "a", backgrounds=str(tmp_path / name))


def test_gray_backgrounds_are_read_as_colour(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "a" / f"{i}.png", i)
    save(tmp_path / "b" / "0.png", 9, mode="L")
    item = draw(SceneView(16), folder(tmp_path / "a", backgrounds=str(tmp_path / "b")))
    assert item.backgrounds.shape == (3, 16, 16)


# --- the view ------------------------------------------------------------------------------------


def test_roles_come_from_their_own_sets() -> None:
    dataset = Pictures(
        [flat("a", 32, 32, 10), flat("b", 40, 32, 20), flat("c", 32, 50, 30)],
        [flat("a", 64, 32, 200), flat("d", 33, 48, 210)],
    )
    seen: dict[str, set[int]] = {"backgrounds": set(), "others": set()}
    for position in range(40):
        item = draw(SceneView(16, 0.5), dataset, position, index=position % 3)
        assert torch.equal(item.images * 255, torch.full((3, 16, 16), 10.0 * (position % 3 + 1)))
        for role, levels in seen.items():
            levels.add(round(float(getattr(item, role).mean() * 255)))
        assert round(float(item.others.mean() * 255)) != 10 * (position % 3 + 1)
    assert seen == {"backgrounds": {200, 210}, "others": {10, 20, 30}}


def test_parts_at_one_scale_are_crops() -> None:
    dataset = Pictures([noise("a", 40, 60, 0), noise("b", 40, 60, 1)], [noise("c", 90, 33, 2)])
    item = draw(SceneView(16, 0.5), dataset)
    assert_is_part(item.images, dataset[0].image, 32)
    assert_is_part(item.others, dataset[1].image, 32)
    assert_is_part(item.backgrounds, dataset.backgrounds[0].image, 32)


def test_without_a_scale_parts_are_the_largest_squares_resampled_alike() -> None:
    dataset = Pictures(
        [noise("a", 40, 60, 0), noise("b", 30, 20, 1)],
        [noise("c", 90, 55, 2)],
    )
    view = SceneView(16, None)
    item = draw(view, dataset)
    assert_is_part(item.images, dataset[0].image, 40)
    assert_is_part(item.backgrounds, dataset.backgrounds[0].image, 40)
    assert_is_part(item.others, dataset[1].image, 20)
    assert view.scale == pytest.approx(16 / 30)


def assert_is_part(part: Tensor, image: Tensor, side: int) -> None:
    """It is a square of that side from somewhere in the picture."""
    _, height, width = image.shape
    corners = [(x, y) for x in range(width - side + 1) for y in range(height - side + 1)]
    crops = (crop(image, Window(x, y, x + side, y + side), part.shape[-1]) for x, y in corners)
    assert any(torch.equal(part, found) for found in crops)


def test_mirrored_parts_are_mirrored_half_of_the_time() -> None:
    dataset = Pictures([noise("a", 16, 16, 0), noise("b", 16, 16, 1)], [noise("c", 16, 16, 2)])
    whole = {"images": dataset[0].image, "backgrounds": dataset.backgrounds[0].image}
    for mirror in (False, True):
        items = [draw(SceneView(16, mirror=mirror), dataset, position) for position in range(40)]
        for role, image in whole.items():
            same = sum(torch.equal(getattr(item, role), image / 255) for item in items)
            turned = sum(torch.equal(getattr(i, role), image.flip(-1) / 255) for i in items)
            assert same + turned == 40
            assert 8 < same < 32 if mirror else same == 40


def test_an_item_depends_on_its_generator_alone() -> None:
    dataset = shapes()
    first, again, third = (draw(SceneView(24, 0.5), dataset, seed) for seed in (5, 5, 6))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.jitter, third.jitter)
    assert all(0 <= float(v.min()) <= float(v.max()) <= 1 for v in first[:-1])
    assert set(first.polygons.unique().tolist()) <= {0.0, 1.0}


def test_fewer_pictures_than_a_batch_are_drawn_again() -> None:
    dataset = Cached(
        Pictures([flat("a", 16, 16, 1), flat("b", 16, 16, 2)], [flat("c", 16, 16, 3)]), 8
    )
    view = SceneView(16)
    draws = Draws(dataset, view, view.units(dataset), seed=0)
    levels = [round(float(draws[i].images.mean() * 255)) for i in range(8)]
    assert sorted(levels) == [1] * 4 + [2] * 4


def test_small_pictures_of_both_sets_are_left_out_and_counted() -> None:
    dataset = Pictures(
        [flat("a", 32, 32, 1), flat("b", 31, 99, 1), flat("c", 40, 40, 1)],
        [flat("d", 99, 20, 2), flat("e", 32, 32, 2)],
    )
    units = SceneView(16, 0.5).units(dataset)
    assert units.items == [(0, 0), (2, 0)]
    assert [line.partition(":")[0] for line in units.skipped] == ["b", "d"]


@pytest.mark.parametrize(
    ("scale", "sides", "problem"),
    [
        (
            0.5,
            (40, 9, 40),
            r"^pictures of pictures: 1 of 2 with sides of 32 .* or raise the scale$",
        ),
        (0.5, (40, 40, 20), "^object-free pictures of pictures: 0 of 1 with sides of 32 pixels"),
        (None, (40, 9, 40), r"16 pixels or more \('method\.size'\), at least 2 .*; lower it$"),
    ],
)
def test_too_few_large_pictures_are_one_clear_line(scale, sides, problem) -> None:
    first, second, ground = (flat(str(n), side, side, 1) for n, side in enumerate(sides))
    with pytest.raises(ConfigError, match=problem) as caught:
        SceneView(16, scale).units(Pictures([first, second], [ground]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("view", "least"), [(SceneView, 2), (PictureSceneView, 3)])
def test_where_there_are_too_few_pictures_no_size_helps_and_more_of_them_do(view, least) -> None:
    samples = [flat(str(level), 40, 40, level) for level in range(least)]
    ground = [flat("ground", 40, 40, 9)]
    view(16).units(Pictures(samples, ground))
    expected = (
        f"pictures of pictures: {least - 1} in all, at least {least} make a scene; add pictures"
    )
    with pytest.raises(ConfigError) as caught:
        view(16).units(Pictures(samples[1:], ground))
    assert str(caught.value) == expected


def test_a_scene_of_one_set_is_of_three_different_pictures() -> None:
    """A picture pasted onto itself looks real whatever its mask."""
    dataset = Pictures([flat(str(level), 20, 20, level) for level in (10, 20, 30)])
    view, orders = PictureSceneView(16), set()
    for position in range(60):
        item = draw(view, dataset, position, index=position % 3)
        parts = (item.images, item.backgrounds, item.others)
        orders.add(tuple(round(float(part.mean() * 255)) for part in parts))
    assert orders == set(itertools.permutations((10, 20, 30)))


def test_pictures_of_the_same_set_can_stand_for_backgrounds() -> None:
    """No second set is needed; a picture that is too small is named once."""
    samples = [flat(str(level), 20, 20, level) for level in (10, 20, 30)]
    dataset = Pictures([*samples, flat("small", 8, 8, 0)])
    view = PictureSceneView(16)
    units = view.units(dataset)
    assert units.items == [(0, 0), (1, 0), (2, 0)]
    assert len(units.skipped) == 1
    found = {round(float(draw(view, dataset, n).backgrounds.mean() * 255)) for n in range(20)}
    assert found == {20, 30}
    assert view.needs == {"images"}


def test_cached_backgrounds_are_decoded_once() -> None:
    class Counting(Pictures):
        reads = 0

        def __getitem__(self, index: int) -> Sample:
            Counting.reads += 1
            return super().__getitem__(index)

    dataset = Pictures([flat("a", 16, 16, 1), flat("b", 16, 16, 2)])
    dataset.backgrounds = Counting([flat("c", 16, 16, 3)])
    cached = Cached(dataset, 8)
    view = SceneView(16)
    draws = Draws(cached, view, view.units(cached), seed=0)
    assert [round(float(draws[i].backgrounds.mean() * 255)) for i in range(4)] == [3] * 4
    assert Counting.reads == 1


# --- windows as backgrounds ----------------------------------------------------------------------


def boxed(name: str, seed: int, *boxes: tuple[float, ...]) -> Sample:
    return Sample(name, noise(name, 60, 70, seed).image, torch.tensor(boxes).float().reshape(-1, 4))


def test_object_free_windows_come_from_another_picture_and_overlap_no_box() -> None:
    first = boxed("a", 0, (5, 5, 15, 15))
    second = boxed("b", 1, (30, 30, 40, 40), (2, 3, 9, 11))
    view = BoxedSceneView(WindowSpec(size=16, context=1.6))
    assert view.needs == {"images", "boxes"}
    for position in range(20):
        item = draw(view, Pictures([first, second]), position)
        sides = {unit: view.windows.window(second, unit).width for unit in (0, 1)}
        (place,) = {
            Window(x, y, x + side, y + side)
            for side in sides.values()
            for x in range(70 - side + 1)
            for y in range(60 - side + 1)
            if torch.equal(
                item.backgrounds, crop(second.image, Window(x, y, x + side, y + side), 16)
            )
        }
        assert second.boxes is not None
        assert not overlaps(place, second.boxes).any()


def test_windows_need_two_pictures() -> None:
    view = BoxedSceneView(WindowSpec(size=16, context=1.6))
    with pytest.raises(ConfigError, match="at least two pictures"):
        view.units(Pictures([boxed("a", 0, (5, 5, 15, 15), (30, 30, 40, 40))]))


# --- doubts --------------------------------------------------------------------------------------


def test_ground_of_the_same_world_raises_no_doubt() -> None:
    assert doubts_about(shapes(level="single", size=64, train_images=60, backgrounds=60)) == []


def test_a_second_set_with_objects_is_noticed_without_labels() -> None:
    dataset = shapes(level="single", size=64, train_images=60)
    dataset.backgrounds = shapes(level="single", size=64, train_images=60, seed=4)  # type: ignore
    (doubt,) = doubts_about(dataset)
    assert "make sure that they hold no objects" in doubt
    assert "\n" not in doubt


def test_a_set_from_elsewhere_is_noticed() -> None:
    dataset = shapes(level="single", train_images=30)
    gray = [torch.full((3, 30, 50), 200 + i, dtype=torch.uint8) for i in range(30)]
    dataset.backgrounds = Pictures([Sample(str(i), g) for i, g in enumerate(gray)])  # type: ignore
    doubts = doubts_about(dataset)
    assert {word for word in ("brightness", "saturation", "sharpness") if word in " ".join(doubts)}
    assert len(doubts) == 3


def test_few_pictures_are_not_judged() -> None:
    dataset = shapes(train_images=19, backgrounds=40)
    dataset.backgrounds = shapes(train_images=40)  # type: ignore
    assert doubts_about(dataset) == []
