"""What the phases of a method train, and in batches of what size."""

from collections.abc import Iterable

from torch import nn

from segan.errors import ConfigError
from segan.methods.base import Method, Phase
from segan.training.config import TrainConfig


def owner(phase: Phase) -> str:
    """The name of the optimiser a phase uses."""
    return phase.optimizer or phase.name


def trained_by(phase: Phase, method: Method) -> list[nn.Parameter]:
    """The parameters a phase updates: those of its networks that are trainable at all."""
    assert hasattr(method, f"{phase.name}_losses"), f"{method.name} lacks {phase.name}_losses"
    return [
        parameter
        for name in phase.trains
        for parameter in getattr(method, name).parameters()
        if parameter.requires_grad
    ]


def owned_by(
    optimizer: str, phases: Iterable[Phase], parameters: dict[str, list[nn.Parameter]]
) -> list[nn.Parameter]:
    """The parameters of all phases that share an optimiser, each once."""
    return list(
        dict.fromkeys(
            parameter
            for phase in phases
            if owner(phase) == optimizer
            for parameter in parameters[phase.name]
        )
    )


def first_step_of_segmenter(method: Method, num_steps: int) -> int:
    """The first of `num_steps` iterations that trains the segmenter; `num_steps` if none does."""
    own = set(method.segmenter.parameters())
    phases = [phase for phase in method.phases if not own.isdisjoint(trained_by(phase, method))]
    for step in range(num_steps):
        if step / num_steps >= method.learns_after and any(phase.due(step) for phase in phases):
            return step
    return num_steps


def train_only(method: Method, trained: list[nn.Parameter]) -> None:
    """Freeze all networks but those a phase trains."""
    chosen = set(trained)
    for parameter in method.parameters():
        parameter.requires_grad_(parameter in chosen)


def images_per_pass(config: TrainConfig, num_processes: int, method: Method) -> int:
    """Images per forward pass of one process.

    Raises:
        ConfigError: The batch does not divide over processes and micro-batches, or the method
            needs it whole.
    """
    if config.batch_size % num_processes:
        raise ConfigError(
            f"'train.batch_size' is {config.batch_size}, over all processes together; "
            f"it must be divisible by the {num_processes} processes of this run"
        )
    local = config.batch_size // num_processes
    micro = config.micro_batch or local
    if micro < local and method.batch_statistics:
        raise ConfigError(
            f"'train.micro_batch' is {micro}, but {method.name} compares all {local} images of a "
            "process with one another (batch statistics); leave it out"
        )
    if local % micro:
        raise ConfigError(
            f"'train.micro_batch' is {micro}; it must divide the {local} images of a process"
        )
    return micro
