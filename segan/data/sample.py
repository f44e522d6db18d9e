"""What a data set yields: one picture, its boxes if any, and its ground truth for evaluation."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

Split = Literal["train", "dev", "test", "all"]


@dataclass(frozen=True, slots=True)
class Mask:
    """Ground truth of two classes.

    Attributes:
        mask: bool [H, W], True on objects.
        ignore: bool [H, W], True where the truth says nothing, or None when it says all.
    """

    mask: Tensor
    ignore: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Instances:
    """Ground truth of separate objects.

    Attributes:
        labels: int32 [H, W]; 0 is background, i + 1 the object of box i when there are boxes.
    """

    labels: Tensor


@dataclass(frozen=True, slots=True)
class Annotations:
    """Several people's segmentations of one picture: int32 [H, W] label maps."""

    labels: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Classes:
    """Ground truth of named classes: int32 [H, W] from 0, and -1 where the truth says nothing.

    The data set that yields it names them in its attribute `class_names`.
    """

    labels: Tensor


Truth = Mask | Instances | Annotations | Classes


@dataclass(frozen=True, slots=True)
class Guess:
    """What another segmenter takes for objects: a second stage learns from it, never from truth.

    Attributes:
        opacity: float [H, W] in [0, 1].
        confidence: Weight of the picture, from a score without labels; 0 leaves it out.
    """

    opacity: Tensor
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture.

    Attributes:
        name: Unique in its data set; predictions are named after it.
        image: uint8 [3, H, W], RGB, upright.
        boxes: float32 [B, 4] as x0, y0, x1, y1 in pixels, half-open, inside the picture; or None.
        truth: Used by evaluation; of the views `segan.data.masked.MaskedView` alone looks at it.
        guess: Of a second stage's teacher.
    """

    name: str
    image: Tensor
    boxes: Tensor | None = None
    truth: Truth | None = None
    guess: Guess | None = None


class Dataset(Protocol):
    """A finite, indexable set of samples.

    Attributes:
        name: For tables and messages.
        provides: Of "images", "boxes", "masks", "instances", "annotations", "classes",
            "backgrounds", "guesses"; compared with a view's `needs`. With "backgrounds" the set
            satisfies `WithBackgrounds`.
        box_source: Where boxes come from, in words ("annotated", "instance masks",
            "procedural"); empty without boxes.
    """

    name: str
    provides: frozenset[str]
    box_source: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@runtime_checkable
class WithBackgrounds(Protocol):
    """A data set beside which lie pictures of the same places without objects.

    Attributes:
        backgrounds: The object-free pictures, whose samples have no boxes and no truth. They are
            for training, whatever the split.
    """

    backgrounds: Dataset


def backgrounds_of(dataset: Dataset) -> Dataset:
    """The object-free pictures of a data set that provides "backgrounds"."""
    assert isinstance(dataset, WithBackgrounds), f"{dataset.name} has no backgrounds"
    return dataset.backgrounds
