import dataclasses
import math
import multiprocessing
import os
import signal

import pytest
import torch
from tiny import largest_difference, poisoned, result, started, tensors, trainer, tree, weights
from torch import Tensor

from segan import config
from segan.cli import main
from segan.errors import ConfigError, DataError, DivergenceError, Interrupted
from segan.methods.base import Losses, Method
from segan.methods.cut_paste import CutPaste
from segan.training.trainer import Trainer

# Loader processes are forked; two suffice to have items arrive out of order.
WORKERS = pytest.mark.parametrize("workers", [0, 2])


def run_signalled(built: Trainer, *, after: int) -> None:
    """Run until a SIGTERM that comes during iteration `after`."""
    iterate = built.iterate

    def signalled() -> dict[str, Tensor]:
        terms = iterate()
        if built.step == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return terms

    built.iterate = signalled
    with pytest.raises(Interrupted, match=f"stopped at step {after} of"):
        built.run()


# Resuming.


@WORKERS
def test_resumed_run_is_the_run_itself(tmp_path, workers):
    settings = {"steps": 9, "workers": workers, "log_every": 2, "health": {"every": 1, "grace": 0}}
    trainer(tmp_path / "whole", **settings).run()
    facts, log = result(tmp_path / "whole")
    assert [line["step"] for line in log] == [2, 4, 6, 8]
    assert facts["step"] == 9
    assert all("penalty/r1_paste" in line for line in log)

    # Stopped by a signal between checkpoints and log lines, then again right after a checkpoint.
    first = trainer(tmp_path / "stopped", **settings)
    run_signalled(first, after=3)
    assert result(tmp_path / "stopped")[0]["step"] == 3
    second = trainer(tmp_path / "stopped", **settings)
    assert second.resume()
    run_signalled(second, after=6)
    third = trainer(tmp_path / "stopped", **settings)
    assert third.resume()
    third.run()
    # Hashes of weights, average and moments; step, draws, health; every line of the log.
    assert result(tmp_path / "stopped") == (facts, log)


@pytest.mark.parametrize("name", ["wnet", "iic"])
def test_resumed_clustering_is_the_run_itself(tmp_path, name):
    """With dropout, which follows the step, and batch norm, whose running means are saved."""
    noise = {"network": {"width": 4, "depth": 2, "dropout": 0.5}} if name == "wnet" else None
    settings = {"steps": 7, "name": name, "method": noise, "log_every": 2}
    trainer(tmp_path / "whole", **settings).run()
    run_signalled(trainer(tmp_path / "stopped", **settings), after=3)
    again = trainer(tmp_path / "stopped", **settings)
    assert again.resume()
    again.run()
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


@pytest.mark.parametrize("name", ["wnet", "iic"])
def test_batches_that_belong_together_are_not_cut(tmp_path, name):
    with pytest.raises(ConfigError, match=f"but {name} compares all 8 images of a process"):
        trainer(tmp_path, steps=1, name=name, micro_batch=4)


