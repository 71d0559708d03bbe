"""A rank that grows: first as an adapter of the low rank trains, the same function when it grows, then more of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.errors import UsageError
from llm_installer.core.run.signals import Requests
from llm_installer.core.state import RunState
from llm_installer.models.base import add_lora, load_base
from llm_installer.planning.contradictions import refuse_contradictions
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.ranks import ranks, stage
from llm_installer.training.loop import train_loop
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer
from llm_installer.training.training_data import TrainingData

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
FLAT = {"schedule": "constant", "warmup_steps": 0, "evaluation_every": 100, "stop_rules": ()}


class Watching:
    """Keeps losses, what is said, and every adapter as it is after each step."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.losses: list[float] = []
        self.notes: list[str] = []
        self.after: list[dict[str, torch.Tensor]] = []

    def on_step(self, report) -> None:
        self.losses.append(report.loss)
        self.after.append({n: p.detach().clone() for n, p in self.trainer.model.named_parameters() if ".lora_" in n})

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def on_evaluation(self, evaluation, state, best) -> None: ...
    def on_event(self, event, state) -> None: ...


class NoCheckpoints:
    def due(self, measured: bool) -> bool:
        return False

    def write(self, *args: object) -> None: ...


def trained(trainer: Trainer, rows: list) -> Watching:
    watching = Watching(trainer)
    train_loop(trainer, TrainingData(rows, rows[:4], []), Session(NoCheckpoints(), watching, Requests()))
    return watching


def test_a_rank_that_grows_begins_as_the_low_one_and_ends_as_the_high_one(
    tiny_llama: Path, make_rows: Callable, plan_for: Callable
) -> None:
    rows = make_rows(24)
    plan = plan_for(24, epochs=4, batch=4, lora_r=8, lora_alpha=8.0, rank_steps=(2, 8), **FLAT)
    low = dataclasses.replace(plan, lora_r=2, lora_alpha=2.0, rank_steps=())
    many, few = (add_lora(load_base(tiny_llama, "float32", "cpu"), each) for each in (plan, low))
    first = {name: p.detach().clone() for name, p in many.named_parameters() if ".lora_" in name}
    for name, parameter in few.named_parameters():
        if ".lora_A." in name:
            parameter.data.copy_(first[name][:2])
    high, small = Trainer(many, plan, pad=0), Trainer(few, low, pad=0)
    grown, lone = trained(high, rows), trained(small, rows)
    half = plan.course.total_steps // 2
    assert grown.losses[: half + 1] == pytest.approx(lone.losses[: half + 1], rel=1e-4), (
        "also at the step of the switch"
    )
    assert grown.notes == [f"Step {half + 1}: the rank grows from 2 to 8"]
    for name, before in first.items():
        at_switch, last = grown.after[half - 1][name], grown.after[-1][name]
        if ".lora_A." in name:
            shrunk = before[2:] * (1 - plan.learning_rate * plan.weight_decay) ** half
            assert torch.allclose(at_switch[2:], shrunk, rtol=1e-5), "weight decay alone"
            assert (last[2:] - at_switch[2:]).norm() > 1e-4 < (at_switch[:2] - before[:2]).norm()
        else:
            assert not at_switch[:, 2:].any() and at_switch[:, :2].any() and last[:, 2:].any()


def test_the_learning_rate_warms_up_again_when_the_rank_has_grown(plan_for: Callable) -> None:
    plan: Plan = plan_for(24, epochs=4, batch=4, lora_r=8, rank_steps=(2, 4, 8), schedule="constant", warmup_steps=3)
    rates = [plan.learning_rate_at(RunState(step=n, done=n)) / plan.learning_rate for n in range(1, 25)]
    assert rates[3:8] == [1.0] * 5 and rates[8:11] == [0.25, 0.5, 0.75] and rates[11:16] == [1.0] * 5
    assert rates[16:19] == [0.25, 0.5, 0.75] and rates[-1] == 1.0


@given(st.lists(st.integers(1, 512), min_size=1, max_size=5, unique=True).map(sorted), st.integers(1, 400))
def test_ranks_share_a_run_and_never_shrink(steps: list[int], total: int) -> None:
    found = [stage(steps, done, total) for done in range(1, total + 1)]
    assert [rank for rank, _ in found] == sorted(rank for rank, _ in found)
    assert found[0] == (steps[0], 1)
    for (rank, begun), (following, later) in pairwise(found):
        assert later == (begun + 1 if following == rank else 1)
    if total >= len(steps):
        counts = [sum(rank == each for rank, _ in found) for each in steps]
        assert max(counts) - min(counts) <= 1


def test_ranks_are_said_as_a_list_or_with_commas() -> None:
    for given_ in ("4,8,16", [4, 8, 16], (4, 8, 16)):
        assert Options.from_kwargs(lora_r=given_).lora_r == "4,8,16" == Options.from_kwargs(r=given_).lora_r
    assert Options.from_kwargs(lora_r=[8]).lora_r == 8 == Options.from_kwargs(lora_r="8").lora_r
    assert ranks("4,8,16") == (4, 8, 16) and ranks(8) == (8,) and ranks(None) == ()
    for wrong, says in (
        ("8,4", "does not grow"),
        ("4,4", "does not grow"),
        ("0,4", "too small"),
        ("4,x", "whole number"),
    ):
        with pytest.raises(UsageError, match=says):
            Options.from_kwargs(lora_r=wrong)


@pytest.mark.parametrize(
    "more", [{"mode": "non-stop"}, {"init_lora_weights": "pissa"}, {"target_modules": "q_proj,experts"}], ids=str
)
def test_a_rank_that_cannot_grow_is_refused(more: dict[str, object]) -> None:
    refuse_contradictions(Options.from_kwargs(lora_r="4", **more))
    with pytest.raises(UsageError, match="lora-r one rank"):
        refuse_contradictions(Options.from_kwargs(lora_r="4,8", **more))
