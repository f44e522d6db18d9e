"""Formats on disk: one file per picture, or fragments that one file is assembled from at the end.

A picture is finished when its own file is there, so that a run goes on where it was stopped; what
is assembled is assembled anew.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from segan.files import written_aside
from segan.formats.found import Found


class Writer(Protocol):
    """Writes what was found in many pictures, in one format."""

    def is_finished(self, name: str) -> bool:
        """Whether the picture's file is there, from this run or an earlier one."""
        ...

    def add(self, found: Found) -> None:
        """Writes one picture's file, whole or not at all; called from several threads."""
        ...

    def close(self) -> str | None:
        """Assembles what consists of all pictures; returns a line for the user, if any."""
        ...


class PerPicture:
    """One file per picture.

    Args:
        folder: Where they go.
        suffix: Theirs, such as ".png".
        encode: What a file holds.
    """

    def __init__(self, folder: Path, suffix: str, encode: Callable[[Found], bytes]) -> None:
        self.folder = folder
        self.suffix = suffix
        self.encode = encode

    def path(self, name: str) -> Path:
        """The file of a picture."""
        return self.folder / f"{name}{self.suffix}"

    def is_finished(self, name: str) -> bool:
        """Whether the picture's file is there."""
        return self.path(name).exists()

    def add(self, found: Found) -> None:
        """Writes the picture's file."""
        write(self.path(found.name), self.encode(found))

    def close(self) -> str | None:
        """Nothing is left to do."""
        return None


class Assembled(PerPicture):
    """One file for all pictures, assembled from a fragment of each.

    Args:
        folder: Where both go.
        encode: A picture's fragment, JSON.
        files: The files to assemble, by name, and their parts as functions of all fragments.
    """

    def __init__(
        self,
        folder: Path,
        encode: Callable[[Found], bytes],
        files: Mapping[str, Callable[[Sequence[Path]], Iterator[str]]],
    ) -> None:
        super().__init__(folder / "pictures", ".json", encode)
        self.files = {folder / name: assemble for name, assemble in files.items()}

    def close(self) -> str | None:
        """Writes the assembled files, a fragment at a time."""
        fragments = files_below(self.folder, self.suffix)
        for path, assemble in self.files.items():
            with written_aside(path) as aside, aside.open("w", encoding="utf-8") as stream:
                stream.writelines(assemble(fragments))
        return None


@dataclass(frozen=True, kw_only=True)
class Format:
    """A way to write what was found.

    Attributes:
        suffix: Of the file that holds one picture.
        encode: That file, complete: what a server would hand out.
        open: A writer of many pictures into a folder of its own, inside the one given.
        folders: What the writer makes inside that folder.
        needs: Of "picture" and "probability", what `Found` must hold.
    """

    suffix: str
    encode: Callable[[Found], bytes]
    open: Callable[[Path], Writer]
    folders: tuple[str, ...]
    needs: frozenset[str] = frozenset()


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    with written_aside(path) as aside:
        aside.write_bytes(content)


def files_below(folder: Path, suffix: str) -> list[Path]:
    """The finished files below a folder, in the order of their names."""
    found = folder.rglob(f"*{suffix}")
    return sorted(path for path in found if not path.name.startswith("."))
