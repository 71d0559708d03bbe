"""Mode adaptive's controller: what it does to histories whose trouble is known, and to a noisy bowl that it trains."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_installer.core.files import finite
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.state import Adjustment, Evaluation, RunState
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.controller import CONTROLLERS, LARGEST_BATCH, RULES, adaptive
from llm_installer.planning.controller_view import View
from llm_installer.planning.decide import make_plan
from llm_installer.planning.options import Options
from llm_installer.planning.plan import Plan
from llm_installer.planning.stopping import stop_reason

INFO = ModelInfo(
    path=Path("/m"), name="m", model_type="llama", architecture="LlamaForCausalLM", parameters=1_000_000,
    dtype="float32", vocab_size=512, hidden_size=64, intermediate_size=128, layers=2, heads=4, kv_heads=4,
    head_dim=16, max_positions=512, chat_template=True, vision=False, weight_bytes=4_000_000,
)  # fmt: skip
HANDLER = Handler(name="llama", model_types=("llama",), target_modules=("q_proj",))
CPU = Hardware("cpu", "CPU", 1, 20 * GIB, 24 * GIB, True, 2)


def plan(mode: str = "adaptive", **given: object) -> Plan:
    facts = DataFacts(rows=640, validation_rows=64, task="instruct", mean_length=50, longest=90)
    given = {"effective_batch_size": 16} | given
    return make_plan(Options(data="x", mode=mode, **given), INFO, HANDLER, CPU, facts, (128, "because"))


PLAN = plan()
EVERY = 6
"""Steps between the measurements below; the run has 120, and 12 of warm-up."""


def history(losses: list[tuple[float, float]], changes: list[Adjustment] = [], done: int = 0) -> RunState:  # noqa: B006
    """A state that measured these (held-out, training) losses, the first before training."""
    state = RunState()
    for i, (held_out, train) in enumerate(losses):
        step = i * EVERY
        state.step, state.done = step, max(step, done)
        state.record(Evaluation(step, step / 40, train, held_out, 1e-3, 1.0, 0.0, 0.0))
        for change in changes:
            if change.step == step:
                state.adjustments.append(change)
                state.rate_scale, state.batch_scale = change.rate_scale, change.batch_scale
                state.evaluations_without_improvement = 0
    return state


def both(*losses: float) -> list[tuple[float, float]]:
    return [(loss, loss - 0.1) for loss in losses]


def change(evaluation: int, rate: float, batch: int = 1, back: bool = False) -> Adjustment:
    return Adjustment(evaluation * EVERY, rate, batch, back, "before")


FALLING = both(5.0, 4.8, 4.6, 4.4)
SLOW = both(5.0, 4.0, 3.8, 3.75, 3.74)
ZIGZAG = both(4.0, 3.0, 2.5, 2.6, 2.52, 2.58)
CASES = [
    # name, losses, changes before, planned steps done (0: as measured), (rule, rate, batch, back to the best)
    ("falls and bends", SLOW, [], 0, None),
    ("falls steadily: raise", FALLING, [], 0, ("too slow", 2.0, 1, False)),
    ("falls steadily in the warm-up", FALLING[:3], [], 0, None),
    ("falls steadily, late", FALLING, [], 70, None),
    ("a raise pays: raise again", both(5.0, 4.8, 4.6, 4.4, 4.0), [change(3, 2.0)], 0, ("too slow", 4.0, 1, False)),
    ("a raise does not pay", both(5.0, 4.8, 4.6, 4.4, 4.35), [change(3, 2.0)], 0, ("raised too far", 1.0, 1, False)),
    ("a raise makes it worse", both(5.0, 4.8, 4.6, 4.4, 4.5), [change(3, 2.0)], 0, ("raised too far", 1.0, 1, True)),
    ("the second raise breaks it", both(5.0, 4.8, 4.6, 4.4, 4.0, 6.0), [change(3, 2.0), change(4, 4.0)], 0,
     ("broken", 2.0, 1, True)),
    ("a raise that broke it is the last", both(5.0, 4.8, 4.6, 4.4, 6.0, 4.3, 4.2, 4.1),
     [change(3, 2.0), change(4, 1.0, back=True)], 0, None),
    ("breaks at once", both(5.0, 9.0), [], 0, ("broken", 0.25, 1, True)),
    ("breaks again", both(5.0, 9.0, 7.0), [change(1, 0.25, back=True)], 0, ("broken", 0.0625, 1, True)),
    ("breaks to nan", [*both(5.0, 4.0), (math.nan, math.nan)], [], 0, ("broken", 0.25, 1, True)),
    ("rises only on held-out rows", [(5.0, 5.0), (4.0, 4.0), (4.3, 3.5)], [], 0, None),
    ("stuck from the start: far too high", both(5.0, 4.0, 4.05, 4.01), [], 0, ("stuck", 0.25, 1, True)),
    ("stuck later", both(5.0, 4.0, 4.05, 4.01), [], 60, ("stuck", 0.5, 1, True)),
    ("stuck again", both(5.0, 4.0, 4.05, 4.01, 4.02, 4.03), [change(3, 0.5, back=True)], 60, ("stuck", 0.125, 1, True)),
    ("stuck and getting somewhere", both(5.0, 4.0, 4.05, 4.01, 3.9, 3.95), [change(3, 0.5, back=True)], 60, None),
    ("one bad measurement", both(5.0, 4.0, 4.1), [], 60, None),
    ("the gap grows", [(5.0, 5.0), (4.0, 3.9), (4.05, 3.5), (4.1, 3.2)], [], 60, ("memorising", 0.5, 1, True)),
    ("stuck with the gap it had", [(5.0, 5.0), (4.0, 3.0), (4.01, 3.01), (4.02, 2.99)], [], 60,
     ("stuck", 0.5, 1, True)),
    ("swings at the planned rate", ZIGZAG, [], 60, ("stuck", 0.5, 1, True)),
    ("swings at a lower rate", ZIGZAG, [change(2, 0.5)], 60, ("swinging", 0.5, 2, True)),
    ("larger steps did not help", both(4.0, 3.0, 2.5, 2.6, 2.52, 2.58), [change(1, 0.5), change(3, 0.5, 2, True)], 60,
     ("stuck", 0.125, 1, True)),
    ("three tries brought nothing", both(4.0, 3.0, *[3.1] * 9),
     [change(3, 0.5, 1, True), change(5, 0.25, 1, True), change(7, 0.1, 1, True)], 60, None),
    ("the end is near", both(5.0, 4.0, 4.05, 4.01), [], 118, None),
    ("memorised", [(3.0, 3.0), (2.0, 0.1), (2.1, 0.009), (2.2, 0.005)], [], 60, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "losses", "changes", "done", "expected"), CASES, ids=[c[0] for c in CASES])
def test_known_histories(name, losses, changes, done, expected) -> None:
    state = history(losses, changes, done)
    if name == "swings at a lower rate":
        state.evaluations_without_improvement = 2
    found = adaptive(state, PLAN)
    assert (found is None) == (expected is None), found
    if found is None:
        return
    rule = next(name for name, rule in RULES.items() if rule(View(state, PLAN)))
    assert (rule, found.rate_scale, found.batch_scale, found.restore_best) == expected
    assert found.step == state.step
    resumed = RunState.from_json(json.loads(json.dumps(finite(dataclasses.asdict(state)), allow_nan=False)))
    assert adaptive(resumed, PLAN) == found, "the state alone decides"


def test_every_rule_has_a_case_and_a_plain_sentence() -> None:
    assert {c[4][0] for c in CASES if c[4]} == set(RULES)
    for _, losses, changes, done, expected in CASES:
        found = adaptive(history(losses, changes, done), PLAN)
        if expected and found:
            assert found.why.startswith(("the loss ", "the higher learning rate ", "only the loss "))
            assert not found.restore_best or "; continues from the " in found.why


def test_where_nothing_beat_the_untrained_model_the_first_weights_come_back() -> None:
    found = adaptive(history(both(5.0, 9.0, 8.0)), PLAN)
    assert found and found.restore_best and found.why.endswith("; continues from the first weights")


def test_exactly_these_epochs_means_no_controller() -> None:
    assert plan(force_epochs=True).controller == "none"
    assert plan().controller == "adaptive" and plan("medium").controller == "patient"
    assert plan("non-stop").controller == plan("circular").controller == "none"


@pytest.mark.parametrize(
    ("losses", "changes", "done", "rate"),
    [
        (both(5.0, 4.0, 4.05, 4.01, 4.02), [], 0, 0.5),
        (both(5.0, 4.0, 4.05, 4.01), [], 0, None),  # patience is not at its end
        ([(5.0, 5.0), (4.0, 3.9), (4.1, 3.7), (4.2, 3.5), (4.3, 3.3)], [], 0, None),  # it memorises
        (both(5.0, 4.0, 4.05, 4.01, 4.02), [], 118, None),  # the end is near
        (both(5.0, 4.0, *[4.1] * 6), [change(4, 0.5, back=True)], 0, 0.25),
        (both(5.0, 5.5, 5.6, 5.7, 5.8), [], 0, 0.5),  # never better than the first weights
        (both(5.0, 4.0, *[4.1] * 12), [change(i, 0.5, back=True) for i in (4, 7, 10)], 0, None),
    ],
)  # fmt: skip
def test_patience_ends_no_run_whose_rate_is_too_high(losses, changes, done, rate) -> None:
    found = CONTROLLERS["patient"](history(losses, changes, done), plan("medium"))
    assert (found and found.rate_scale) == rate
    if found:
        assert found.restore_best and found.why.startswith("the loss no longer falls, on training rows neither; now ")


@dataclass
class Bowl:
    """A quadratic loss with narrow and wide directions, met through noisy gradients."""

    weights: list[float]
    noise: float
    chance: random.Random

    CURVES = tuple(10 ** (-i / 4) for i in range(10))

    def loss(self) -> float:
        found = 1.0 + sum(c * w * w for c, w in zip(self.CURVES, self.weights, strict=True))
        return found if math.isfinite(found) and found < 1e100 else math.nan

    def step(self, rate: float, rows: int) -> None:
        spread = self.noise / math.sqrt(rows)
        for i, c in enumerate(self.CURVES):
            self.weights[i] -= rate * (2 * c * self.weights[i] + self.chance.gauss(0, spread))


def best_of(mode: str, rate: float, noise: float, seed: int) -> float:
    """The best loss of a run on the bowl, which the plan, its controller and its stop rules steer."""
    made, state = plan(mode, learning_rate=rate), RunState()
    bowl = Bowl([1.0] * len(Bowl.CURVES), noise, random.Random(seed))
    kept = list(bowl.weights)

    def measure() -> None:
        nonlocal kept
        loss = bowl.loss()
        if state.record(Evaluation(state.step, state.done / 40, loss, loss, 0.0, 0.0, 0.0, 0.0)):
            kept = list(bowl.weights)

    measure()
    while state.done < made.course.total_steps:
        before = state.done
        state.step, state.done = state.step + 1, min(made.course.total_steps, state.done + state.batch_scale)
        bowl.step(made.learning_rate_at(state), state.done - before)
        if not made.course.evaluation_due(before, state.done) and state.done < made.course.total_steps:
            continue
        measure()
        if change := CONTROLLERS[made.controller](state, made):
            state.adjustments.append(change)
            state.rate_scale, state.batch_scale = change.rate_scale, change.batch_scale
            state.evaluations_without_improvement = 0
            if change.restore_best:
                bowl.weights = list(kept) if state.improved else [1.0] * len(Bowl.CURVES)
        elif stop_reason(state, made.course.limits, made.course.stop_rules):
            break
    assert state.batch_scale <= LARGEST_BATCH
    return state.best_loss if state.best_loss is not None else math.inf


@pytest.mark.parametrize(
    ("rate", "noise", "most"),
    [(0.2, 0.1, 1.02), (2.0, 0.1, 1.02), (0.02, 0.1, 0.9), (0.2, 2.0, 1.02), (20.0, 0.1, 0.9)],
    ids=["fits", "10 x too high", "10 x too low", "fits, noisy", "100 x too high"],
)
def test_on_a_noisy_bowl_it_beats_a_rate_that_does_not_fit(rate: float, noise: float, most: float) -> None:
    means = {m: statistics.mean(best_of(m, rate, noise, seed) for seed in range(5)) for m in ("medium", "adaptive")}
    assert means["adaptive"] <= most * means["medium"], means