def test_run_resumed_from_an_older_checkpoint_repeats_what_was_lost(tmp_path):
    settings = {"steps": 8, "checkpoint_every": 3}
    trainer(tmp_path / "whole", **settings).run()
    crashed = trainer(tmp_path / "crashed", **settings)
    iterate = crashed.iterate

    def crash() -> dict[str, Tensor]:
        if crashed.step == 5:
            raise KeyboardInterrupt
        return iterate()

    crashed.iterate = crash
    with pytest.raises(KeyboardInterrupt):
        crashed.run()
    with (tmp_path / "crashed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "images"')
    again = trainer(tmp_path / "crashed", **settings)
    assert again.resume()
    assert again.step == 3
    again.run()
    assert result(tmp_path / "crashed") == result(tmp_path / "whole")


def test_loader_processes_end_with_the_run(tmp_path):
    """Even while the exception that ended it is kept, as by a debugger or a test."""
    built = trainer(tmp_path, steps=9, workers=2)
    run_signalled(built, after=2)
    assert multiprocessing.active_children() == []


def test_finished_run_resumes_to_its_end(tmp_path):
    trainer(tmp_path, steps=2).run()
    before = result(tmp_path)
    again = trainer(tmp_path, steps=2)
    assert again.resume()
    again.run()
    assert result(tmp_path) == before


def test_other_seed_is_another_run(tmp_path):
    for seed in (0, 1):
        trainer(tmp_path / str(seed), steps=2, seed=seed).run()
    (first, log), (second, other_log) = (result(tmp_path / str(seed)) for seed in (0, 1))
    assert first["sha256"]["ema.safetensors"] != second["sha256"]["ema.safetensors"]
    assert log != other_log


def test_checkpoint_of_another_configuration_is_refused(tmp_path):
    trainer(tmp_path, steps=2).run()
    with pytest.raises(ConfigError, match="made with another config"):
        trainer(tmp_path, steps=2, method={"r1_every": 3}).resume()


@pytest.mark.parametrize("key", ["data", "precision"])
def test_checkpoint_made_with_something_else_says_what(tmp_path, key):
    first = trainer(tmp_path, steps=2)
    first.facts |= {"data": "a", "precision": "no"}
    first.run()
    again = trainer(tmp_path, steps=2)
    again.facts |= {"data": "a", "precision": "no", key: "b"}
    with pytest.raises(ConfigError, match=f"was made with another {key}; restore"):
        again.resume()


def test_a_run_of_an_earlier_revision_of_its_method_is_not_gone_on_with(
    tmp_path, monkeypatch, capsys
):
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(config.to_yaml(tree(steps=4)))
    arguments = ["train", str(file), "--out", str(out)]
    assert main(arguments) == 0
    (out / "segmenter.safetensors").unlink()
    monkeypatch.setattr(CutPaste, "revision", 7)
    assert main(arguments) == 2
    assert "was made with another revision of its method; restore" in capsys.readouterr().err


def test_nothing_is_saved_twice_at_one_step(tmp_path, monkeypatch):
    saves = []
    built = trainer(tmp_path, steps=4, checkpoint_every=2)
    monkeypatch.setattr(
        "segan.training.trainer.save_state", lambda _, state: saves.append(state.facts["step"])
    )
    run_signalled(built, after=2)
    assert saves == [2]


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    trainer(tmp_path, steps=1).run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_checkpoint_that_cannot_be_written_ends_the_run_with_exit_code_3(tmp_path):
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(DataError, match="cannot write checkpoint") as caught:
        trainer(tmp_path, steps=2, checkpoint_every=1).run()
    assert caught.value.exit_code == 3


# Phases, micro-batches and optimisers.


def test_micro_batches_equal_the_whole_batch(tmp_path):
    runs = {micro: started(trainer(tmp_path, steps=6, micro_batch=micro)) for micro in (None, 4, 2)}
    logs = {micro: [built.iterate() for _ in range(6)] for micro, built in runs.items()}
    for micro in (4, 2):
        assert runs[micro].draws == 6
        found, whole = tensors(runs[micro]), tensors(runs[None])
        assert largest_difference(weights(found), weights(whole)) <= 1e-6
        assert largest_difference(found, whole) <= 1e-5
        # But for the accuracy, which is a statistic of all pairs of a batch.
        for term, value in logs[micro][-1].items():
            if not term.endswith("accuracy"):
                assert float(value) == pytest.approx(float(logs[None][-1][term]), abs=1e-5)


class Repeating:
    """Makes a method repeat its discriminator and run its generator every third iteration."""

    def __call__(self, method: Method) -> None:
        discriminator, penalty, generator = method.phases
        method.phases = (
            dataclasses.replace(discriminator, repeat=2),
            penalty,
            dataclasses.replace(generator, every=3),
        )


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_optimizers_step_as_often_as_phases_say(tmp_path, micro_batch):
    built = started(trainer(tmp_path, steps=20, prepare=Repeating(), micro_batch=micro_batch))
    for _ in range(7):
        built.iterate()
    counts = {
        name: {float(moments["step"]) for moments in optimizer.state.values()}
        for name, optimizer in built.optimizers.items()
    }
    # Iterations 0..6: two discriminator updates in each, penalties in 0, 2, 4, 6; generator in
    # 0, 3, 6. Penalties do not see the last bias. Every repeat but the first draws its own batch.
    assert counts == {"discriminator": {7 * 2 + 4, 7 * 2}, "generator": {3}}
    assert built.draws == 7 * 2
    assert built.images_seen == 7 * 8


def test_phase_moves_only_what_it_trains(tmp_path):
    built = started(trainer(tmp_path, steps=4))
    batch = built._draw()
    for phase in built.method.phases:
        before = {name: p.detach().clone() for name, p in built.method.named_parameters()}
        built.update(phase, batch)
        moved = {
            name.split(".")[0]
            for name, parameter in built.method.named_parameters()
            if not torch.equal(parameter, before[name])
        }
        assert moved == set(phase.trains)
        # The others are frozen, so that nothing is computed for them in vain.
        trainable = {n.split(".")[0] for n, p in built.method.named_parameters() if p.requires_grad}
        assert trainable == set(phase.trains)


def test_learning_rate_follows_progress(tmp_path):
    optimizers = {"generator": {"lr": 1e-2, "warmup": 0.5, "hold": 1.0}}
    built = started(trainer(tmp_path, steps=4, optimizers=optimizers))
    rates = []
    for _ in range(4):
        built.iterate()
        rates.append(built.optimizers["generator"].param_groups[0]["lr"])
    assert rates == pytest.approx([5e-3, 1e-2, 1e-2, 1e-2])


def test_gradients_are_clipped_to_their_norm(tmp_path):
    sgd = {
        name: {"type": "sgd", "lr": 1.0, "beta1": 0.0} for name in ("discriminator", "generator")
    }
    built = started(trainer(tmp_path, steps=1, clip_norm=1e-3, optimizers=sgd))
    phase = built.method.phases[0]
    before = [parameter.detach().clone() for parameter in built.parameters[phase.name]]
    built.update(phase, built._draw())
    moves = zip(built.parameters[phase.name], before, strict=True)
    moved = torch.stack([(now - then).square().sum() for now, then in moves]).sum().sqrt()
    assert float(moved.detach()) == pytest.approx(1e-3, rel=1e-2)


def test_frozen_parameters_stay_frozen(tmp_path):
    def freeze(method: Method) -> None:
        method.segmenter.network.head.weight.requires_grad_(False)

    built = started(trainer(tmp_path, steps=2, prepare=freeze))
    before = built.method.segmenter.network.head.weight.clone()
    built.iterate()
    built.iterate()
    assert torch.equal(built.method.segmenter.network.head.weight, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"micro_batch": 3}, r"'train\.micro_batch' is 3; it must divide the 8 images"),
        ({"optimizers": {"critic": {}}}, r"'train\.optimizers\.critic'"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    tmp_path, settings, message
):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path / "run", steps=2, **settings)
    assert not (tmp_path / "run").exists()


