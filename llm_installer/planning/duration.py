"""Decides the course of a run: epochs, batch size, learning-rate schedule, evaluations, and what ends it."""

from __future__ import annotations

import math
from dataclasses import replace

from llm_installer.core.errors import UsageError
from llm_installer.core.text import counted
from llm_installer.planning.chooser import Chooser, DataFacts, by_size
from llm_installer.planning.course import EARLY, Course
from llm_installer.planning.growth import DEFAULT_GROWTH, cycle_batch, grown, steps_of_cycles
from llm_installer.planning.modes import ENDLESS, MODES, WATCHFUL, Mode, epochs_of
from llm_installer.planning.options import Options
from llm_installer.planning.schedule import ENDLESS_SCHEDULES
from llm_installer.planning.stopping import STOP_RULES, TASKS, Limits

BATCHES = ((500, 4), (1000, 8), (math.inf, 16))
"""Rows per step by the rows of the data: a LoRA learns more from many small steps than from few large ones (Schulman et
al., 2025, LoRA Without Regret; docs/choices.md). How often the rows are gone through changes nothing about that."""
LEAST_EVALUATIONS = 5
STEERING_EVALUATIONS = 10
"""The same where the whole run is steered by them: a controller sees trouble only in an evaluation."""
MOST_EVALUATIONS = 20
"""More would let a stop rule see noise as a trend: patience 3 should mean a good part of the run."""
EVALUATION_COST = 0.1
"""Evaluations may cost this share of the training time."""
FORWARD = 0.5
"""What evaluating a row costs, in rows trained on: a frozen weight takes 2 FLOPs forward and 2 backward (flops.py).
Measured on CPUs: a third with rows of 300 tokens, half with rows of 20."""
MOST_EVALUATION_ROWS = 256
LEAST_EVALUATION_ROWS = 8


def choose_mode(options: Options) -> Mode:
    """The mode asked for; --circular means --mode circular. Raises UsageError when both disagree."""
    if not options.circular:
        return MODES[options.mode]
    if options.mode not in (Options.mode, "circular"):
        raise UsageError(f"--circular and --mode {options.mode} contradict each other; give one of them")
    return MODES["circular"]


