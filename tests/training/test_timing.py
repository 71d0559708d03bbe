"""What is timed before training leaves no trace in it, and counts the steps that will be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llm_installer.core.run.signals import Requests
from llm_installer.core.state import RunState
from llm_installer.models.base import add_lora, load_base
from llm_installer.training.checkpoint import adapter_weights
from llm_installer.training.loop import train_loop
from llm_installer.training.session import Session
from llm_installer.training.timing import Extra, forecast
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData
from tests.training.test_memory_probe import NoCheckpoints, Silent

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")


def run(folder: Path, plan_for: Callable, rows: list, timed: bool, **changed: object) -> tuple[Silent, dict, object]:
    plan = plan_for(len(rows), epochs=2, micro_batch_tokens=512, **changed)
    trainer = Trainer(add_lora(load_base(folder, "float32", "cpu"), plan), plan, pad=0)
    data, report = TrainingData(rows, rows[:6], rows[6:9]), Silent()
    found = forecast(trainer, data, RunState(), Extra(True, True), report.on_note) if timed else None
    train_loop(trainer, data, Session(NoCheckpoints(), report, Requests()))
    return report, adapter_weights(trainer.model), found


@pytest.mark.parametrize("changed", [{"lora_dropout": 0.2}, {"cycles": True, "batch": 2}])
def test_timing_leaves_no_trace_and_counts_what_comes(
    tiny_llama: Path, plan_for: Callable, make_rows: Callable, changed: dict[str, object]
) -> None:
    rows = make_rows(24)
    plain, weights, _ = run(tiny_llama, plan_for, rows, timed=False, **changed)
    timed, same, found = run(tiny_llama, plan_for, rows, timed=True, **changed)
    assert timed.losses == plain.losses and timed.evaluations == plain.evaluations and timed.notes == []
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert (found.steps, found.evaluations) == (len(timed.losses), len(timed.evaluations))
    assert min(found.step, found.evaluation, found.after) > 0