# Numbers that are not finite.


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_batch_that_is_not_a_number_leaves_everything_as_it_was(tmp_path, micro_batch, capsys):
    built = started(trainer(tmp_path, steps=6, micro_batch=micro_batch))
    built.incoming = poisoned(built.incoming, draws=range(2, 3))
    built.iterate()
    built.iterate()
    before = tensors(built)
    built.iterate()
    # The penalty was due as well: three updates, none of which left a trace.
    assert built.skipped_updates == 3
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(built).items())
    assert "was not finite; this update was left out" in capsys.readouterr().err
    for _ in range(3):
        built.iterate()
    after = tensors(built)
    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    assert largest_difference(after, before) > 1e-4
    assert built.skipped_updates == 3


@pytest.mark.parametrize("name", ["wnet", "iic"])
def test_running_means_forget_a_batch_that_is_not_a_number(tmp_path, name):
    built = started(trainer(tmp_path, steps=3, name=name))
    whole = built.incoming

    def poisoned_once():
        for draw, batch in enumerate(whole):
            if draw == 1:
                batch.images[0, 0, 0, 0] = float("nan")
            yield batch

    built.incoming = poisoned_once()
    built.iterate()
    before = tensors(built)
    built.iterate()
    assert built.skipped_updates == len(built.method.phases) - (name == "iic")
    after = tensors(built)
    assert all(torch.equal(after[key], before[key]) for key in before)
    built.iterate()
    built.save()


