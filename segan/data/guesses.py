"""Masks that another segmenter has guessed: what a second stage learns from in place of truth."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from segan.data.sample import Dataset, Guess, Sample
from segan.data.targets import Target, TargetView


class Guessed:
    """A data set with guesses, and without its truth.

    Args:
        dataset: The pictures.
        guess_of: The guess of the picture of an index.
    """

    def __init__(self, dataset: Dataset, guess_of: Callable[[int], Guess]) -> None:
        self.dataset = dataset
        self.guess_of = guess_of
        self.name = dataset.name
        self.provides = dataset.provides & {"images", "boxes"} | {"guesses"}
        self.box_source = dataset.box_source

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """Pictures that the data set leaves out, and why."""
        return getattr(self.dataset, "skipped", ())

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.dataset[index], truth=None, guess=self.guess_of(index))


class GuessView(TargetView):
    """Parts of pictures, or windows around boxes, with the masks that a teacher guessed."""

    needs: ClassVar[frozenset[str]] = frozenset({"images", "guesses"})

    def usable(self, sample: Sample) -> str | None:
        """Why a picture has nothing to learn from, if so."""
        assert sample.guess is not None
        if sample.guess.confidence > 0:
            return None
        return "the mask guessed for it is among the least certain (method.keep)"

    def target(self, sample: Sample, unit: int | None) -> Target:  # noqa: ARG002
        """The guess of a picture; in a window it ends at the box."""
        assert sample.guess is not None
        return Target(sample.guess.opacity[None], confidence=sample.guess.confidence)
