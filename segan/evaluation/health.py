"""Seeing collapse without labels: statistics of a batch of masks, and a monitor that watches them.

Adversarial training fails in few ways (everything, nothing, the same blob everywhere, masks that
hug the border, a discriminator that has won), and each shows in numbers that need no truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from segan.config import settings

Failure = Literal[
    "everything", "nothing", "same_blob", "border", "discriminator", "one_region", "no_region"
]

# Shares of what is allowed at which a mask counts as nothing and as everything.
_EMPTY, _FULL = 0.01, 0.9
_GRID = 32
_DECIDED = 0.25  # certainty of a pixel that is of one region

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


@dataclass(frozen=True, slots=True)
class MaskStatistics:
    """What a batch of masks looks like; "allowed" is the inside of the box, or the whole window.

    Attributes:
        area: Mean opacity of the allowed pixels, averaged over masks.
        empty: Share of masks that cover less than 1 % of what is allowed.
        full: Share of masks that cover more than 90 %.
        undecided: Mean min(m, 1 - m) of the allowed pixels: 0 binary, .5 nowhere decided.
        border_touch: Mask mass on the outermost allowed pixels over what masks as large but
            uniform would have there: 0 never touching, 1 uniform, above 1 hugging the border.
        diversity: Mean per-pixel variance across the batch over p (1 - p), p being the mean
            opacity: 0 the same mask everywhere, 1 masks that share nothing, None for one mask.
            Masks are compared in the coordinates of their box, so a mask that merely follows the
            shape of its box is the same mask.
    """

    area: float
    empty: float
    full: float
    undecided: float
    border_touch: float
    diversity: float | None


@torch.no_grad()
def mask_statistics(masks: Tensor, inside: Tensor | None = None) -> MaskStatistics:
    """Statistics of a batch of masks.

    Args:
        masks: [N, 1, H, W] in [0, 1].
        inside: Where masks may be positive: [N, 1, H, W], one in a non-empty box and zero
            elsewhere; None for anywhere.
    """
    masks = masks.float()
    allowed = torch.ones_like(masks) if inside is None else inside.to(masks)
    masks = masks * allowed
    size = allowed.sum((1, 2, 3)).clamp(min=1)
    areas = masks.sum((1, 2, 3)) / size
    undecided = (torch.minimum(masks, 1 - masks) * allowed).sum((1, 2, 3)) / size
    aligned = in_boxes(masks, allowed)
    return MaskStatistics(
        area=float(areas.mean()),
        empty=float((areas < _EMPTY).float().mean()),
        full=float((areas > _FULL).float().mean()),
        undecided=float(undecided.mean()),
        border_touch=_border_touch(masks, allowed),
        diversity=shared_variation(aligned, aligned) if len(masks) > 1 else None,
    )


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """What a batch of partitions looks like.

    Attributes:
        largest: Share of pixels that are decidedly of the region that has most such pixels: those
            whose certainty, as below, is .25 or more. A hair's breadth decides nothing.
        used: exp of the entropy of the shares of pixels where each region is the likeliest: how
            many are in use.
        certainty: Mean over pixels of the largest probability, rescaled from [1 / K, 1] to [0, 1].
    """

    largest: float
    used: float
    certainty: float


@torch.no_grad()
def region_statistics(regions: Tensor) -> RegionStatistics:
    """Statistics of partitions [N, K, H, W] that sum to one over K, K at least 2."""
    count = regions.shape[1]
    regions = regions.float()
    best, labels = regions.max(1)
    shares = torch.bincount(labels.flatten(), minlength=count) / labels.numel()
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum()
    certainty = (best * count - 1) / (count - 1)
    decided = torch.bincount(labels[certainty >= _DECIDED], minlength=count)
    return RegionStatistics(
        largest=float(decided.max() / labels.numel()),
        used=float(entropy.exp()),
        certainty=float(certainty.mean()),
    )


def statistics_of(masks: Tensor, inside: Tensor | None = None) -> MaskStatistics | RegionStatistics:
    """Statistics of masks [N, 1, H, W], or of partitions [N, K, H, W]."""
    return mask_statistics(masks, inside) if masks.shape[1] == 1 else region_statistics(masks)


def in_boxes(masks: Tensor, inside: Tensor) -> Tensor:
    """Masks [N, 1, H, W] resampled, each from the box where `inside` is one, to [N, 1, 32, 32]."""
    height, width = masks.shape[-2:]
    steps = (torch.arange(_GRID, device=masks.device) + 0.5) / _GRID
    x0, y0, x1, y1 = _bounding_boxes(inside).to(masks)[:, :, None].unbind(1)
    # Not beyond the outermost pixel centres, where what lies outside the box would be mixed in.
    x = torch.lerp(x0, x1, steps).clamp(x0 + 0.5, x1 - 0.5) / width
    y = torch.lerp(y0, y1, steps).clamp(y0 + 0.5, y1 - 0.5) / height
    columns, rows = x[:, None, :].expand(-1, _GRID, -1), y[:, :, None].expand(-1, -1, _GRID)
    grid = 2 * torch.stack([columns, rows], dim=-1) - 1
    return F.grid_sample(masks, grid, padding_mode="border", align_corners=False)


def shared_variation(first: Tensor, second: Tensor) -> float:
    """How much two readings of the same masks vary alike across the batch, as a share.

    Mean over pixels of the unbiased covariance across the batch, over p (1 - p) with p the mean
    opacity (at least .01, so that next to nothing does not count as variation).
    1 for binary masks that share nothing but agree between readings; 0 for readings that do not
    vary with the picture, or vary independently.

    Args:
        first: [N, ...] in [0, 1], N at least 2, pixels in corresponding places.
        second: [N, ...], the same masks obtained in another way, or the same way.
    """
    assert len(first) > 1, "variation needs two masks or more"
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
    p = torch.cat([first, second]).mean()
    return float(covariance.mean() / (p * (1 - p)).clamp(min=_EMPTY))


def _bounding_boxes(inside: Tensor) -> Tensor:
    """Half-open boxes [N, 4] around masks [N, 1, H, W] of 0 and 1."""
    columns, rows = inside.amax((1, 2)), inside.amax((1, 3))
    right = inside.shape[-1] - columns.flip(1).argmax(1)
    bottom = inside.shape[-2] - rows.flip(1).argmax(1)
    return torch.stack([columns.argmax(1), rows.argmax(1), right, bottom], dim=1)


def _border_touch(masks: Tensor, allowed: Tensor) -> float:
    # Beyond the window nothing is allowed, hence the padding with ones.
    beside_forbidden = F.max_pool2d(F.pad(1 - allowed, (1, 1, 1, 1), value=1.0), 3, stride=1)
    frame = allowed * beside_forbidden
    share_of_frame = frame.sum((1, 2, 3)) / allowed.sum((1, 2, 3)).clamp(min=1)
    uniform = (masks.sum((1, 2, 3)) * share_of_frame).sum()
    return float((masks * frame).sum() / uniform) if uniform > 0 else 0.0


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
    """Counts consecutive bad checks of each kind of failure, and warns once until it clears.

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