def test_skipped_updates_are_counted_in_the_log_and_after_resuming(tmp_path, monkeypatch):
    settings = {"steps": 6}
    batches = Trainer._batches
    monkeypatch.setattr(
        Trainer,
        "_batches",
        lambda self: poisoned(batches(self), draws=range(2 - self.draws, 3 - self.draws)),
    )
    trainer(tmp_path / "whole", **settings).run()
    log = result(tmp_path / "whole")[1]
    assert [line["skipped_updates"] for line in log] == [0, 0, 3, 3, 3, 3]
    assert [line["discriminator/paste"] is None for line in log] == [n == 2 for n in range(6)]
    run_signalled(trainer(tmp_path / "stopped", **settings), after=3)
    again = trainer(tmp_path / "stopped", **settings)
    again.resume()
    again.run()
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_ten_bad_updates_running_end_the_run_and_keep_the_last_checkpoint(tmp_path):
    built = trainer(tmp_path, steps=40, checkpoint_every=1)
    batches = built._batches
    built._batches = lambda: poisoned(batches(), draws=range(3, 99))
    with pytest.raises(DivergenceError, match=r"not finite in 10 updates running") as caught:
        built.run()
    assert caught.value.exit_code == 4
    again = trainer(tmp_path, steps=40, checkpoint_every=1)
    assert again.resume()
    assert again.step == 12
    saved = tensors(again)
    assert all(bool(tensor.isfinite().all()) for tensor in saved.values())
    assert all(torch.equal(tensor, saved[name]) for name, tensor in tensors(built).items())


def test_phase_that_never_is_finite_ends_the_run_though_others_are(tmp_path):
    built = started(trainer(tmp_path, steps=40))
    losses = built.method.generator_losses

    def broken(batch: object) -> Losses:
        return losses(batch)._replace(total=losses(batch).total * math.nan)

    built.method.generator_losses = broken
    for _ in range(9):
        built.iterate()
    with pytest.raises(DivergenceError, match="step 9: the loss of phase 'generator'"):
        built.iterate()


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_either_a_bad_loss_or_a_bad_gradient_is_enough(tmp_path, bad):
    built = started(trainer(tmp_path, steps=4))
    built.iterate()
    before = tensors(built)
    losses = built.method.generator_losses

    def broken(batch: object) -> Losses:
        result = losses(batch)
        weight = next(built.method.segmenter.parameters())
        # The square root is zero, its slope infinite.
        extra = (0 * weight).sum().sqrt() if bad == "gradient" else weight.new_tensor(math.inf)
        assert bool((result.total + extra).isfinite()) == (bad == "gradient")
        return result._replace(total=result.total + extra)

    built.method.generator_losses = broken
    built.update(built.method.phases[-1], built._draw())
    assert built.skipped_updates == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(built).items())


def test_bad_updates_that_are_not_running_do_not_end_the_run(tmp_path):
    built = started(trainer(tmp_path, steps=40))
    built.incoming = (
        batch._replace(objects=batch.objects * math.nan) if draw % 4 else batch
        for draw, batch in enumerate(built.incoming)
    )
    for _ in range(16):
        built.iterate()
    assert built.skipped_updates >= 24


def test_weight_that_is_not_a_number_is_not_saved(tmp_path):
    built = started(trainer(tmp_path, steps=4))
    built.iterate()
    built.save()
    with torch.no_grad():
        next(built.method.segmenter.parameters()).fill_(math.nan)
    built.step = 2
    with pytest.raises(DivergenceError, match="is not finite"):
        built.save()
    assert (tmp_path / "state" / "LATEST").read_text() == "step-00000001\n"
    again = trainer(tmp_path, steps=4)
    assert again.resume()
    assert again.step == 1
