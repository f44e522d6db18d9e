"""What a run does when its masks collapse."""

import pytest
import torch
from tiny import result, started, trainer, tree

from segan import config, methods
from segan.cli import main
from segan.errors import DivergenceError
from segan.methods.base import Method
from segan.training.logbook import read_metrics

HEALTH = {"every": 1, "grace": 2, "patience": 2, "stop_after": 5}


def mask_nothing(method: Method) -> None:
    """A segmenter so sure of nothing that no gradient moves it."""
    head = method.segmenter.network.head
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, -30.0)


@pytest.fixture
def collapsed(monkeypatch):
    build = methods.build

    def broken(settings: methods.MethodConfig) -> Method:
        built = build(settings)
        mask_nothing(built)
        return built

    monkeypatch.setattr(methods, "build", broken)


@pytest.mark.usefixtures("collapsed")
def test_collapsed_run_that_may_stop_ends_with_exit_code_4(tmp_path, capsys):
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(config.to_yaml(tree(steps=40, health=HEALTH | {"stop": True})))
    assert main(["train", str(file), "--out", str(out)]) == 4
    errors = capsys.readouterr().err
    (warning,) = (line for line in errors.splitlines() if line.startswith("warning: step "))
    assert "masks are empty; raise the weight of the area floor" in warning
    assert "[100% of masks are empty]" in warning
    # Checks 2, 3, 4, ... are bad; the fifth bad one is at step 6.
    (error,) = (line for line in errors.splitlines() if line.startswith("error:"))
    assert error.startswith("error: step 6: masks have collapsed (nothing); ")
    assert "--overwrite starts it anew" in error
    assert result(out)[0]["step"] == 6
    # It stays collapsed: the same command trains no further, and says the same.
    for _ in range(2):
        assert main(["train", str(file), "--out", str(out)]) == 4
        assert error in capsys.readouterr().err.splitlines()
    assert result(out)[0]["step"] == len(result(out)[1]) == 6
    assert not (out / "segmenter.safetensors").exists()


@pytest.mark.usefixtures("collapsed")
def test_a_run_that_stops_before_it_warns_says_what_was_seen(tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    soon = HEALTH | {"stop": True, "patience": 9, "stop_after": 1}
    file.write_text(config.to_yaml(tree(steps=40, health=soon)))
    assert main(["train", str(file), "--out", str(tmp_path / "run")]) == 4
    errors = capsys.readouterr().err
    assert "error: step 2: masks have collapsed (nothing); " in errors
    assert "warning: step" not in errors


@pytest.mark.usefixtures("collapsed")
def test_a_run_that_collapsed_at_its_last_step_is_not_finished(tmp_path, capsys):
    file, out = tmp_path / "tiny.yaml", tmp_path / "run"
    file.write_text(config.to_yaml(tree(steps=6, health=HEALTH | {"stop": True})))
    for _ in range(2):
        assert main(["train", str(file), "--out", str(out)]) == 4
        assert "error: step 6: masks have collapsed (nothing)" in capsys.readouterr().err
        assert not (out / "segmenter.safetensors").exists()


@pytest.mark.usefixtures("collapsed")
def test_collapsed_run_warns_once_and_goes_on_by_default(tmp_path, capsys):
    trainer(tmp_path, steps=9, health=HEALTH, prepare=mask_nothing).run()
    assert capsys.readouterr().err.count("% of masks are empty]") == 1
    assert result(tmp_path)[0]["step"] == 9


@pytest.mark.parametrize(
    ("name", "method", "first"),
    [
        ("cut_paste", {}, 0),
        ("copy_paste", {"guards": {"head_start": 7}}, 7),
        ("seigan", {"guards": {"warmup": 0.25}}, 5),
        ("iic", {"num_overclusters": 0}, 0),
    ],
)
def test_grace_is_counted_from_where_the_segmenter_learns(tmp_path, name, method, first):
    built = trainer(tmp_path, steps=20, name=name, method=method)
    assert built.health.learns_from == first
    before = [p.detach().clone() for p in built.method.segmenter.parameters()]
    started(built)
    for step in range(first + 1):
        same = zip(built.method.segmenter.parameters(), before, strict=True)
        assert all(torch.equal(*pair) for pair in same), f"it learned before step {step}"
        built.iterate()
    after = zip(built.method.segmenter.parameters(), before, strict=True)
    assert not all(torch.equal(*pair) for pair in after)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("copy_paste", {"guards": {"head_start": 10}}),
        ("seigan", {"guards": {"warmup": 0.5}}),
    ],
)
def test_masks_that_have_not_been_trained_yet_are_no_collapse(tmp_path, name, method):
    """Ten of twenty steps without the segmenter, two of grace, and the fifth bad check."""
    settings = {"method": method, "health": HEALTH | {"stop": True}, "prepare": mask_nothing}
    with pytest.raises(DivergenceError, match=r"step 16: masks have collapsed \(nothing\)"):
        trainer(tmp_path, steps=20, name=name, **settings).run()


def test_healthy_run_does_not_warn(tmp_path, capsys):
    trainer(tmp_path, steps=9, health=HEALTH | {"patience": 5}).run()
    assert "masks are empty" not in capsys.readouterr().err


def test_discriminator_that_has_won_is_warned_of(tmp_path, capsys):
    rates = {"discriminator": {"lr": 2e-2, "warmup": 0.0}, "generator": {"lr": 1e-9}}
    weights = {"r1": 0.0, "cut": 0.0, "empty": 0.0}
    health = HEALTH | {"most_accuracy": 0.8}
    trainer(tmp_path, steps=40, health=health, optimizers=rates, method={"weights": weights}).run()
    log = read_metrics(tmp_path / "metrics.jsonl")
    accuracies = [line["discriminator/paste_accuracy"] for line in log]
    assert all(0 <= value <= 1 for value in accuracies)
    assert max(accuracies[-5:]) > 0.8
    assert "the discriminator tells every composite from a real image" in capsys.readouterr().err