def choose_course(options: Options, mode: Mode, data: DataFacts, choose: Chooser) -> Course:
    """Decide everything about time. Raises UsageError where options contradict the mode or each other."""
    epochs = _epochs(options, mode, data, choose)
    effective = effective_batch(options, mode, data, choose)
    multiplier = options.circular_batch_multiplier or DEFAULT_GROWTH
    first_steps = math.ceil(data.rows / effective)

    def batch_of(cycle: int) -> int:
        return cycle_batch(effective, multiplier, cycle, data.rows) if mode.cycles else effective

    steps = steps_of_cycles(data.rows, epochs, batch_of)
    batch = data.rows * epochs / steps if mode.cycles and steps else effective
    every, evaluated = evaluation(mode, data, steps, first_steps, batch, choose)
    choose.why["total_steps"] = _steps_why(data, epochs, effective, mode)
    if mode.cycles:
        choose.why["effective_batch_size"] += "; " + _growth(multiplier, data.rows)
    bounds, rules = limits(options, mode, data, choose)
    return Course(
        epochs=epochs,
        effective_batch_size=effective,
        batch_multiplier=multiplier if mode.cycles else 0.0,
        schedule=_schedule(options, mode, steps, choose),
        total_steps=steps,
        warmup_steps=_warmup(options, steps, first_steps, choose),
        evaluation_every=every,
        early_evaluation_every=max(1, every // mode.early_evaluations) if mode.early_evaluations > 1 else 0,
        evaluation_rows=evaluated,
        limits=bounds,
        stop_rules=rules,
    )


def _epochs(options: Options, mode: Mode, data: DataFacts, choose: Chooser) -> float:
    given, cycles = options.epochs, options.max_circular_epochs
    if math.isinf(mode.epochs) and (given or options.force_epochs):
        flag = "--epochs" if given else "--force-epochs"
        raise UsageError(f"Mode {mode.name} has no end, so {flag} means nothing there; choose another --mode")
    if not mode.cycles and (cycles or options.circular_batch_multiplier):
        flag = "--max-circular-epochs" if cycles else "--circular-batch-multiplier"
        raise UsageError(f"{flag} belongs to --circular, and the mode is {mode.name}; add --circular or leave it out")
    if given and cycles and given != cycles:
        raise UsageError(f"--epochs {given:g} and --max-circular-epochs {cycles} disagree; give one of them")
    usual = epochs_of(mode, data.rows, data.task)
    why = f"{mode.epochs:g} in mode {mode.name}, more for so few rows" if usual > mode.epochs else f"mode {mode.name}"
    return float(choose.pick("epochs", given or cycles, usual, why))


def _schedule(options: Options, mode: Mode, steps: int, choose: Chooser) -> str:
    schedule = choose.pick("schedule", options.lr_scheduler, mode.schedule, f"mode {mode.name}")
    if not steps and schedule not in ENDLESS_SCHEDULES:
        raise UsageError(
            f"--lr-scheduler {schedule} needs an end, and mode {mode.name} has none; "
            f"choose {' or '.join(ENDLESS_SCHEDULES)}"
        )
    return schedule


def _warmup(options: Options, steps: int, first_steps: int, choose: Chooser) -> int:
    """A tenth of the run, unless the user says otherwise. A run that only warms up would never reach its peak."""
    given = options.warmup_steps
    if given and steps and given >= steps:
        raise UsageError(
            f"--warmup-steps {given} leaves nothing of a run of {counted(steps, 'step')}; give less (a tenth is usual)"
        )
    usual = min((steps or first_steps) // 10, 100)
    why = "a tenth of the run, at most 100 steps" if usual else "too few steps for one"
    return choose.pick("warmup_steps", given, usual, why)


def _steps_why(data: DataFacts, epochs: float, effective: int, mode: Mode) -> str:
    if math.isinf(epochs):
        return f"until you stop it; an epoch is {counted(math.ceil(data.rows / effective), 'step')}"
    noun = "cycle" if mode.cycles else "epoch"
    passes = counted(int(epochs), noun) if epochs.is_integer() else f"{epochs:g} {noun}s"
    batch = "a growing batch size" if mode.cycles else f"batch size {effective}"
    return f"{counted(data.rows, 'row')} x {passes} / {batch}"


def _growth(multiplier: float, rows: int) -> str:
    if multiplier == DEFAULT_GROWTH:
        return f"doubles each cycle up to {grown(rows)}"
    return f"{multiplier:g} more each cycle" if multiplier < 2 else f"times {multiplier:g} each cycle"


def effective_batch(options: Options, mode: Mode, data: DataFacts, choose: Chooser) -> int:
    """Rows per optimizer step; --batch-size alone says nothing about them, only how many are computed at once.

    Raises UsageError where the given parts disagree: effective = batch x accumulation.
    """
    batch, accumulation, wanted = options.batch_size, options.gradient_accumulation_steps, options.effective_batch_size
    if batch and accumulation:
        if wanted and wanted != batch * accumulation:
            raise UsageError(
                f"--batch-size {batch} x --gradient-accumulation-steps {accumulation} is {batch * accumulation}, "
                f"not --effective-batch-size {wanted}; leave one of the three out"
            )
        wanted = batch * accumulation
    part = batch or accumulation
    if wanted and part and wanted % part:
        raise UsageError(f"--effective-batch-size {wanted} cannot be split by {part}; give a multiple of {part}")
    target, reason = by_size(BATCHES, data.rows), "usual for so many rows"
    if mode.effective_batch_size < target:
        target, reason = mode.effective_batch_size, f"mode {mode.name}"
    elif target < BATCHES[-1][1]:
        below = next(rows for rows, batch in BATCHES if batch == target)
        reason = f"fewer than {counted(int(below), 'row')}: more and smaller steps"
    if accumulation and not wanted and target % accumulation:
        target = max(accumulation, target - target % accumulation)
        reason += f"; a multiple of --gradient-accumulation-steps {accumulation}"
    chosen = choose.pick("effective_batch_size", wanted, target, reason)
    if batch and accumulation:
        choose.why["effective_batch_size"] = f"--batch-size {batch} x --gradient-accumulation-steps {accumulation}"
    return chosen


def evaluation(
    mode: Mode, data: DataFacts, steps: int, first_steps: int, batch: float, choose: Chooser
) -> tuple[int, int]:
    """(steps between evaluations, rows of each evaluation set); `batch` is the mean of all steps."""
    rows = min(data.validation_rows or data.rows, MOST_EVALUATION_ROWS)
    sets = 2 if data.validation_rows else 1
    cheap = f"so that evaluations take at most {EVALUATION_COST:.0%} of the time"
    wishes = [
        (round(first_steps * mode.evaluation_share), f"mode {mode.name}"),
        (math.ceil(sets * rows * FORWARD / EVALUATION_COST / batch), cheap),
    ]
    if "patience" in mode.stop_rules and steps:
        wishes.append(
            (
                math.ceil(steps / MOST_EVALUATIONS),
                f"at most {MOST_EVALUATIONS} in the run, so that noise does not end it",
            )
        )
    every, reason = max(wishes)
    if steps:
        least = STEERING_EVALUATIONS if mode.controller == "adaptive" else LEAST_EVALUATIONS
        most, at_least = max(1, steps // least), f"at least {least} in the run"
    else:
        most, at_least = first_steps, "at least one in each epoch"
    why = at_least if every > most else reason
    every = max(1, min(every, most))
    # The one before the first step, and in some modes more of them at first, count too.
    spans = (steps or first_steps) / every
    times = spans * (1 + EARLY * (mode.early_evaluations - 1)) + bool(steps)
    affordable = int(EVALUATION_COST * (steps or first_steps) * batch / (FORWARD * sets * times))
    fewer = max(min(rows, LEAST_EVALUATION_ROWS), affordable)
    if fewer < rows and not mode.memorises:
        why = f"{why}; on {fewer} of {counted(rows, 'row')}{'' if why == cheap else f', {cheap}'}"
        rows = fewer
    choose.why["evaluation_every"] = why
    return every, rows


def limits(options: Options, mode: Mode, data: DataFacts, choose: Chooser) -> tuple[Limits, tuple[str, ...]]:
    """Thresholds and stop rules; a threshold that the user gives turns its rule on."""
    base = TASKS[data.task]
    given = {
        name: value
        for name in ("patience", "overfitting_threshold", "min_evaluations")
        if (value := getattr(options, name)) is not None
    }
    wanted = set(mode.stop_rules)
    wanted |= {"patience"} if "patience" in given else set()
    wanted |= {"overfitting"} if given.keys() & {"overfitting_threshold", "min_evaluations"} else set()
    if options.force_epochs:
        wanted, why = set(ENDLESS), "you asked for exactly these epochs"
    elif not data.validation_rows:
        why = f"judged by the training loss: {data.validation_note}"
    elif mode.stop_rules == WATCHFUL:
        why = ("partly set by you; " if given else "") + f"usual for {data.task} data"
    else:
        why = f"mode {mode.name}" + (" and what you set" if given else "")
    choose.why["limits"] = why
    return replace(base, **given), tuple(name for name in STOP_RULES if name in wanted)
