"""Optimisers by name, with a learning rate that is a pure function of progress."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from segan.config import settings
from segan.errors import ConfigError


@settings
class OptimizerConfig:
    """One optimiser; phases name the one they use.

    Attributes:
        type: "adam" or "sgd".
        lr: Highest learning rate.
        beta1: Decay of the mean of gradients (Adam), or momentum (SGD).
        beta2: Decay of the mean of squared gradients (Adam).
        weight_decay: Decoupled for Adam (AdamW), in the gradient for SGD.
        warmup: Share of training over which the rate rises from 0.
        hold: Share of training after which the rate falls linearly.
        final: Rate at the end, as a share of `lr`.
        drops: How often, at even distances, the rate is also divided by ten: W-Net's "every 1000"
            of 50000 iterations is 50 drops with `hold` 1.
    """

    type: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    beta1: float = Field(default=0.5, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: float = Field(default=0.03, ge=0, le=1)
    hold: float = Field(default=0.5, ge=0, le=1)
    final: float = Field(default=0.05, ge=0, le=1)
    drops: int = Field(default=0, ge=0)


def optimizer_configs(
    given: Mapping[str, OptimizerConfig], names: Sequence[str]
) -> dict[str, OptimizerConfig]:
    """Settings of the optimisers that a method's phases name, defaults where none are given.

    Raises:
        ConfigError: Settings are given for an optimiser that no phase names.
    """
    for name in given:
        if name not in names:
            raise ConfigError(
                f"'train.optimizers.{name}': this method's optimisers are {', '.join(names)}"
            )
    return {name: given.get(name, OptimizerConfig()) for name in names}


def build_optimizer(
    config: OptimizerConfig, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser of a configuration."""
    if config.type == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.beta1, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Linear warm-up, constant, linear decay to `final`, and drops; `progress` is in [0, 1]."""
    rise = min(1.0, progress / config.warmup) if config.warmup else 1.0
    past = max(0.0, progress - config.hold) / max(1.0 - config.hold, 1e-9)
    dropped = 0.1 ** int(progress * config.drops + 1e-9)
    return float(config.lr * rise * dropped * (1.0 + past * (config.final - 1.0)))


def set_learning_rates(
    optimizers: Mapping[str, torch.optim.Optimizer],
    configs: Mapping[str, OptimizerConfig],
    progress: float,
) -> None:
    """Give each optimiser the `learning_rate` of its configuration."""
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(configs[name], progress)
