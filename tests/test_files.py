import pytest

from segan.errors import DataError
from segan.files import written_aside


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with written_aside(path) as aside:
        aside.write_text("old")
    with pytest.raises(ZeroDivisionError), written_aside(path) as aside:
        aside.write_text(str(aside.write_text("half") / 0))
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match="cannot write"),
        written_aside(tmp_path / "file" / "a.txt") as aside,
    ):
        aside.write_text("")


def test_any_file_name_can_be_written(tmp_path):
    path = tmp_path / f"{'x' * 251}.png"
    with written_aside(path) as aside:
        assert aside.suffix == ".png"
        aside.write_text("new")
    assert path.read_text() == "new"
