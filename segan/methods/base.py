"""What a method is: networks, the phases that update them, and one loss function per phase."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from segan.data.views import View
from segan.errors import ConfigError
from segan.segmenter import Segmenter, WindowSpec


class Losses(NamedTuple):
    """What one phase minimises.

    Attributes:
        total: Scalar that is back-propagated.
        terms: Unweighted, detached scalars for the log.
    """

    total: Tensor
    terms: dict[str, Tensor]


def losses(total: Tensor, **terms: Tensor) -> Losses:
    """A phase's result: the weighted total, and its unweighted terms detached for the log."""
    return Losses(total, {name: term.detach() for name, term in terms.items()})


class Preview(NamedTuple):
    """What a method would show of itself: sample panels and the health monitor look at it.

    Attributes:
        images: [N, 3, H, W] in [0, 1].
        masks: [N, 1, H, W] in [0, 1], or regions [N, K, H, W] that sum to one.
        composites: [N, 3, H, W] in [0, 1], or None for methods that compose nothing.
        inside: Where masks may be positive, [N, 1, H, W] of 0 and 1, or None for anywhere.
        filled: The pictures without their objects, [N, 3, H, W] in [0, 1], or None.
    """

    images: Tensor
    masks: Tensor
    composites: Tensor | None = None
    inside: Tensor | None = None
    filled: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One optimiser update within an iteration; phases run in the order they are listed.

    Attributes:
        name: The method defines `<name>_losses(batch) -> Losses`.
        trains: Attribute names of the networks this phase updates; all others are frozen.
        optimizer: Phases naming the same optimiser share its moments; empty: one of its own.
        every: Turns to wait between two of its own (lazy regularisation, alternation).
        turn: Which of `every` turns is its own.
        block: Iterations per turn.
        repeat: Updates per iteration, each on a fresh batch (critic steps).
        start: Iterations before its first turn, a head start for the other phases.
    """

    name: str
    trains: tuple[str, ...]
    optimizer: str = ""
    every: int = 1
    turn: int = 0
    block: int = 1
    repeat: int = 1
    start: int = 0

    def due(self, step: int) -> bool:
        """Whether this phase runs in iteration `step`."""
        return step >= self.start and step // self.block % self.every == self.turn


def require_border(border: int, size: int) -> None:
    """Make sure that a frame of zeros leaves something of masks of this side, both in pixels.

    Raises:
        ConfigError: It does not.
    """
    if 2 * border >= size:
        raise ConfigError(
            f"'method.guards.border' is {border}; "
            f"it must be less than half of 'method.size', {size}"
        )


class Method(nn.Module):
    """A training objective over a set of networks. Subclass once per paper, never twice.

    A method never sees the accelerator, optimisers, device, rank, logger or step; `progress`, the
    fraction of training done, is the only thing the trainer tells it.

    Attributes:
        name: As in configurations and tables.
        supervision: What training uses beyond pictures: "none", "backgrounds" or "boxes"; "masks"
            for the bound that unsupervised methods are compared with. An instance may use more
            than its class does by default.
        phases: In the order they run.
        segmenter: What is trained, averaged, saved and scored.
        view: What is drawn from the data.
        window: The windows the segmenter sees, or None for whole pictures.
        scale: Network pixels per pixel of whole pictures, for methods without windows.
        batch_statistics: Whether losses depend on the batch as a whole, so that it cannot be cut
            into micro-batches; over processes such statistics are reduced.
        learns_after: Share of training in which phases of the segmenter leave it as it is, for
            the good of the other networks that they train.
        revision: Counts changes of the code after which the same settings train something else.
            Kept rows of leaderboards are of one revision; the CHANGELOG says what changed.
    """

    name: ClassVar[str]
    supervision: str
    phases: tuple[Phase, ...]
    segmenter: Segmenter
    view: View
    window: WindowSpec | None = None
    scale: float = 1.0
    batch_statistics: bool = False
    learns_after: float = 0.0
    revision: ClassVar[int] = 0
    progress: float = 0.0

    def forward(self, phase: str, batch: Any) -> Losses:
        """The losses of a phase on a batch of this method's view.

        Data-parallel wrappers and autocast hook forward(), so a whole objective is one forward.
        """
        result: Losses = getattr(self, f"{phase}_losses")(batch)
        return result

    def picture_scale(self) -> float:
        """Network pixels per pixel of whole pictures; known once the view has seen its data."""
        return self.scale

    def preview(self, segmenter: Segmenter, batch: Any) -> Preview:
        """What `segmenter`, usually the averaged one, makes of a batch."""
        raise NotImplementedError
