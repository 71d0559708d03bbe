"""The one decision: options, model, handler, hardware and data in; a plan with a reason for every value out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from llm_installer.core.examples import Task
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.choices import (
    LEARNING_RATES,
    RANKS,
    Chooser,
    DataFacts,
    by_size,
    choose_precision,
    effective_batch,
    evaluation,
    limits,
    micro_batch,
)
from llm_installer.planning.modes import MODES, ORDERS
from llm_installer.planning.options import Options
from llm_installer.planning.stopping import STOP_RULES, Limits


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


def make_plan(
    options: Options, info: ModelInfo, handler: Handler, hardware: Hardware, data: DataFacts, length: tuple[int, str]
) -> Plan:
    """Decide everything the user left open. `length` is the row limit and its reason, from choose_length.

    Raises UsageError when the options contradict each other.
    """
    mode, choose = MODES[options.mode], Chooser()
    size = f"{info.size} parameters"
    rank = choose.pick("lora_r", options.lora_r, by_size(RANKS, info.parameters), size)
    epochs = choose.pick("epochs", options.epochs, mode.epochs, f"mode {mode.name}")
    scale = mode.learning_rate_scale
    rate, reason = by_size(LEARNING_RATES, info.parameters) * scale, size if scale == 1 else f"{size}, times {scale:g}"
    precision, precision_why = choose_precision(info, handler, hardware)
    targets = tuple(options.target_modules.split(",")) if options.target_modules else None
    precision = choose.pick("precision", options.precision, precision, precision_why)
    targets = choose.pick(
        "target_modules", targets, handler.target_modules, f"{handler.name} models ({handler.source})"
    )
    effective = effective_batch(options, mode, data, epochs, choose)
    tokens, rows = micro_batch(options, info, hardware, precision, rank, targets, effective, length[0], choose)
    steps = max(1, math.ceil(math.ceil(data.rows / effective) * epochs))
    every, measured = evaluation(mode, data, steps, epochs, effective, choose)
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
        limits=limits(options, data, choose),
        stop_rules=("non-finite loss",) if options.force_epochs else tuple(STOP_RULES),
        seed=options.seed,
        order=options.order,
        mix=data.mix,
        why=choose.why,
    )


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
