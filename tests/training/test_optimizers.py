"""Optimizers: each learns, is what its row says, and goes on bit for bit from a checkpoint."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_installer.core.errors import TrainingError
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.quantise import check_ready
from llm_installer.planning.method import Method
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.plan import Plan
from llm_installer.training.checkpoint import adapter_weights, load_weights
from llm_installer.training.optimizer import make_optimizer, set_learning_rate
from llm_installer.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")

ON_CPU = sorted(name for name, row in OPTIMIZERS.items() if not row.cuda)


@pytest.fixture
def make_trainer(tiny_llama: Path, plan_for: Callable[..., Plan]) -> Callable[[str], Trainer]:
    """A trainer whose largest adapters have more than the 4096 numbers from which 8-bit states begin."""

    def make(optimizer: str) -> Trainer:
        row = OPTIMIZERS[optimizer]
        plan = plan_for(
            32, epochs=2, method=Method(optimizer=optimizer), learning_rate=2e-3 * row.rate_scale, lora_r=128,
            lora_alpha=128.0, target_modules=("down_proj", "k_proj"),
        )  # fmt: skip
        return Trainer(add_lora(load_base(tiny_llama, "float32", "cpu"), plan), plan, pad=0)

    return make


def learn(trainer: Trainer, rows: list[Any], first: int, last: int) -> list[float]:
    return [
        trainer.step([trainer.batch(rows, (np.arange(8) + 8 * s) % len(rows))], trainer.plan.learning_rate)[0]
        for s in range(first, last)
    ]


@pytest.mark.parametrize("name", ON_CPU)
def test_each_goes_on_from_a_checkpoint_bit_for_bit(
    make_trainer: Callable[[str], Trainer], make_rows: Callable, name: str
) -> None:
    whole, rows = make_trainer(name), make_rows(32)
    losses = learn(whole, rows, 0, 8)
    assert losses[4] < losses[0], "the same rows again, after one pass"
    first = make_trainer(name)
    learn(first, rows, 0, 4)
    file = io.BytesIO()
    torch.save(first.optimizer_state(), file)
    file.seek(0)
    again = make_trainer(name)
    load_weights(again.model, adapter_weights(first.model))
    again.set_optimizer_state(torch.load(file, weights_only=True, map_location="cpu"))
    assert learn(again, rows, 4, 8) == losses[4:]
    ends = [adapter_weights(t.model) for t in (whole, again)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize("name", ON_CPU)
def test_fused_layers_see_every_step(make_trainer: Callable[[str], Trainer], make_rows: Callable, name: str) -> None:
    """The fused LoRA keeps copies of the adapters until torch counts a change; not every optimizer is counted."""
    fused, plain = make_trainer(name), make_trainer(name)
    for module in plain.model.modules():
        module.__dict__.pop("forward", None)
    losses = [learn(trainer, make_rows(32), 0, 6) for trainer in (fused, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ON_CPU)
def test_state_is_as_large_as_the_row_says(
    make_trainer: Callable[[str], Trainer], make_rows: Callable, name: str
) -> None:
    trainer = make_trainer(name)
    learn(trainer, make_rows(8), 0, 1)
    held: dict[int, int] = {}
    for state in trainer.bare_optimizer.state.values():
        held |= {
            v.data_ptr(): v.nbytes for k, v in state.items() if isinstance(v, torch.Tensor) and not k.startswith("qmap")
        }
    numbers = sum(p.numel() for p in trainer.trained)
    large = sum(p.numel() for p in trainer.trained if p.numel() >= 4096)
    assert large > 0.6 * numbers
    row = OPTIMIZERS[name]
    expected = large * row.state_bytes + (numbers - large) * 8 if "8bit" in name else numbers * row.state_bytes
    assert sum(held.values()) == pytest.approx(expected, rel=0.1, abs=0.5 * numbers)


def test_the_eight_bit_state_has_eight_bits(make_trainer: Callable[[str], Trainer], make_rows: Callable) -> None:
    trainer = make_trainer("adamw_bnb_8bit")
    learn(trainer, make_rows(8), 0, 1)
    types = {p.numel() >= 4096: s["state1"].dtype for p, s in trainer.bare_optimizer.state.items()}
    assert types == {True: torch.uint8, False: torch.float32}


def test_lion_moves_every_number_by_the_rate(make_trainer: Callable[[str], Trainer]) -> None:
    trainer = make_trainer("lion")
    before = [p.detach().clone() for p in trainer.trained]
    for p in trainer.trained:
        p.grad = torch.randn_like(p)
    set_learning_rate(trainer.optimizer, 1e-3)
    for group in trainer.optimizer.param_groups:
        group["weight_decay"] = 0.0
    trainer.optimizer.step()
    for old, new in zip(before, trainer.trained, strict=True):
        assert torch.allclose(old - new, 1e-3 * new.grad.sign(), atol=1e-7)


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        (Method(optimizer="lion"), "--optimizer lion"),
        (Method(optimizer="adamw_bnb_8bit"), "--optimizer adamw_bnb_8bit"),
        (Method(quantised="nf4"), "a quantised base"),
        (Method(quantised="int8"), "a quantised base"),
    ],
)
def test_without_bitsandbytes_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, method: Method, wanted: str
) -> None:
    for name in ("bitsandbytes.nn", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TrainingError, match=f"bitsandbytes, which {wanted} needs, cannot be used here") as refused:
        check_ready(method)
    assert "\n" not in str(refused.value)
    check_ready(Method())


def test_a_rate_is_set_before_the_first_step(make_trainer: Callable[[str], Trainer]) -> None:
    trainer = make_trainer("adamw_torch")
    made = make_optimizer(trainer.model, trainer.plan)
    assert type(made) is torch.optim.AdamW
    assert [g["lr"] for g in made.param_groups] == [trainer.plan.learning_rate]
