"""CUDA graphs themselves: runs that are played back against eager ones, and where they say that they run without.

What decides, and what is recorded, is tested on a CPU (tests/training/test_graphs.py, test_static.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm_installer.data.batches import epoch_steps
from llm_installer.data.encoding.row import Row
from llm_installer.install.tiny import MODEL_DIR
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.document_attention import FLASH, VARLEN
from llm_installer.training.fixed_shapes import SWITCH, fix_shapes
from llm_installer.training.trainer import Trainer, row_lengths
from llm_installer.training.training_data import TrainingData
from tests.training.traces import PlayingBack

STEPS = {"cuda": 24, "cpu": 8}
ROWS = {"cuda": 16, "cpu": 4}
"""In a step."""
SETS = 2
"""Rows that come again, so that few buckets are met often."""


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.cuda), pytest.param("cpu", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where it is computed: on a CPU what was recorded is played back operation by operation."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    monkeypatch.setenv(SWITCH, "1")
    return str(request.param)


def capture_for(device: str) -> PlayingBack | None:
    return PlayingBack() if device == "cpu" else None


def data_of(count: int = 256, alike: bool = False) -> TrainingData:
    random = np.random.default_rng(0)
    lengths = [96] * count if alike else np.clip(random.lognormal(4.5, 0.6, count), 8, 400).astype(int)
    rows = [Row(random.integers(3, 1000, n), random.random(n) < 0.7, i) for i, n in enumerate(lengths)]
    return TrainingData(rows, rows[:8], rows[8:16])


def trainer_of(device: str, plan: Plan, **more: Any) -> Trainer:
    torch.manual_seed(0)
    precision = "bfloat16" if device == "cuda" else "float32"
    method = dataclasses.replace(plan.method, optimizer="adamw_torch_fused")
    wanted = {
        "device": device,
        "precision": precision,
        "packing": True,
        "micro_batch_rows": 64,
        "method": method,
        **more,
    }
    plan = dataclasses.replace(plan, micro_batch_tokens=4096, **wanted)
    return Trainer(add_lora(load_base(Path(MODEL_DIR), plan.precision, device), plan), plan, pad=0)


def losses(trainer: Trainer, data: TrainingData, steps: int = 0) -> list[float]:
    plan, lengths, found = trainer.plan, row_lengths(data.rows), []
    planned = epoch_steps(lengths, plan.course.effective_batch_size, plan.seed, 0, order="shuffled")
    for i in range(steps or STEPS[plan.device]):
        loss, _, taken = trainer.step(trainer.micro_batches(data.rows, lengths, planned[i % SETS]), 1e-3)
        assert taken
        found.append(loss)
    return found


WAYS: dict[str, dict[str, Any]] = {
    "packed": {},
    "rows": {"packing": False},
    "checkpointed": {"checkpointed_layers": 4},
    "float32 rows": {"packing": False, "precision": "float32"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_played_back_is_the_eager_one(
    way: str, device: str, plan_for: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu" and way not in ("packed", "rows"):
        pytest.skip("tests/training/test_graphs.py does this on a CPU")
    data = data_of(alike="rows" in way)
    found, said = {}, list[str]()
    for on in ("0", "1"):
        monkeypatch.setenv(SWITCH, on)
        trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]), **WAYS[way])
        fix_shapes(trainer, data, True, said.append, capture_for(device))
        assert bool(trainer.fixed) == (on == "1"), said
        found[on] = losses(trainer, data)
        if on == "1":
            assert trainer.fixed and trainer.fixed.recorded >= 2, said
            if device == "cuda" and WAYS[way].get("packing", True):
                assert trainer.packing in (FLASH, VARLEN), trainer.notes
    assert not any("without" in line.lower() for line in said), said
    apart = max(abs(a - b) / a for a, b in zip(found["0"], found["1"], strict=True))
    assert apart < (1e-4 if "float32" in way else 1e-2), (apart, found)


def test_dropout_is_drawn_anew_each_time(device: str, plan_for: Callable[..., Plan]) -> None:
    """Played back, each pass still drops others: the same rows have another loss each time."""
    data, said = data_of(), list[str]()
    trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]), lora_dropout=0.5)
    fix_shapes(trainer, data, True, said.append, capture_for(device))
    lengths, rows = row_lengths(data.rows), np.arange(4)
    batches = trainer.micro_batches(data.rows, lengths, rows)
    torch.nn.init.normal_(next(p for n, p in trainer.model.named_parameters() if "lora_B" in n), std=0.5)
    trainer.weights_changed()
    found = [trainer.step(batches, 0.0)[0] for _ in range(8)]
    assert len(set(found[4:])) > 1 or not (trainer.fixed and trainer.fixed.recorded), (found, said)


@pytest.mark.parametrize(("more", "why"), [({"precision": "float16"}, "float16"), ({"packing": True}, "")])
def test_what_cannot_be_recorded_says_so(
    more: dict[str, Any], why: str, device: str, plan_for: Callable[..., Plan]
) -> None:
    if device == "cpu" and why:
        pytest.skip("float16 is for GPUs")
    said: list[str] = []
    trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]), **more)
    fix_shapes(trainer, data_of(), True, said.append, capture_for(device))
    assert any(why in line for line in said) and bool(trainer.fixed) == (not why), said
    losses(trainer, data_of(), 4)


def test_evaluation_between_played_back_steps_sees_the_new_weights(device: str, plan_for: Callable[..., Plan]) -> None:
    data, said = data_of(), list[str]()
    trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]))
    fix_shapes(trainer, data, True, said.append, capture_for(device))
    seen = []
    for _ in range(4):
        losses(trainer, data, 6 if device == "cuda" else 3)
        seen.append(trainer.evaluate(data.train_slice))
    assert len(set(seen)) == 4 and seen[-1] < seen[0], seen


def test_a_step_without_a_finite_loss_is_left_out(device: str, plan_for: Callable[..., Plan]) -> None:
    data, said = data_of(), list[str]()
    trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]))
    fix_shapes(trainer, data, True, said.append, capture_for(device))
    losses(trainer, data)
    before = torch.cat([p.detach().flatten() for p in trainer.trained])
    trainer.gradients()[0].fill_(float("nan"))
    assert not trainer.step(trainer.micro_batches(data.rows, row_lengths(data.rows), np.arange(4)), 1e-3)[2]
    assert torch.equal(before, torch.cat([p.detach().flatten() for p in trainer.trained]))
    losses(trainer, data, 3)


@pytest.mark.cuda
def test_a_step_asks_the_device_once(device: str, plan_for: Callable[..., Plan]) -> None:
    if device != "cuda":
        pytest.skip("torch only counts waits for a GPU")
    data, said = data_of(), list[str]()
    trainer = trainer_of(device, plan_for(256, epochs=8.0, batch=ROWS[device]))
    fix_shapes(trainer, data, True, said.append, capture_for(device))
    losses(trainer, data)
    batches = trainer.micro_batches(data.rows, row_lengths(data.rows), np.arange(4))
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning) as warned:
            trainer.step(batches, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in warned if "synchroniz" in str(w.message).lower()]) <= 2, [str(w.message) for w in warned]
