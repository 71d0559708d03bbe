"""The one decision: options, model, handler, hardware and data in; a plan with a reason for every value out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace
from typing import Any

from llm_installer.core.examples import Task
from llm_installer.core.files import finite
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.state import RunState
from llm_installer.planning.chooser import (
    LEARNING_RATES,
    RANKS,
    Chooser,
    DataFacts,
    by_size,
    choose_precision,
    micro_batch,
)
from llm_installer.planning.compiling import choose_compiling
from llm_installer.planning.duration import EARLY, choose_course, choose_mode
from llm_installer.planning.growth import cycle_batch
from llm_installer.planning.method import PLAIN, Method, choose_method, method_rows, usual_alpha
from llm_installer.planning.modes import MODES, ORDERS
from llm_installer.planning.options import Options
from llm_installer.planning.packing import choose_packing
from llm_installer.planning.saving import KEEPS, KEPT
from llm_installer.planning.schedule import rate_scale
from llm_installer.planning.sharding import asked_processes, shared_memory
from llm_installer.planning.stopping import Limits

AGAIN = 5
"""Steps of a second warm-up at most."""
SWITCH = {"on": True, "off": False}
"""What a switch of three positions says; the third is to say nothing."""


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
    """0 where the run has no end of its own."""
    schedule: str
    """A name of planning.schedule.SCHEDULES."""
    evaluation_every: int
    evaluation_rows: int
    limits: Limits
    stop_rules: tuple[str, ...]
    seed: int
    order: str = "random"
    mix: tuple[tuple[str, float], ...] = ()
    """Share of each file in an epoch, where the user weighted them."""
    rows: int = 0
    """Rows of one epoch."""
    cycles: bool = False
    """Epochs are cycles: the batch grows from one to the next by `batch_multiplier`."""
    batch_multiplier: float = 0.0
    controller: str = "none"
    """A name of planning.adapting.CONTROLLERS."""
    early_evaluation_every: int = 0
    """Steps between evaluations at the beginning, where that differs."""
    checkpointed_layers: int = 0
    """Layers whose forward pass is computed twice instead of kept for the backward pass."""
    predicted_peak_bytes: int = 0
    """What the memory formula says the run will hold at most."""
    packing: bool = False
    """Rows lie one after the other without padding, where the model can take that."""
    compiling: bool = False
    """The passes over memory between matrix products are compiled, where there is a compiler."""
    fast: bool = True
    """Equal, faster paths may take the place of what PEFT and transformers compute (training/fast)."""
    kernels: bool = True
    """Kernels may be compiled or taken from a library for this machine."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    method: Method = PLAIN
    why: dict[str, str] = field(default_factory=dict)

    def batch_of(self, epoch: int) -> int:
        """Rows per planned step in the 0-based epoch."""
        if not self.cycles:
            return self.effective_batch_size
        return cycle_batch(self.effective_batch_size, self.batch_multiplier, epoch, max(self.rows, 1))

    def measures(self, before: int, done: int) -> bool:
        """Whether a measurement falls due with the planned steps from `before` to `done`."""
        early = self.early_evaluation_every and done <= self.total_steps * EARLY
        every = self.early_evaluation_every if early else self.evaluation_every
        return done // every > before // every

    def rate(self, state: RunState) -> float:
        """Learning rate of the step that `state.step` is about to be, or was."""
        planned = rate_scale(max(1, state.done), self.warmup_steps, self.total_steps, self.schedule)
        return self.learning_rate * state.rate_scale * planned * self._warming_again(state)

    def _warming_again(self, state: RunState) -> float:
        """A short second warm-up after going back: the first steps of an optimizer without memory go too far."""
        change, steps = state.adjustments[-1] if state.adjustments else None, min(AGAIN, self.warmup_steps)
        if change is None or not change.restore_best:
            return 1.0
        return min(1.0, max(1, state.step - change.step) / (steps + 1))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Plan:
        """The plan that to_json wrote."""
        mix = tuple((str(name), float(share)) for name, share in values["mix"])
        sets = {name: tuple(values[name]) for name in ("target_modules", "stop_rules")}
        epochs = math.inf if values["epochs"] is None else values["epochs"]
        limits: dict[str, Any] = {k: math.inf if v is None else v for k, v in values["limits"].items()}
        method = Method.from_json(values.get("method", {}))
        return cls(**{**values, **sets, "mix": mix, "epochs": epochs, "limits": Limits(**limits), "method": method})

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, for plan.json; what is infinite becomes null."""
        plain: dict[str, Any] = finite(dataclasses.asdict(self))
        return plain


def make_plan(
    options: Options, info: ModelInfo, handler: Handler, hardware: Hardware, data: DataFacts, length: tuple[int, str]
) -> Plan:
    """Decide everything the user left open. `length` is the row limit and its reason, from choose_length.

    Raises UsageError when the options contradict each other.
    """
    mode, choose = choose_mode(options), Chooser()
    hardware = replace(hardware, compiler=hardware.compiler and options.compile != "off")
    rank = choose.pick("lora_r", options.lora_r, by_size(RANKS, info.parameters), f"{info.size} parameters")
    method = choose_method(options, hardware, choose)
    rate, reason = _rate(method, info, mode.learning_rate_scale)
    precision, precision_why = choose_precision(info, handler, hardware)
    targets = tuple(options.target_modules.split(",")) if options.target_modules else None
    precision = choose.pick("precision", options.precision, precision, precision_why)
    targets = choose.pick(
        "target_modules", targets, handler.target_modules, f"{handler.name} models ({handler.source})"
    )
    course = choose_course(options, mode, data, choose)
    most_rows = data.rows if mode.cycles else course.effective_batch_size
    dropout = choose.pick("lora_dropout", options.lora_dropout, 0.0, "off: early stopping does its work")
    packing = _packing(options, info, hardware, precision, method, choose)
    processes = asked_processes(options, hardware)
    planned = shared_memory(info, hardware, precision, rank, targets, method, dropout, packing, length[0], processes)
    step_tokens = int(course.effective_batch_size * min(length[0], 2 * data.mean_length))
    fit, rows = micro_batch(
        options, info, hardware, planned, method.quantised, most_rows, length[0], step_tokens, choose
    )  # fmt: skip
    choose.why["max_seq_length"] = length[1]
    pays = choose_compiling(hardware, info, precision, rank, targets, data.mean_length, data.rows * course.epochs)
    return Plan(
        mode=mode.name,
        task=data.task,
        device=hardware.device,
        precision=precision,
        lora_r=rank,
        lora_alpha=choose.pick("lora_alpha", options.lora_alpha, *usual_alpha(options, rank)),
        lora_dropout=dropout,
        target_modules=targets,
        fan_in_fan_out=handler.fan_in_fan_out,
        learning_rate=choose.pick("learning_rate", options.learning_rate, rate, reason),
        micro_batch_tokens=fit.tokens,
        micro_batch_rows=rows,
        packing=packing,
        fast=options.fast == "on",
        kernels=options.compile != "off",
        compiling=choose.pick("compiling", SWITCH.get(options.compile or ""), *pays),
        checkpointed_layers=fit.checkpointed,
        predicted_peak_bytes=fit.peak,
        max_seq_length=length[0],
        seed=options.seed,
        order=options.order,
        mix=data.mix,
        rows=data.rows,
        cycles=mode.cycles,
        weight_decay=choose.pick("weight_decay", options.weight_decay, 0.01, "the usual"),
        max_grad_norm=choose.pick("max_grad_norm", options.max_grad_norm, 1.0, "the usual"),
        method=method,
        controller="none" if options.force_epochs else mode.controller,
        why=choose.why,
        **{f.name: getattr(course, f.name) for f in dataclasses.fields(course)},
    )


def _rate(method: Method, info: ModelInfo, scale: float) -> tuple[float, str]:
    size = f"{info.size} parameters"
    why = size if scale == 1 else f"{size}, times {scale:g}"
    return method.rate(by_size(LEARNING_RATES, info.parameters) * scale, why)


def _packing(
    options: Options, info: ModelInfo, hardware: Hardware, precision: str, method: Method, choose: Chooser
) -> bool:
    suits = choose_packing(hardware, info, precision, bool(method.neftune_noise_alpha))
    return bool(choose.pick("packing", SWITCH.get(options.packing or ""), *suits))


def plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """(name, value, reason) for every decision, as the table before training shows them."""
    stop = f"patience {plan.limits.patience}, gap {plan.limits.overfitting_threshold:.0%}"
    endless = not plan.total_steps
    at_first = f", at first every {plan.early_evaluation_every}" if plan.early_evaluation_every else ""
    shown = [
        ("mode", plan.mode, MODES[plan.mode].why, ""),
        ("precision", plan.precision, "", "precision"),
        ("LoRA rank", plan.lora_r, "", "lora_r"),
        ("LoRA alpha", f"{plan.lora_alpha:g}", "", "lora_alpha"),
        ("LoRA dropout", f"{plan.lora_dropout:g}", "", "lora_dropout"),
        ("layers", ", ".join(plan.target_modules), "", "target_modules"),
        *(
            (name, value, why, "")
            for name, value, why in method_rows(plan.method, plan.lora_r, plan.lora_alpha, plan.why)
        ),
        ("learning rate", f"{plan.learning_rate:g}", "", "learning_rate"),
        ("warm-up", f"{plan.warmup_steps} steps", "", "warmup_steps"),
        ("schedule", plan.schedule.replace("_", " "), "", "schedule"),
        ("cycles" if plan.cycles else "epochs", "no end" if endless else f"{plan.epochs:g}", "", "epochs"),
        ("weight decay", f"{plan.weight_decay:g}", "", "weight_decay"),
        ("gradient limit", f"norm {plan.max_grad_norm:g}", "", "max_grad_norm"),
        ("rows per step", plan.effective_batch_size, "", "effective_batch_size"),
        ("tokens at once", plan.micro_batch_tokens, "", "micro_batch_tokens"),
        ("packing", "on" if plan.packing else "off", "", "packing"),
        *([("compiling", "on", "", "compiling")] if plan.compiling else []),
        *([("layers twice", plan.checkpointed_layers, "", "checkpointed_layers")] if plan.checkpointed_layers else []),
        ("longest row", f"{plan.max_seq_length} tokens", "", "max_seq_length"),
        ("steps", "no end" if endless else plan.total_steps, "", "total_steps"),
        ("evaluation", f"every {plan.evaluation_every} steps{at_first}", "", "evaluation_every"),
        ("early stop", stop if "patience" in plan.stop_rules else ", ".join(plan.stop_rules), "", "limits"),
        ("checkpoints", KEPT + 1, KEEPS, ""),
        ("order", plan.order, ORDERS[plan.order], ""),
        ("seed", plan.seed, "fixed, so that a run can be repeated", ""),
    ]
    return [(name, str(value), reason or plan.why[key]) for name, value, reason, key in shown]
