"""The one decision: options, model, handler, hardware and data in; a plan with a reason for every value out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Task
from llm_installer.core.handler import ALL_LINEAR, Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.memory import plan_memory
from llm_installer.planning.modes import MODES, ORDERS, Mode
from llm_installer.planning.options import Options
from llm_installer.planning.stopping import STOP_RULES, TASKS, Limits


@dataclass(frozen=True)
class DataFacts:
    """What the plan needs to know of the encoded data."""

    rows: int
    validation_rows: int
    task: Task
    mean_length: float
    longest: int
    validation_note: str = ""
    """Why there is no validation set, or how it was made."""
    mix: tuple[tuple[str, float], ...] = ()
    """Share of each file in an epoch, where the user weighted them."""


@dataclass(frozen=True)
class Plan:
    """What will happen: every value chosen, each with its reason in `why`."""

    mode: str
    task: Task
    device: str
    precision: str
    lora_r: int
    lora_alpha: float
    lora_dropout: float
    target_modules: tuple[str, ...]
    fan_in_fan_out: bool
    learning_rate: float
    warmup_steps: int
    epochs: float
    effective_batch_size: int
    micro_batch_tokens: int
    micro_batch_rows: int
    max_seq_length: int
    total_steps: int
    evaluation_every: int
    evaluation_rows: int
    limits: Limits
    stop_rules: tuple[str, ...]
    seed: int
    order: str = "random"
    mix: tuple[tuple[str, float], ...] = ()
    """Share of each file in an epoch, where the user weighted them."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    why: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, for plan.json."""
        return dataclasses.asdict(self)


RANKS = ((1e9, 8), (3e9, 16), (7e9, 32), (13e9, 64), (30e9, 128), (math.inf, 256))
"""LoRA rank by parameters (the guide's table)."""

LEARNING_RATES = ((5e7, 5e-3), (1e9, 5e-4), (3e9, 2e-4), (7e9, 1e-4), (13e9, 5e-5), (math.inf, 2e-5))
"""Peak rate of mode medium by parameters; the first row is measured on models of 0.3 to 4 million."""

ENOUGH_TOKENS = ((7e8, 16384), (7e9, 8192), (math.inf, 4096))
"""Tokens at once that keep a GPU busy, by parameters."""

ENOUGH_STEPS = 60
"""A run should have at least this many steps before its batch may be as large as the mode wishes."""
SMALLEST_BATCH = 4
LEAST_EVALUATIONS = 5
MOST_EVALUATIONS = 20
"""More would let a stop rule see noise as a trend: patience 3 should mean a good part of the run."""
EVALUATION_COST = 0.25
"""Evaluations may cost this share of the training time (a forward pass costs a third of a training step)."""
MOST_EVALUATION_ROWS = 256


class _Chooser:
    """Collects chosen values and why: user > mode > handler > size table > default."""

    def __init__(self) -> None:
        self.why: dict[str, str] = {}

    def pick(self, name: str, given: Any, chosen: Any, reason: str) -> Any:
        """`given` if the user gave it, else `chosen` for `reason`."""
        self.why[name] = "you asked for it" if given is not None else reason
        return chosen if given is None else given


