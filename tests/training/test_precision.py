from typing import Any

import pytest
import torch
from tiny import started, tensors, trainer
from torch import Tensor

from segan.errors import ConfigError
from segan.methods import cut_paste
from segan.training.precision import build_accelerator, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_looks_at_amx_on_a_cpu(monkeypatch, amx, expected):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert resolve_precision("auto", CPU) == expected
    assert build_accelerator("auto").mixed_precision == ("bf16" if amx else "no")


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_looks_at_native_support_on_a_gpu(monkeypatch, native, expected):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: native)
    assert resolve_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_what_is_asked_for_is_what_is_used(wanted):
    assert resolve_precision(wanted, CPU) == wanted


def test_runs_of_one_process_may_differ_in_precision():
    assert build_accelerator("fp32").mixed_precision == "no"
    assert build_accelerator("bf16").mixed_precision == "bf16"
    assert build_accelerator("fp32").mixed_precision == "no"


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    """Else each would train alone, all in one folder."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="ACCELERATE_USE_CPU=true"):
        build_accelerator("fp32")


def test_bf16_reaches_the_networks_but_neither_totals_weights_nor_penalties(tmp_path, monkeypatch):
    convolved: dict[str, set[torch.dtype]] = {}
    penalised: list[torch.dtype] = []
    real_penalty = cut_paste.r1_penalty

    def penalty(logits: Tensor, images: Tensor) -> Tensor:
        penalised.append(logits.dtype)
        return real_penalty(logits, images)

    monkeypatch.setattr(cut_paste, "r1_penalty", penalty)
    built = started(trainer(tmp_path, steps=4, precision="bf16"))
    phase = ""

    def watch(_module: Any, _inputs: Any, output: Tensor) -> None:
        convolved.setdefault(phase, set()).add(output.dtype)

    for module in built.method.discriminators.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(watch)
    (batch,) = built._draw()
    for phase in ("discriminator", "penalty", "generator"):
        assert built.wrapped(phase, batch).total.dtype == torch.float32
    assert convolved == {
        "discriminator": {torch.bfloat16},
        "penalty": {torch.float32},
        "generator": {torch.bfloat16},
    }
    assert set(penalised) == {torch.float32}
    built.iterate()
    assert {t.dtype for t in tensors(built).values() if t.is_floating_point()} == {torch.float32}


def test_bf16_trains_close_to_fp32(tmp_path):
    logs = {}
    for precision in ("fp32", "bf16"):
        built = started(trainer(tmp_path, steps=4, precision=precision))
        logs[precision] = built.iterate()
    for name, value in logs["fp32"].items():
        assert float(logs["bf16"][name]) == pytest.approx(float(value), rel=0.05, abs=0.05)
    assert logs["bf16"] != logs["fp32"]
