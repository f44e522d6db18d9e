"""What a run is: a method, a data set, and how long and how fast to train."""

from dataclasses import field
from typing import Literal

from pydantic import Field

from segan.config import settings
from segan.data import DataConfig
from segan.evaluation.health import HealthConfig
from segan.methods import MethodConfig
from segan.training.optimizers import OptimizerConfig


@settings
class TrainConfig:
    """The trainer.

    Attributes:
        seed: Of weights, of the order of data and of all noise.
        images: Length of the run, counted in images.
        batch_size: Images per update over all processes together.
        micro_batch: Images per forward pass and process, to save memory; None: all at once.
        precision: "fp32", "bf16", or "auto": bf16 on CUDA and on CPUs with AMX, else fp32.
        compile: Compile the segmenter; needs a C++ compiler, and a minute or two at the start.
        optimizers: By the names the method's phases use; one left out has its defaults.
        ema_halflife_images: Half-life of the averaged segmenter.
        clip_norm: Largest norm of a network's gradient; None: not clipped.
        workers: Loader processes; 0 loads in the training process.
        cache_megabytes: Memory for decoded pictures.
        log_every: Steps between lines of metrics.jsonl.
        sample_every: Steps between sample panels; 0: only at the start and the end.
        checkpoint_every: Steps between checkpoints; 0: only at the end.
        snapshots: Averaged segmenters kept at evenly spaced moments, for studying a run.
        tensorboard: Also write TensorBoard events (needs the extra "track").
        health: When to warn of collapse, and whether to stop.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)
    images: int = Field(default=16_000, ge=1)
    batch_size: int = Field(default=32, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    optimizers: dict[str, OptimizerConfig] = field(default_factory=dict)
    ema_halflife_images: float = Field(default=1000.0, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)
    workers: int = Field(default=0, ge=0)
    cache_megabytes: int = Field(default=512, ge=0)
    log_every: int = Field(default=10, ge=1)
    sample_every: int = Field(default=100, ge=0)
    checkpoint_every: int = Field(default=200, ge=0)
    snapshots: int = Field(default=0, ge=0)
    tensorboard: bool = False
    health: HealthConfig = field(default_factory=HealthConfig)


@settings
class EvaluationConfig:
    """What is scored when training has ended, where the data has ground truth.

    Attributes:
        split: "dev" while tuning; "test" for a final configuration, once; "none".
        limit: Only the first so many pictures.
        shift: Window centres lie up to this share of the box off the box's, by hash of the name.
        box_jitter: Box sides are moved by up to this share, by hash of the name.
    """

    split: Literal["test", "dev", "none"] = "dev"
    limit: int | None = Field(default=None, ge=1)
    shift: float = Field(default=0.0, ge=0, le=0.5)
    box_jitter: float = Field(default=0.0, ge=0, lt=0.5)


@settings
class RunConfig:
    """One run.

    Attributes:
        method: What is optimised.
        data: On which pictures.
        train: For how long, how fast.
        evaluation: What is scored afterwards.
    """

    method: MethodConfig
    data: DataConfig
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