def make_plan(
    options: Options, info: ModelInfo, handler: Handler, hardware: Hardware, data: DataFacts, length: tuple[int, str]
) -> Plan:
    """Decide everything the user left open. `length` is the row limit and its reason, from choose_length.

    Raises UsageError when the options contradict each other.
    """
    mode, choose = MODES[options.mode], _Chooser()
    size = f"{info.size} parameters"
    rank = choose.pick("lora_r", options.lora_r, _row(RANKS, info.parameters), size)
    epochs = choose.pick("epochs", options.epochs, mode.epochs, f"mode {mode.name}")
    scale = mode.learning_rate_scale
    rate, reason = _row(LEARNING_RATES, info.parameters) * scale, size if scale == 1 else f"{size}, times {scale:g}"
    precision, precision_why = choose_precision(info, handler, hardware)
    targets = tuple(options.target_modules.split(",")) if options.target_modules else None
    precision = choose.pick("precision", options.precision, precision, precision_why)
    targets = choose.pick(
        "target_modules", targets, handler.target_modules, f"{handler.name} models ({handler.source})"
    )
    effective = _effective_batch(options, mode, data, epochs, choose)
    tokens, rows = _micro_batch(options, info, hardware, precision, rank, targets, effective, length[0], choose)
    steps = max(1, math.ceil(math.ceil(data.rows / effective) * epochs))
    every, measured = _evaluation(mode, data, steps, epochs, effective, choose)
    choose.why["max_seq_length"] = length[1]
    choose.why["total_steps"] = f"{data.rows} rows x {epochs:g} epochs / {effective} rows per step"
    choose.why["warmup_steps"] = "a tenth of the run, at most 100"
    return Plan(
        mode=mode.name,
        task=data.task,
        device=hardware.device,
        precision=precision,
        lora_r=rank,
        lora_alpha=choose.pick("lora_alpha", options.lora_alpha, 2.0 * rank, "twice the rank"),
        lora_dropout=choose.pick("lora_dropout", options.lora_dropout, 0.0, "off: early stopping does its work"),
        target_modules=targets,
        fan_in_fan_out=handler.fan_in_fan_out,
        learning_rate=choose.pick("learning_rate", options.learning_rate, rate, reason),
        warmup_steps=min(steps // 10, 100),
        epochs=epochs,
        effective_batch_size=effective,
        micro_batch_tokens=tokens,
        micro_batch_rows=rows,
        max_seq_length=length[0],
        total_steps=steps,
        evaluation_every=every,
        evaluation_rows=measured,
        limits=_limits(options, data, choose),
        stop_rules=("non-finite loss",) if options.force_epochs else tuple(STOP_RULES),
        seed=options.seed,
        order=options.order,
        mix=data.mix,
        why=choose.why,
    )


def choose_length(
    options: Options, info: ModelInfo, handler: Handler, lost: Sequence[tuple[int, float]]
) -> tuple[int, str]:
    """The longest row in tokens, and why: the shortest limit that loses under 1 % of the answer tokens.

    `lost` pairs each candidate limit, ascending, with the share of answer tokens it would lose. Raises UsageError
    when the user's own limit is beyond what the model can read.
    """
    limit = info.max_positions or handler.max_length
    if options.max_seq_length is not None:
        if options.max_seq_length > limit:
            raise UsageError(
                f"--max-seq-length {options.max_seq_length} is more than {info.name} can read; "
                f"give at most {limit}, or leave it out"
            )
        return options.max_seq_length, "you asked for it"
    ceiling = min(limit, handler.max_length)
    reason = f"the limit of {info.name if limit <= handler.max_length else handler.name}"
    for candidate, share in lost:
        if candidate <= ceiling and share < 0.01:
            return candidate, f"the shortest that keeps {1 - share:.1%} of what is learned"
    return ceiling, reason


def choose_precision(info: ModelInfo, handler: Handler, hardware: Hardware) -> tuple[str, str]:
    """Precision of the frozen base and why: the family's wish, raised to bfloat16 where the hardware has it."""
    if hardware.device == "cpu":
        if hardware.bf16 and info.parameters >= 5e7:
            return "bfloat16", "this CPU multiplies bfloat16 natively"
        small = "small model" if hardware.bf16 else "this CPU has no native bfloat16"
        return "float32", small
    if hardware.bf16 or handler.dtype == "bfloat16":
        return "bfloat16", f"{hardware.name} has it" if hardware.bf16 else f"{handler.name} models need its range"
    return handler.dtype, f"{hardware.name} has no bfloat16"


def plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """(name, value, reason) for every decision, as the table before training shows them."""
    stop = f"patience {plan.limits.patience}, gap {plan.limits.overfitting_threshold:.0%}"
    shown = [
        ("mode", plan.mode, MODES[plan.mode].why, ""),
        ("precision", plan.precision, "", "precision"),
        ("LoRA rank", plan.lora_r, "", "lora_r"),
        ("LoRA alpha", f"{plan.lora_alpha:g}", "", "lora_alpha"),
        ("LoRA dropout", f"{plan.lora_dropout:g}", "", "lora_dropout"),
        ("layers", ", ".join(plan.target_modules), "", "target_modules"),
        ("learning rate", f"{plan.learning_rate:g}", "", "learning_rate"),
        ("warm-up", f"{plan.warmup_steps} steps", "", "warmup_steps"),
        ("epochs", f"{plan.epochs:g}", "", "epochs"),
        ("rows per step", plan.effective_batch_size, "", "effective_batch_size"),
        ("tokens at once", plan.micro_batch_tokens, "", "micro_batch_tokens"),
        ("longest row", f"{plan.max_seq_length} tokens", "", "max_seq_length"),
        ("steps", plan.total_steps, "", "total_steps"),
        ("evaluation", f"every {plan.evaluation_every} steps", "", "evaluation_every"),
        ("early stop", stop if len(plan.stop_rules) > 1 else "off", "", "limits"),
        ("order", plan.order, ORDERS[plan.order], ""),
        ("seed", plan.seed, "fixed, so that a run can be repeated", ""),
    ]
    return [(name, str(value), reason or plan.why[key]) for name, value, reason, key in shown]


def _row(table: Sequence[tuple[float, float]], parameters: int) -> Any:
    return next(value for below, value in table if parameters < below)


def _effective_batch(options: Options, mode: Mode, data: DataFacts, epochs: float, choose: _Chooser) -> int:
    """Rows per optimizer step. Given parts must agree: effective = batch x accumulation."""
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
    target, reason = mode.effective_batch_size, f"mode {mode.name}"
    by_steps = max(SMALLEST_BATCH, int(data.rows * epochs) // ENOUGH_STEPS)
    if by_steps < target:
        target, reason = by_steps, f"few rows: smaller steps, so that there are about {ENOUGH_STEPS} of them"
    if batch and not wanted:
        wanted = batch
    if accumulation and not wanted:
        target = max(accumulation, target - target % accumulation)
    return int(choose.pick("effective_batch_size", wanted, target, reason))


def _micro_batch(
    options: Options, info: ModelInfo, hardware: Hardware, precision: str, rank: int,
    targets: tuple[str, ...], effective: int, longest: int, choose: _Chooser,
) -> tuple[int, int]:  # fmt: skip
    """(tokens, rows) computed at once: what memory holds, no more than what keeps the device busy."""
    modules = 7 if targets == ALL_LINEAR else len(targets)
    memory = plan_memory(info, dtype=precision, rank=rank, modules=modules, free_bytes=hardware.free_bytes)
    enough = 2048 if hardware.device == "cpu" else _row(ENOUGH_TOKENS, info.parameters)
    tokens = max(longest, min(enough, memory.fits_tokens))
    peak = memory.peak(tokens) / GIB
    fit = "enough to keep it busy" if tokens == enough else "one longest row" if tokens == longest else "what fits"
    choose.why["micro_batch_tokens"] = f"{fit}; about {peak:.1f} of {hardware.free_bytes / GIB:.0f} GB"
    parts = options.gradient_accumulation_steps
    rows = options.batch_size or (math.ceil(effective / parts) if parts else effective)
    return tokens, min(rows, effective)


def _evaluation(
    mode: Mode, data: DataFacts, steps: int, epochs: float, effective: int, choose: _Chooser
) -> tuple[int, int]:
    """(steps between evaluations, rows of each evaluation set)."""
    rows = min(data.validation_rows or data.rows, MOST_EVALUATION_ROWS)
    sets = 2 if data.validation_rows else 1
    wishes = (
        (round(steps / epochs * mode.evaluation_share), f"mode {mode.name}"),
        (
            math.ceil(sets * rows / 3 / EVALUATION_COST / effective),
            f"so that measuring costs at most {EVALUATION_COST:.0%}",
        ),
        (math.ceil(steps / MOST_EVALUATIONS), f"at most {MOST_EVALUATIONS} in the run, so that noise does not end it"),
    )
    every, reason = max(wishes)
    most = max(1, steps // LEAST_EVALUATIONS)
    choose.why["evaluation_every"] = f"at least {LEAST_EVALUATIONS} in the run" if every > most else reason
    every = max(1, min(every, most))
    return every, rows


def _limits(options: Options, data: DataFacts, choose: _Chooser) -> Limits:
    base = TASKS[data.task]
    names = ("patience", "overfitting_threshold", "min_evaluations")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.force_epochs:
        choose.why["limits"] = "you asked for exactly these epochs"
    elif not data.validation_rows:
        choose.why["limits"] = f"measured on training rows: {data.validation_note}"
    else:
        choose.why["limits"] = ("partly yours; " if given else "") + f"the usual for {data.task} data"
    return dataclasses.replace(base, **given)
