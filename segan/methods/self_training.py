"""A second stage: a plain segmenter trained on the masks that a first one found.

Sources: Lee, "Pseudo-Label", ICML workshop 2013 (hard targets); Hinton, Vinyals & Dean, "Distilling
the Knowledge in a Neural Network", 2015, arXiv 1503.02531 (softened targets); Xie, Luong, Hovy &
Le, "Self-training with Noisy Student", CVPR 2020, arXiv 1911.04252 (noise, filtering, rounds);
Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv 1703.01780.

What a teacher gets right of most pictures, a network learns from all of them, and its mistakes, as
far as they follow no rule, it does not. The teacher may be a segmenter of any kind: a run, a file,
or one without training such as Otsu's threshold. Its masks are made once, before training
(`segan.guessing`); confidence never comes from labels.

Supervision: the teacher's, and boxes where windows around them are used.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from segan.config import settings
from segan.data.guesses import GuessView
from segan.data.targets import TargetBatch
from segan.errors import ConfigError
from segan.methods.base import Losses, losses
from segan.methods.fitted import Fitted, FittedConfig

# The teachers' masks are stored in 8 bits.
_LEAST = 0.5 / 255


@settings
class SelfTrainingConfig(FittedConfig):
    """A second stage.

    Attributes:
        teacher: A segmenter file, a run, or a training-free segmenter such as "otsu".
        teacher_windows: The teacher is shown windows around the boxes of training pictures, its
            own or else those of `view`, and finds nothing elsewhere.
        rounds: How often; from the second on, the student before is the teacher.
        keep: Share of the pictures that is trained on, those whose guess has most contrast along
            its contour (`segan.evaluation.label_free.contrast`).
        weighting: Whether pictures count by that contrast, or all the same.
        targets: "hard": masks of 0 and 1. "soft": sigmoid(logit(p) / temperature).
        temperature: Above 1 softens, below 1 sharpens.
        undecided: Pixels of opacity within so much of 1/2 are left out.
        consistency: Weight of the mean teacher: the squared distance to what the average of the
            student's own weights makes of the picture without noise, warmed up as in its paper.
        decay: Of that average, per update.
    """

    type: Literal["self_training"] = "self_training"
    teacher: str
    teacher_windows: bool = False
    rounds: int = Field(default=1, ge=1, le=10)
    keep: float = Field(default=1.0, gt=0, le=1)
    weighting: Literal["contrast", "none"] = "none"
    targets: Literal["hard", "soft"] = "hard"
    temperature: float = Field(default=1.0, gt=0)
    undecided: float = Field(default=0.0, ge=0, lt=0.5)
    consistency: float = Field(default=0.0, ge=0)
    decay: float = Field(default=0.99, ge=0, lt=1)


class SelfTraining(Fitted):
    """A student of guessed masks.

    The average that `consistency` needs moves with every forward pass, so that a batch is then not
    cut into micro-batches.

    Raises:
        ConfigError: A temperature is given for hard targets.
    """

    name = "self_training"
    supervision = "none"

    def __init__(self, config: SelfTrainingConfig) -> None:
        super().__init__(config, GuessView)
        if config.targets == "hard" and config.temperature != 1:
            raise ConfigError(
                "'method.temperature' is for soft targets; set 'method.targets' to 'soft'"
            )
        self.config = config
        if config.view.windows or config.teacher_windows:
            self.supervision = "boxes"
        self.batch_statistics = config.consistency > 0
        if config.consistency:
            for name, parameter in self.segmenter.named_parameters():
                self.register_buffer(_average(name), parameter.detach().clone())

    def targets(self, batch: TargetBatch) -> Tensor:
        """The teacher's masks, hard or tempered: [N, 1, S, S]."""
        if self.config.targets == "hard":
            return (batch.targets > 0.5).to(batch.targets)
        logits = batch.targets.clamp(_LEAST, 1 - _LEAST).logit()
        return (logits / self.config.temperature).sigmoid()

    def fit_losses(self, batch: TargetBatch) -> Losses:
        """The losses of masks where the teacher is decided, and the mean teacher's."""
        if self.config.undecided:
            decided = (batch.targets - 0.5).abs() >= self.config.undecided
            batch = batch._replace(weights=batch.weights * decided)
        logits = self.logits(batch)
        fitted = self.fitted(batch, logits)
        if not self.config.consistency:
            return fitted
        distance = F.mse_loss(logits.sigmoid(), self.averaged_masks(batch.images))
        total = fitted.total + self.config.consistency * self.warmup() * distance
        return losses(total, **fitted.terms, consistency=distance)

    @torch.no_grad()
    def averaged_masks(self, images: Tensor) -> Tensor:
        """Masks by the average of the weights, moved by one update first: [N, 1, H, W]."""
        names = dict(self.segmenter.named_parameters())
        averages = {name: self.get_buffer(_average(name)) for name in names}
        for name, parameter in names.items():
            averages[name].lerp_(parameter.detach().to(averages[name]), 1 - self.config.decay)
        regions: Tensor = functional_call(self.segmenter, averages, (images,))
        return regions[:, 1:]

    def warmup(self) -> float:
        """exp(-5 (1 - t)^2) over the first fifth of training (Tarvainen & Valpola, section 3)."""
        return float(torch.exp(torch.tensor(-5 * (1 - min(5 * self.progress, 1.0)) ** 2)))


def _average(name: str) -> str:
    """A buffer's name, in which dots are not allowed."""
    return f"average_{name.replace('.', '_')}"
