from pathlib import Path

import pytest
from PIL import Image

from segan.data.inspection import inspect
from segan.errors import ConfigError, DataError


def make(folder: Path, good: int, bad: int) -> dict[str, Path]:
    files = {f"good {i}": folder / f"{i}.png" for i in range(good)}
    files |= {f"bad {i}": folder / f"bad{i}.jpg" for i in range(bad)}
    for i, path in enumerate(files.values()):
        if path.suffix == ".png":
            Image.new("RGB", (5, 3), (i % 256, 0, 0)).save(path)
        else:
            path.write_text("<html>")
    return files


def test_bad_files_are_skipped_with_their_reason(tmp_path: Path) -> None:
    pictures, skipped = inspect(make(tmp_path, good=1, bad=10), tmp_path)
    assert [(picture.name, picture.size) for picture in pictures] == [("good 0", (3, 5))]
    assert [name for name, _ in skipped] == [f"bad {i}" for i in range(10)]
    assert {reason for _, reason in skipped} == {"not a JPEG, PNG, TIFF, BMP or WebP picture"}


@pytest.mark.parametrize(("good", "bad", "stops"), [(43, 11, True), (44, 11, False)])
def test_more_than_a_fifth_of_a_larger_set_stops(
    tmp_path: Path, good: int, bad: int, stops: bool
) -> None:
    files = make(tmp_path, good, bad)
    if not stops:
        assert len(inspect(files, tmp_path)[1]) == bad
        return
    with pytest.raises(DataError) as caught:
        inspect(files, tmp_path)
    assert caught.value.exit_code == 3
    assert f"{bad} of {good + bad} images" in str(caught.value)
    assert "bad 0 (not a JPEG" in str(caught.value)


def test_nothing_readable_and_nothing_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 2 images"):
        inspect(make(tmp_path, good=0, bad=2), tmp_path)
    with pytest.raises(ConfigError, match="no images in"):
        inspect({}, tmp_path)


def test_copies_share_a_digest_whatever_their_format(tmp_path: Path) -> None:
    picture = Image.new("L", (6, 4), 99)
    picture.save(tmp_path / "a.png")
    picture.convert("RGB").save(tmp_path / "b.bmp")
    Image.new("L", (4, 6), 99).save(tmp_path / "c.png")
    files = {path.stem: path for path in sorted(tmp_path.iterdir())}
    a, b, c = inspect(files, tmp_path)[0]
    assert a.digest == b.digest != c.digest


def test_a_file_that_changed_is_decoded_again(tmp_path: Path) -> None:
    files = make(tmp_path, good=1, bad=0)
    before = inspect(files, tmp_path)[0][0]
    Image.new("RGB", (50, 30)).save(files["good 0"])
    after = inspect(files, tmp_path)[0][0]
    assert (before.size, after.size) == ((3, 5), (30, 50))
