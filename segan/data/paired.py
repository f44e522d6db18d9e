"""Sets in which every picture has one file of ground truth."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segan.data.images import UnreadableImage, find_images, read_image, reading
from segan.data.inspection import inspect, require_pairs, require_size, require_some
from segan.data.sample import Annotations, Sample, Split, Truth
from segan.data.splits import Part, in_split, may_be_in


class Pair(NamedTuple):
    """A picture and its truth.

    Attributes:
        name: Unique in its set.
        image: The picture's file.
        truth: The file of its ground truth.
        part: The set's own split that it is in.
    """

    name: str
    image: Path
    truth: Path
    part: Part = "any"


class PairedImages:
    """Pictures with a mask, classes or regions each.

    Args:
        pairs: All of the set; the split's own are looked at.
        root: Where they are, for messages.
        split: Exact copies of a picture that is placed by its name go where the first goes.
        read: The truth of a file as a tensor [H, W].
        wrap: That tensor as ground truth.
        kind: What a file of ground truth is called in messages.

    Attributes:
        skipped: Pictures that cannot be read, with the reason.

    Raises:
        DataError: Too many pictures cannot be read, some have no truth, or the split is empty.
    """

    name: str
    provides: frozenset[str]
    box_source = ""

    def __init__(
        self,
        pairs: Sequence[Pair],
        root: Path,
        split: Split,
        *,
        read: Callable[[Path], Tensor],
        wrap: Callable[[Tensor], Truth],
        kind: str,
    ) -> None:
        self._read, self._wrap = read, wrap
        candidates = {pair.name: pair for pair in pairs if may_be_in(pair.part, split)}
        require_some(list(candidates), root, split)
        files = {name: pair.image for name, pair in candidates.items()}
        pictures, self.skipped = inspect(files, root)
        names = [picture.name for picture in pictures]
        there = {name for name in names if candidates[name].truth.is_file()}
        require_pairs(names, there, kind)
        first: dict[str, str] = {}
        keys = {p.name: first.setdefault(p.digest, p.name) for p in pictures}
        self.pairs = [
            candidates[name] for name in names if in_split(keys[name], candidates[name].part, split)
        ]
        require_some(self.pairs, root, split)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image = read_image(pair.image)
        truth = self._read(pair.truth)
        require_size(truth, image, str(pair.truth))
        return Sample(pair.name, image, None, self._wrap(truth))


def one_annotation(labels: Tensor) -> Annotations:
    """One person's label map int32 [H, W] as ground truth."""
    return Annotations((labels,))


def pairs_of(images: Path, truths: Path, part: Part = "any", suffix: str = ".png") -> list[Pair]:
    """The pictures directly in a folder, each with the truth of the same stem in another."""
    return [
        Pair(path.stem, path, truths / f"{path.stem}{suffix}", part)
        for path in find_images(images)
        if path.parent == images
    ]


def read_lines(path: Path) -> list[str]:
    """The lines of a list file, without empty ones.

    Raises:
        UnreadableImage: The file cannot be read as text.
    """
    with reading(path):
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_names(path: Path) -> list[str]:
    """The picture names in a list file, one a line, without suffix.

    Raises:
        UnreadableImage: The file cannot be read as text, or a line leads to another folder.
    """
    names = [line.strip() for line in read_lines(path)]
    for name in names:
        if Path(name).name != name:
            raise UnreadableImage(path, f"{name!r} is not the name of a picture")
    return names
