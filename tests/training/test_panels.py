import cv2
import numpy as np
import pytest
import torch
from tiny import trainer

from segan.methods.base import Preview
from segan.training.panels import panel, write_png


def preview(*, count: int = 5, composites: bool = True, size: int = 16) -> Preview:
    images = torch.full((count, 3, size, size), 0.25)
    masks = torch.zeros(count, 1, size, size)
    masks[:, :, 4:12, 4:12] = 1
    return Preview(images, masks, 1 - images if composites else None)


@pytest.mark.parametrize(("composites", "rows"), [(True, 4), (False, 3)])
def test_panel_has_a_column_per_window_and_a_row_per_kind(composites, rows):
    picture = panel(preview(composites=composites), columns=4, tile=32)
    assert picture.dtype == np.uint8
    assert picture.shape == (rows * (32 + 2), 4 * (32 + 2), 3)
    tiles = picture.reshape(rows, 34, 4, 34, 3).transpose(0, 2, 1, 3, 4)
    assert (tiles[0, :, :32, :32] == 64).all()
    assert (tiles[1, :, 8:24, 8:24] == 255).all()
    assert (tiles[1, :, :8, :32] == 0).all()
    if composites:
        assert (tiles[2, :, :32, :32] == 191).all()
    # The outline runs along the mask's edge; far from it the picture shows through.
    assert (tiles[-1, 0, :32, :32] != 64).any()
    assert (tiles[-1, 0, :2, :2] == 64).all()


@pytest.mark.parametrize(("composites", "rows"), [(True, 3), (False, 2)])
def test_panel_of_regions_shows_them_and_what_was_composed(composites, rows):
    shown = preview(composites=composites)
    regions = torch.cat([1 - shown.masks, shown.masks], dim=1)
    picture = panel(shown._replace(masks=regions), columns=4, tile=32)
    assert picture.shape == (rows * (32 + 2), 4 * (32 + 2), 3)
    assert (picture[:32, :32] == 64).all()
    assert (picture[34 + 16, 16] != picture[34, 0]).any()
    if composites:
        assert (picture[68:100, :32] == 191).all()


def test_panel_of_fewer_windows_than_columns_is_narrower():
    assert panel(preview(count=2), columns=12, tile=32).shape[1] == 2 * 34


def test_written_png_keeps_its_colours(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[..., 0] = 200
    write_png(tmp_path / "samples" / "a.png", picture)
    read = cv2.imread(str(tmp_path / "samples" / "a.png"))
    assert (read[..., ::-1] == picture).all()
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["a.png"]


def test_run_writes_panels_of_the_same_windows(tmp_path):
    trainer(tmp_path, steps=4, sample_every=2).run()
    found = sorted((tmp_path / "samples").iterdir())
    assert [p.name for p in found] == ["step-000000.png", "step-000002.png", "step-000004.png"]
    pictures = [cv2.imread(str(path)) for path in found]
    assert all(picture.shape == (4 * 98, 8 * 98, 3) for picture in pictures)
    first, _, last = (picture[:96] for picture in pictures)
    assert (first == last).all()
    windows = first.reshape(96, 8, 98, 3)[:, :, :96].swapaxes(0, 1)
    # All five units before any comes again.
    assert len({window.tobytes() for window in windows[:5]}) == 5
