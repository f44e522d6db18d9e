"""Seeing collapse without labels: a monitor that watches statistics of masks.

Adversarial training fails in few ways (everything, nothing, the same blob everywhere, masks that
hug the border, a discriminator that has won), and each shows in numbers that need no truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field

from segan.config import settings
from segan.evaluation.statistics import MaskStatistics, RegionStatistics

Failure = Literal[
    "everything", "nothing", "same_blob", "border", "discriminator", "one_region", "no_region"
]

# What masks hardly come back from. Border-hugging and a discriminator that wins can pass.
_FATAL: frozenset[Failure] = frozenset({"everything", "nothing", "same_blob", "one_region"})

ADVICE: dict[Failure, str] = {
    "everything": (
        "masks cover nearly all they may; raise the weight of the area ceiling or of the mean "
        "area, show the discriminator more context around the box, or jitter the brightness of "
        "object and background apart (if objects do fill their boxes, ignore this)"
    ),
    "nothing": (
        "masks are empty; raise the weight of the area floor, or add the presence or cut loss, "
        "which make pasting nothing costly"
    ),
    "same_blob": (
        "masks are alike whatever the picture; lower the learning rate of the mask generator, "
        "raise the gradient penalty, or add more varied pictures (if objects do all have one "
        "shape and place, ignore this)"
    ),
    "border": (
        "masks gather at the border and leave the middle out, as if object and background were "
        "swapped; set a border of zeros, or check that the boxes fit the objects"
    ),
    "discriminator": (
        "the discriminator tells every composite from a real image, so that the generator learns "
        "little; raise the gradient penalty, lower the discriminator's learning rate, or blur "
        "its input"
    ),
    "one_region": (
        "one region has taken nearly every pixel; lower the learning rate, raise the entropy "
        "weight (iic) or that of information (redo), or lower the weight of the cut (wnet)"
    ),
    "no_region": (
        "no pixel belongs to one region more than to the others, as if nothing had been learned; "
        "train longer, raise the learning rate, or narrow the bandwidth of colours (wnet)"
    ),
}


@settings
class HealthConfig:
    """When the monitor speaks up.

    Thresholds lie between what batches of 8 to 32 simulated masks in tight boxes gave. Centred
    objects of 20 to 80 % of the box, nearly round to ragged: diversity .013 and more, border touch
    .53 and less. One blob for every picture: diversity .011 and less; object and background
    swapped: border touch 2.1 and more. Objects that are all discs of one size and place cannot be
    told from one blob. In 63 runs of SEIGAN, copy-paste and shift-and-judge (docs/LOG.md), checked
    every 50 steps and each failure by itself, the monitor warned of all 20 that ended without a
    mask, at steps 300 to 600, and of none of the others.

    Attributes:
        every: Training steps between checks.
        grace: Steps without alarms from the first that trains the segmenter, while masks are still
            undecided.
        patience: Consecutive bad checks before a warning.
        stop_after: Consecutive checks of any collapse after which it counts as final.
        stop: Whether the trainer ends a collapsed run (exit code 4).
        restarts: Fresh starts with other seeds that a collapsed run may have before that; any
            number above 0 implies `stop`.
        most: Share of full masks, or of empty ones, from which the batch is bad.
        least_diversity: Diversity below which masks are all the same.
        most_border_touch: Border touch above which masks hug the border.
        most_accuracy: Discriminator accuracy (area under the ROC curve) from which it has won.
        most_gap: Mean real minus mean fake logit from which it has won, where the accuracy is
            not reported.
        most_of_one: Share of pixels from which one region has taken everything.
        least_certainty: Certainty below which no region has anything.
    """

    every: int = Field(default=50, ge=1)
    grace: int = Field(default=200, ge=0)
    patience: int = Field(default=3, ge=1)
    stop_after: int = Field(default=6, ge=1)
    stop: bool = False
    restarts: int = Field(default=0, ge=0, le=20)
    most: float = Field(default=0.8, gt=0, le=1)
    least_diversity: float = Field(default=0.012, ge=0)
    most_border_touch: float = Field(default=1.5, gt=0)
    most_accuracy: float = Field(default=0.99, gt=0.5)
    most_gap: float = Field(default=10.0, gt=0)
    most_of_one: float = Field(default=0.97, gt=0, le=1)
    least_certainty: float = Field(default=0.02, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """One failure that has lasted.

    Attributes:
        step: When it was found to have lasted.
        failure: Which of the known ways to fail.
        message: One line in plain words: what is seen, with its number, and what to try.
    """

    step: int
    failure: Failure
    message: str


def standing(counts: Mapping[str, float], patience: int) -> list[Failure]:
    """Failures that have lasted, of the counts of `HealthMonitor.state`."""
    collapsed = counts.get("fatal", 0) >= patience
    return [
        name
        for name in get_args(Failure)
        if counts.get(name, 0) >= patience or (collapsed and name in _FATAL and counts.get(name))
    ]


class HealthMonitor:
    """Counts consecutive bad checks of each failure, and of any collapse; warns when they last.

    Args:
        config: Thresholds and patience.
        learns_from: The first step that trains the segmenter, from which `grace` is counted.
    """

    def __init__(self, config: HealthConfig, learns_from: int = 0) -> None:
        self.config = config
        self.learns_from = learns_from
        self._bad_checks: dict[str, int] = dict.fromkeys(get_args(Failure), 0)
        self._fatal_checks = 0

    def update(
        self,
        step: int,
        statistics: MaskStatistics | RegionStatistics,
        discriminator: Mapping[str, float],
    ) -> list[HealthWarning]:
        """Take in one check; the warnings that are new with it.

        Args:
            step: Training step, for the grace period and the warnings.
            statistics: Of the current masks or regions, those of the averaged segmenter if there
                is one.
            discriminator: Logged values, of which those are used whose names end in "accuracy"
                (`losses.adversarial.discriminator_accuracy`) or, without any, the mean logits
                that end in "real" and "fake".
        """
        if step < self.learns_from + self.config.grace:
            return []
        problems = self._problems(statistics, discriminator)
        for failure, problem in problems.items():
            self._bad_checks[failure] = self._bad_checks[failure] + 1 if problem else 0
        # Of any kind, as masks that have collapsed flicker between nothing and the same blob.
        self._fatal_checks = self._fatal_checks + 1 if self.collapse else 0
        due = {name for name, bad in self._bad_checks.items() if bad == self.config.patience}
        if self._fatal_checks == self.config.patience and not due & _FATAL:
            due |= set(self.collapse)
        return [
            HealthWarning(step, failure, f"step {step}: {ADVICE[failure]} [{problem}]")
            for failure, problem in problems.items()
            if failure in due
        ]

    def checks_of(self, steps: int) -> int:
        """How many checks of a run of so many steps come after the grace."""
        first = max(self.learns_from + self.config.grace, 1)
        return max(steps // self.config.every - (first - 1) // self.config.every, 0)

    @property
    def active(self) -> list[Failure]:
        """Failures warned of that have not cleared."""
        return standing(self.state(), self.config.patience)

    @property
    def collapse(self) -> list[str]:
        """As what masks or regions have collapsed in the last check, warned of or not."""
        return [name for name, bad in self._bad_checks.items() if bad and name in _FATAL]

    @property
    def collapsed(self) -> bool:
        """Whether masks or regions have been beyond use for `stop_after` checks."""
        return self._fatal_checks >= self.config.stop_after

    @property
    def ends_run(self) -> bool:
        """Whether they have, in a run that is to be given up for it."""
        return self.collapsed and (self.config.stop or self.config.restarts > 0)

    def state(self) -> dict[str, int]:
        """Everything that later warnings depend on, as JSON values."""
        return self._bad_checks | {"fatal": self._fatal_checks}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Continue from a `state()`."""
        self._bad_checks = {name: int(state[name]) for name in self._bad_checks}
        # A run of before it was counted has at least its longest collapse.
        longest = max(self._bad_checks[failure] for failure in _FATAL)
        self._fatal_checks = int(state.get("fatal", longest))

    def _problems(
        self, statistics: MaskStatistics | RegionStatistics, discriminator: Mapping[str, float]
    ) -> dict[Failure, str]:
        """What is seen of each failure that can be judged now; empty where all is well."""
        seen = (
            self._region_problems(statistics)
            if isinstance(statistics, RegionStatistics)
            else self._mask_problems(statistics)
        )
        return seen | self._discriminator_problem(discriminator)

    def _region_problems(self, statistics: RegionStatistics) -> dict[Failure, str]:
        one = statistics.largest >= self.config.most_of_one
        none = statistics.certainty < self.config.least_certainty
        return {
            "one_region": f"{statistics.largest:.0%} of pixels" if one else "",
            "no_region": f"certainty {statistics.certainty:.3f}" if none else "",
        }

    def _mask_problems(self, statistics: MaskStatistics) -> dict[Failure, str]:
        config = self.config
        everything = statistics.full >= config.most
        nothing = statistics.empty >= config.most
        alike = statistics.diversity is not None and statistics.diversity < config.least_diversity
        problems: dict[Failure, str] = {
            "everything": f"{statistics.full:.0%} of masks are full" if everything else "",
            "nothing": f"{statistics.empty:.0%} of masks are empty" if nothing else "",
            # Full and empty masks are alike too, but that is not their trouble.
            "same_blob": (
                f"diversity {statistics.diversity:.3f}"
                if alike and not everything and not nothing
                else ""
            ),
            "border": (
                f"{statistics.border_touch:.1f} times the opacity of a uniform mask there"
                if statistics.border_touch > config.most_border_touch and not nothing
                else ""
            ),
        }
        return problems

    def _discriminator_problem(self, values: Mapping[str, float]) -> dict[Failure, str]:
        accuracies = [value for name, value in values.items() if name.endswith("accuracy")]
        if accuracies:
            best = max(accuracies)
            won = best >= self.config.most_accuracy
            return {"discriminator": f"accuracy {best:.3f}" if won else ""}
        gaps = [
            value - values[name.removesuffix("real") + "fake"]
            for name, value in values.items()
            if name.endswith("real") and name.removesuffix("real") + "fake" in values
        ]
        if not gaps:
            return {}
        gap = max(gaps)
        won = gap >= self.config.most_gap
        return {"discriminator": f"logits {gap:.1f} apart" if won else ""}
