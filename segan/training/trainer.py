"""The trainer: a loop over phases that knows no paper, on one CPU or many GPUs.

Learning rates are pure functions of progress and batches are pure functions of position, so that
what has to be saved is small and a resumed run is the run itself: bit by bit on a CPU, and on CUDA,
where some sums have no fixed order, up to rounding.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from segan import distributed
from segan.data.loading import Draws, batches, preview_batch, split_batch, to_device
from segan.data.sample import Dataset
from segan.data.views import Units
from segan.errors import DataError, DivergenceError, Interrupted, SeganError
from segan.evaluation.health import HealthMonitor
from segan.evaluation.statistics import statistics_of
from segan.methods.base import Losses, Method, Phase
from segan.segmenter import Segmenter
from segan.training.config import TrainConfig
from segan.training.console import Console
from segan.training.ema import AveragedSegmenter
from segan.training.logbook import Logbook, require_tensorboard
from segan.training.optimizers import build_optimizer, optimizer_configs, set_learning_rates
from segan.training.panels import panel, write_png
from segan.training.phases import (
    first_step_of_segmenter,
    images_per_pass,
    owned_by,
    owner,
    train_only,
    trained_by,
)
from segan.training.signals import StopRequest
from segan.training.state import (
    State,
    load_optimizer_tensors,
    load_state,
    optimizer_tensors,
    require_same,
    save_state,
)

_MOST_SKIPPED_UPDATES = 10


class Trainer:
    """Trains a method on a data set, inside a run directory.

    Building one writes nothing.

    Args:
        method: Networks, phases and losses.
        dataset: What the method's view draws from.
        units: The view's units of `dataset`.
        config: Length, batches, optimisers.
        accelerator: Device, precision and processes.
        directory: The run; `state`, `samples` and metrics go here.
        facts: JSON-able facts about the run, kept in every checkpoint and compared on resume.
        write_segmenter: Called with a path, the averaged segmenter and the images it has seen,
            for each of `config.snapshots`.

    Attributes:
        step: Iterations done.
        draws: Global batches drawn.
        skipped_updates: Updates left out in this run because they were not finite.

    Raises:
        ConfigError: The batch does not divide over processes and micro-batches, an optimiser is
            configured that no phase uses, or TensorBoard is wanted and missing.
    """

    def __init__(
        self,
        method: Method,
        dataset: Dataset,
        units: Units,
        config: TrainConfig,
        accelerator: Accelerator,
        directory: Path,
        facts: dict[str, Any],
        write_segmenter: Callable[[Path, Segmenter, int], None],
    ) -> None:
        if config.tensorboard:
            require_tensorboard()
        self.config = config
        self.accelerator = accelerator
        self.directory = directory
        self.facts = facts
        self.write_segmenter = write_segmenter
        self.draws_from = Draws(dataset, method.view, units, config.seed)
        self.step = 0
        self.draws = 0
        self.num_steps = -(-config.images // config.batch_size)
        self.share = images_per_pass(config, accelerator.num_processes, method)
        self.method = method
        self.parameters = {phase.name: trained_by(phase, method) for phase in method.phases}
        self.wrapped = accelerator.prepare_model(method)
        self.names: dict[Tensor, str] = {
            parameter: name for name, parameter in method.named_parameters()
        }
        self.ema = AveragedSegmenter(method.segmenter, config.ema_halflife_images)
        self.optimizer_configs = optimizer_configs(
            config.optimizers, list(dict.fromkeys(owner(phase) for phase in method.phases))
        )
        self.optimizers = {
            name: build_optimizer(settings, owned_by(name, method.phases, self.parameters))
            for name, settings in self.optimizer_configs.items()
        }
        self.health = HealthMonitor(config.health, first_step_of_segmenter(method, self.num_steps))
        self.console = Console(self.num_steps, quiet=not accelerator.is_main_process)
        self.terms: dict[str, Tensor] = {}
        self.skipped_updates = 0
        self._skipped_running = {phase.name: 0 for phase in method.phases}
        self._saved_step: int | None = None

    # The loop.

    @property
    def images_seen(self) -> int:
        """Images the run has trained on so far, over all processes."""
        return self.step * self.config.batch_size

    def run(self) -> None:
        """Train to the end, or to a signal.

        Raises:
            Interrupted: SIGTERM or SIGINT came; the state was saved first.
            DivergenceError: Losses stayed non-finite, or masks collapsed and `health` ends the run.
            DataError: A checkpoint, a panel or the log cannot be written.
        """
        self._require_uncollapsed()
        main, tensorboard = self.accelerator.is_main_process, self.config.tensorboard
        # Loader processes start here, before anything that a fork should not inherit.
        self.incoming = self._batches()
        try:
            with (
                Logbook(self.directory, step=self.step, tensorboard=tensorboard)
                if main
                else nullcontext() as logbook,
                self.console,
                StopRequest() as stop,
            ):
                self._train(logbook, stop)
        finally:
            # Ends the loader processes.
            del self.incoming

    def _train(self, logbook: Logbook | None, stop: StopRequest) -> None:
        preview = to_device(preview_batch(self.draws_from), self.accelerator.device)
        self.console.start_at(self.step)
        if self.step == 0:
            self._write_panel(preview)
        while self.step < self.num_steps:
            started = time.perf_counter()
            self.terms |= self.iterate()
            self._report(logbook, preview, time.perf_counter() - started)
            last = self.step == self.num_steps
            if last or _due(self.step, self.config.checkpoint_every):
                self.save()
            if not last and distributed.any_rank(stop.received, self.accelerator.device):
                self.save()
                raise Interrupted(
                    f"stopped at step {self.step} of {self.num_steps}; "
                    "the same command without --overwrite resumes"
                )

    def iterate(self) -> dict[str, Tensor]:
        """One training iteration: every phase that is due, in order; the terms it logged."""
        log: dict[str, Tensor] = {}
        skipped_before = self.skipped_updates
        self.method.progress = self.step / self.num_steps
        # Noise that a method draws itself depends on the step alone.
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)
        done = (self.step + 1) / self.num_steps
        set_learning_rates(self.optimizers, self.optimizer_configs, done)
        shared = self._draw()
        for phase in self.method.phases:
            if not phase.due(self.step):
                continue
            for repeat in range(phase.repeat):
                terms = self.update(phase, shared if repeat == 0 else self._draw())
                log |= {f"{phase.name}/{name}": value for name, value in terms.items()}
        self.step += 1
        if self.skipped_updates == skipped_before:
            self.ema.update(
                self.method.segmenter,
                images_seen=self.images_seen,
                batch_size=self.config.batch_size,
            )
        return log

    def update(self, phase: Phase, micro_batches: list[Any]) -> dict[str, Tensor]:
        """One optimiser step on the mean loss of the micro-batches; its mean terms.

        An update whose loss or gradient is not finite, on any process, is left out on all, with
        what its forward passes told the buffers (running means).

        Raises:
            DivergenceError: This update and the nine before it of this phase were not finite.
        """
        trained = self.parameters[phase.name]
        train_only(self.method, trained)
        optimizer = self.optimizers[owner(phase)]
        optimizer.zero_grad(set_to_none=True)
        buffers = [buffer.clone() for buffer in self.method.buffers()]
        results: list[Losses] = []
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                result: Losses = self.wrapped(phase.name, batch)
                self.accelerator.backward(result.total / len(micro_batches))
            results.append(result)
        norm = nn.utils.clip_grad_norm_(trained, self.config.clip_norm or float("inf"))
        total = torch.stack([result.total.detach() for result in results]).sum()
        # Gradients are the same on every process; a loss may be bad on one of them only.
        bad = not bool(torch.isfinite(norm + total))
        if distributed.any_rank(bad, total.device):
            for buffer, before in zip(self.method.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self._skip(phase)
        else:
            optimizer.step()
            self._skipped_running[phase.name] = 0
        return {
            name: torch.stack([result.terms[name].float() for result in results]).mean()
            for name in results[0].terms
        }

    def _skip(self, phase: Phase) -> None:
        self.skipped_updates += 1
        self._skipped_running[phase.name] += 1
        problem = f"step {self.step}: the loss of phase {phase.name!r} was not finite"
        if self._skipped_running[phase.name] >= _MOST_SKIPPED_UPDATES:
            raise DivergenceError(
                f"{problem} in {_MOST_SKIPPED_UPDATES} updates running; weights were left as they "
                "were. Lower the learning rate or train in fp32"
            )
        self.console.warn(f"{problem}; this update was left out")

    def _draw(self) -> list[Any]:
        """This process's share of the next global batch, as micro-batches on its device."""
        batch = next(self.incoming)
        self.draws += 1
        parts = split_batch(batch, self.share)
        return [to_device(part, self.accelerator.device) for part in parts]

    def _batches(self) -> Iterator[Any]:
        """This process's batches from here on."""
        return batches(
            self.draws_from,
            batch_size=self.config.batch_size,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            start=self.draws,
            workers=self.config.workers,
        )

    # What people and monitors see.

    def _report(self, logbook: Logbook | None, preview: Any, seconds: float) -> None:
        """Everything that is due after an iteration, but for the checkpoint."""
        config = self.config
        if _due(self.step, config.log_every):
            values = self._means()
            self.console.show(values)
            counts = {"images": self.images_seen, "skipped_updates": self.skipped_updates}
            if logbook:
                logbook.write(self.step, counts | values | {"seconds_per_step": seconds})
        if _due(self.step, config.health.every):
            self._check_health(preview, logbook)
        if _due(self.step, config.sample_every) or self.step == self.num_steps:
            self._write_panel(preview)
        self._write_snapshot()
        self.console.advance(self.step)

    def _write_panel(self, batch: Any) -> None:
        if self.accelerator.is_main_process:
            preview = self.method.preview(self.ema.segmenter, batch)
            write_png(self.directory / "samples" / f"step-{self.step:06d}.png", panel(preview))

    def _write_snapshot(self) -> None:
        """Keep the averaged segmenter if an evenly spaced moment has just passed."""
        count = self.config.snapshots
        passed = self.step * count // self.num_steps
        if passed > (self.step - 1) * count // self.num_steps and self.accelerator.is_main_process:
            path = self.directory / "snapshots" / f"{passed:03d}-of-{count:03d}.safetensors"
            self.write_segmenter(path, self.ema.segmenter, self.images_seen)

    def _means(self) -> dict[str, float]:
        """The newest value of every term, averaged over processes."""
        if not self.terms:
            return {}
        values = distributed.mean_over_ranks(torch.stack(list(self.terms.values())))
        return dict(zip(self.terms, values.tolist(), strict=True))

    def _check_health(self, batch: Any, logbook: Logbook | None) -> None:
        preview = self.method.preview(self.ema.segmenter, batch)
        found = statistics_of(preview.masks, preview.inside)
        warnings = self.health.update(self.step, found, self._means())
        for warning in warnings:
            self.console.warn(warning.message)
        if logbook:
            logbook.write_health(self.step, asdict(found), [w.message for w in warnings])
        self._require_uncollapsed()

    def _require_uncollapsed(self) -> None:
        # The first process's verdict: what it saves says the same to whoever resumes.
        collapsed = self.accelerator.is_main_process and self.health.ends_run
        if distributed.any_rank(collapsed, self.accelerator.device):
            self.save()
            problem = f"masks have collapsed ({', '.join(self.health.collapse)})"
            raise DivergenceError(f"step {self.step}: {problem}; train.health stops such a run")

    # Stopping and resuming.

    def save(self) -> None:
        """Write a checkpoint of this step, once; all processes wait until it is on disk.

        Raises:
            DivergenceError: Something is not finite; nothing was written.
            DataError: The disk is full or not writable. Like the above, raised on all processes.
        """
        if self._saved_step == self.step:
            return
        state = self._state()
        error: SeganError | None = None
        if self.accelerator.is_main_process:
            try:
                save_state(self.directory / "state", state)
            except SeganError as found:
                error = found
        # No process may wait for another that has given up.
        if distributed.any_rank(error is not None, self.accelerator.device):
            raise error or DataError("the first process could not write its checkpoint")
        self._saved_step = self.step

    def resume(self) -> bool:
        """Continue from the newest good checkpoint; whether there was one.

        Raises:
            ConfigError: There are checkpoints, but unreadable, or made with other facts.
        """
        state = load_state(self.directory / "state")
        if state is None:
            return False
        tensors, facts = state
        require_same(self.directory / "state", facts["run"], self.facts)
        device, world_size = self.accelerator.device, self.accelerator.num_processes
        if facts["world_size"] != world_size:
            self.console.warn(
                f"this run had {facts['world_size']} processes and now has {world_size}; batches "
                "stay the same, sums are rounded differently"
            )
        self.method.load_state_dict(tensors["model"])
        self.ema.segmenter.load_state_dict(tensors["ema"])
        load_optimizer_tensors(self.optimizers, self.names, tensors["optimizers"])
        self.step, self.draws = facts["step"], facts["draws"]
        self.skipped_updates = facts["skipped_updates"]
        self._skipped_running = facts["skipped_running"]
        self.health.load_state(facts["health"])
        self.terms = {
            name: torch.tensor(float("nan") if value is None else value, device=device)
            for name, value in facts["terms"].items()
        }
        self._saved_step = self.step
        return True

    def _state(self) -> State:
        return State(
            {
                "model": self.method.state_dict(),
                "ema": self.ema.segmenter.state_dict(),
                "optimizers": optimizer_tensors(self.optimizers, self.names),
            },
            {
                "step": self.step,
                "draws": self.draws,
                "skipped_updates": self.skipped_updates,
                "skipped_running": self._skipped_running,
                "health": self.health.state(),
                # Of lazy phases too, whose next value may come after the next line of the log.
                "terms": {n: v if math.isfinite(v) else None for n, v in self._means().items()},
                "world_size": self.accelerator.num_processes,
                "run": self.facts,
            },
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
