"""Stop rules on curves whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from llm_installer.core.examples import Task
from llm_installer.core.files import finite
from llm_installer.core.state import Evaluation, RunState
from llm_installer.planning.chooser import Chooser, DataFacts
from llm_installer.planning.duration import limits
from llm_installer.planning.modes import MODES
from llm_installer.planning.options import Options
from llm_installer.planning.stopping import STOP_RULES, TASKS, Limits, least_squares_slope, stop_reason

FALLING = [3 - 0.1 * i for i in range(12)]
VALLEY = [3.0, 2.0, 1.5, 1.2, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5]
MEMORISED = [3.0, 2.0, 1.4, 1.0, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1]
NOISY = [3.0, 2.5, 2.55, 2.3, 2.35, 2.2, 2.24, 2.1, 2.13, 2.05, 2.08, 2.0]
NEVER = (0, "")


@dataclass(frozen=True)
class Curve:
    """What is measured before training and then once an evaluation, and when which rule ends the run."""

    name: str
    validation: Sequence[float | None]
    expected: tuple[int, str]
    """(evaluation at which it ends, 0 for never; name of the rule)."""
    train: Sequence[float] | None = None
    """The same as validation where it is not given."""
    task: Task = "instruct"
    mode: str = "medium"
    flags: dict[str, float | bool] = field(default_factory=dict)


CURVES = [
    Curve("healthy", FALLING, NEVER),
    Curve("flat from the start", [2.0] * 9, (4, "patience")),
    Curve("only the first evaluation is good", [3.0, 1.0, 1.0, 1.0, 1.0], (4, "patience")),
    Curve("worse than the untrained model from the start", [2.0, 2.5, 2.6, 2.7, 2.8], (4, "patience")),
    Curve("valley without a gap", VALLEY, (7, "patience")),
    Curve("recovers at the last moment", [3.0, 2.0, 2.1, 2.1, 1.9, 1.8], NEVER),
    Curve("one bad measurement", [3.0, 2.0, 2.5, 1.5, 1.0, 0.9, 0.8], NEVER),
    Curve("every second measurement is bad", NOISY, NEVER),
    Curve("every second measurement is bad and a gap is open", NOISY, NEVER, [v / 2 for v in NOISY]),
    Curve("a little better each time, however little", [2 - 1e-4 * i for i in range(12)], NEVER),
    Curve("text waits longer", [2.0] * 8, (6, "patience"), task="text"),
    Curve("vision is as instruct", [2.0] * 8, (4, "patience"), task="vision"),
    # overfitting: held-out loss rises and the gap is open
    Curve("valley and the gap opens: said before patience", VALLEY, (7, "overfitting"), MEMORISED),
    Curve("gap but held-out loss falls", FALLING, NEVER, [f / 2 for f in FALLING]),
    Curve("rise within the noise of one", [3.0, 2.0, 1.8, 1.7, 1.6, 1.65, 1.5], NEVER, [2.0] + [0.5] * 6),
    Curve("text, once the gap is above 20 %", [3.0, 2.0, 1.5, 1.2, 1.15, 1.15, 1.16, 1.17, 1.18], (8, "overfitting"),
          [3.0, 2.0, 1.5, 1.1, 1.0, 0.9, 0.9, 0.9, 0.9], "text"),
    Curve("instruct, a gap of 15 %", [3.0, 1.16, 1.15, 1.14, 1.12, 1.15, 1.18, 1.2], (6, "overfitting"),
          [3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], flags={"patience": 9}),
    Curve("text bears the same 15 %", [3.0, 1.16, 1.15, 1.14, 1.12, 1.15, 1.18, 1.2], NEVER,
          [3.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], "text", flags={"patience": 9}),
    Curve("too few measurements to judge", [1.0, 1.1, 1.2, 1.3, 1.4], NEVER, [1.0] + [0.1] * 4, flags={"patience": 9}),
    Curve("one more and it is judged", [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], (5, "overfitting"), [1.0] + [0.1] * 5,
          flags={"patience": 9}),
    # perfect loss, on the training slice
    Curve("memorised, nothing held out", [None] * 5, (3, "perfect loss"), [3.0, 1.0, 0.02, 0.009, 0.005]),
    Curve("memorised, held-out loss still falls", FALLING[:5], NEVER, [3.0, 0.1, 0.009, 0.008, 0.007]),
    Curve("memorised, held-out loss no longer falls", [3.0, 1.0, 0.9, 0.9], (3, "perfect loss"),
          [3.0, 0.1, 0.009, 0.008]),
    Curve("untrained model knows them already", [None] * 2, (1, "perfect loss"), [0.001, 0.001]),
    Curve("text is perfect at 0.5", [None] * 4, (2, "perfect loss"), [3.0, 1.0, 0.49, 0.4], "text"),
    Curve("instruct is not", [None] * 4, NEVER, [3.0, 1.0, 0.49, 0.4]),
    # perplexity explosion: text, above 100 and rising, that is a loss above 4.605
    Curve("explodes", [4.0, 3.5, 4.7, 5.0], (3, "perplexity explosion"), task="text"),
    Curve("explodes right after a bad beginning", [8.0, 4.0, 4.7, 4.9], (3, "perplexity explosion"), task="text"),
    Curve("high but falling", [9.0, 8.0, 7.5, 7.0, 6.5, 6.0], NEVER, task="text"),
    Curve("rises and stays below 100", [4.0, 3.5, 4.0, 4.3, 4.5, 4.6], (5, "overfitting"),
          [4.0, 3.4, 3.3, 3.2, 3.1, 3.0], "text", flags={"patience": 9}),
    Curve("an explosion of instruct data is no such thing", [4.0, 3.5, 4.7, 5.0], NEVER),
    # no finite number
    Curve("nan on held-out rows", [2.0, 1.0, math.nan], (2, "non-finite loss")),
    Curve("infinite on training rows", [2.0, 1.0], (1, "non-finite loss"), [2.0, math.inf]),
    # nothing held out: training rows are watched
    Curve("nothing held out, falls", [None] * 6, NEVER, [3.0, 2.0, 1.0, 0.5, 0.2, 0.1]),
    Curve("nothing held out, flat", [None] * 6, (4, "patience"), [3.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
    # what the user says wins
    Curve("patience one", [2.0, 1.0, 1.0], (2, "patience"), flags={"patience": 1}),
    Curve("patience three on text", [2.0] * 8, (4, "patience"), task="text", flags={"patience": 3}),
    Curve("a gap of 200 % is allowed", VALLEY, NEVER, [v / 2 for v in VALLEY],
          flags={"patience": 9, "overfitting_threshold": 2.0}),
    Curve("judged from the eighth on", VALLEY, (8, "overfitting"), MEMORISED,
          flags={"patience": 9, "min_evaluations": 8}),
    Curve("judged from the third on", [1.0, 1.1, 1.2, 1.3], (3, "overfitting"), [1.0] + [0.1] * 3,
          flags={"patience": 9, "min_evaluations": 3}),
    Curve("exactly these epochs", VALLEY, NEVER, MEMORISED, flags={"force_epochs": True}),
    Curve("exactly these epochs, memorised", [None] * 4, NEVER, [1.0, 0.1, 0.001, 0.0005],
          flags={"force_epochs": True}),
    Curve("exactly these epochs, but broken", [2.0, math.nan], (1, "non-finite loss"), flags={"force_epochs": True}),
    # other modes
    Curve("circular memorises on purpose", VALLEY, NEVER, MEMORISED, mode="circular"),
    Curve("circular ends when it knows all", VALLEY, (9, "perfect loss"), [*MEMORISED[:9], 0.01], mode="circular"),
    Curve("circular with patience", VALLEY, (6, "patience"), MEMORISED, mode="circular", flags={"patience": 2}),
    Curve("non-stop goes on", VALLEY, NEVER, [*MEMORISED[:9], 0.0], mode="non-stop"),
    Curve("non-stop, but broken", [2.0, math.inf], (1, "non-finite loss"), mode="non-stop"),
]  # fmt: skip


def rules_of(curve: Curve) -> tuple[Limits, tuple[str, ...]]:
    """Thresholds and rules as the plan would choose them."""
    held_out = 0 if curve.validation[0] is None else 100
    facts = DataFacts(900, held_out, curve.task, 50, 100)
    return limits(Options(data="x", **curve.flags), MODES[curve.mode], facts, Chooser())


def follow(curve: Curve, resumed: bool) -> tuple[int, str, str]:
    """(evaluation at which a rule fires, its name, its sentence); the state goes through a checkpoint where asked."""
    state, (bounds, rules) = RunState(), rules_of(curve)
    for i, value in enumerate(curve.validation):
        loss = curve.train[i] if curve.train is not None else value
        state.record(Evaluation(i, 0.0, loss, value, 0.0, 0.0, 0.0, 0.0))
        state.step = i
        if i and (reason := stop_reason(state, bounds, rules)):
            return i, next(name for name in rules if stop_reason(state, bounds, [name])), reason
        if resumed:
            state = RunState.from_json(json.loads(json.dumps(finite(dataclasses.asdict(state)), allow_nan=False)))
    return 0, "", ""


@pytest.mark.parametrize("resumed", [False, True], ids=["unbroken", "resumed"])
@pytest.mark.parametrize("curve", CURVES, ids=lambda c: c.name)
def test_known_curves(curve: Curve, resumed: bool) -> None:
    assert follow(curve, resumed)[:2] == curve.expected


@pytest.mark.parametrize("curve", [c for c in CURVES if c.expected != NEVER], ids=lambda c: c.name)
def test_the_reason_is_a_sentence_that_says_what_is_kept(curve: Curve) -> None:
    at, _, reason = follow(curve, False)
    watched = [v if v is not None else curve.train[i] for i, v in enumerate(curve.validation[: at + 1])]
    best = min((v for v in watched[1:] if math.isfinite(v)), default=math.inf)
    if best < watched[0]:
        assert reason.endswith(f"; the weights of step {watched.index(best, 1)}, the best, are kept")
    else:
        assert reason.endswith("; no step was better than the untrained model, which stays as it is")
    assert not {"slope", "threshold", "NaN", "nan", "inf"} & set(reason.replace(",", " ").split())


def test_every_rule_ends_some_curve() -> None:
    assert {c.expected[1] for c in CURVES} == {"", *STOP_RULES}
    assert {c.task for c in CURVES} == set(TASKS)


def test_best_is_the_lowest_finite_validation_loss() -> None:
    state = RunState()
    for step, loss in enumerate([5.0, 4.0, 3.0, math.nan, 3.5]):
        state.record(Evaluation(step, 0.0, 0.0, loss, 0.0, 0.0, 0.0, 0.0))
    assert (state.base_loss, state.best_loss, state.best_step) == (5.0, 3.0, 2)
    assert state.evaluations_without_improvement == 2


def waited(noise: float, *losses: float, memorising: bool = False) -> float:
    """How long patience has lasted after these validation losses."""
    state = RunState(memorising=memorising)
    for step, loss in enumerate(losses):
        state.record(Evaluation(step, 0.0, loss, loss, 0.0, 0.0, 0.0, 0.0, noise))
    return state.evaluations_without_improvement


def test_a_measurement_within_the_noise_counts_half() -> None:
    assert waited(0.0, 5.0, 3.0, 3.05, 3.2, 3.05) == 3
    assert waited(0.1, 5.0, 3.0, 3.05, 3.2, 3.05) == 2
    assert waited(0.1, 5.0, 3.0, 3.05, 2.99) == 0
    assert waited(0.1, 5.0, 3.0, math.nan) == 1


def test_half_evaluations_survive_a_checkpoint() -> None:
    state = RunState(best_sums=[1.5, 2.5])
    for step, loss in enumerate((5.0, 3.0, 3.05)):
        state.record(Evaluation(step, 0.0, loss, loss, 0.0, 0.0, 0.0, 0.0, 0.1))
    again = RunState.from_json(json.loads(json.dumps(finite(dataclasses.asdict(state)))))
    assert again == state and again.evaluations_without_improvement == 0.5
    older = {name: value for name, value in dataclasses.asdict(state).items() if name != "best_sums"}
    older["history"] = [{k: v for k, v in e.items() if k != "noise"} for e in older["history"]]
    assert RunState.from_json(older).best_sums == [] and RunState.from_json(older).history[-1].noise == 0.0


def test_within_the_noise_the_rules_wait_twice_as_long() -> None:
    bounds, losses = TASKS["instruct"], [5.0, 3.0] + [3.05] * 12
    ends = []
    for noise in (0.0, 0.1):
        state = RunState()
        for step, loss in enumerate(losses):
            state.record(Evaluation(step, 0.0, 2.0, loss, 0.0, 0.0, 0.0, 0.0, noise))
            if step and (reason := stop_reason(state, bounds, ["patience"])):
                ends.append((step, reason.partition(";")[0]))
                break
    assert ends == [
        (4, "the loss on validation rows has not improved for 3 evaluations"),
        (7, "the loss on validation rows has not improved for 6 evaluations"),
    ]


def test_slope_is_the_least_squares_one() -> None:
    assert least_squares_slope([1.0, 3.0, 2.0, 5.0]) == pytest.approx(1.1)
    assert least_squares_slope([4.0]) == 0.0
