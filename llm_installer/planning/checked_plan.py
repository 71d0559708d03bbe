"""Whether the values of a plan that was read from a file can be those of a plan; their types are right already."""

from __future__ import annotations

import math
from collections.abc import Collection

from llm_installer.core.errors import TrainingError
from llm_installer.planning.controller import CONTROLLERS
from llm_installer.planning.method import QUANTISED
from llm_installer.planning.modes import MODES
from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.plan import FILE, Plan
from llm_installer.planning.schedule import SCHEDULES
from llm_installer.planning.stopping import STOP_RULES


def check_plan(plan: Plan) -> None:
    """Raise TrainingError, which names the field, for a name that there is not, or a number that cannot be."""
    for field, value, names in _named(plan):
        if value not in names:
            raise TrainingError(f"{field} in {FILE} cannot be {value!r}; the file is damaged, start a new run")
    for field, number, least in _numbers(plan):
        if not least <= number < math.inf:
            raise TrainingError(f"{field} in {FILE} cannot be {number}; the file is damaged, start a new run")


def _named(plan: Plan) -> list[tuple[str, str, Collection[str]]]:
    return [
        ("mode", plan.mode, MODES),
        ("device", plan.device, ("cpu", "cuda", "mps")),
        ("precision", plan.precision, ("float32", "bfloat16", "float16")),
        ("controller", plan.controller, CONTROLLERS),
        ("course.schedule", plan.course.schedule, SCHEDULES),
        *(("course.stop_rules", rule, STOP_RULES) for rule in plan.course.stop_rules),
        ("method.optimizer", plan.method.optimizer, OPTIMIZERS),
        ("method.quantised", plan.method.quantised, ("", *QUANTISED)),
    ]


def _numbers(plan: Plan) -> list[tuple[str, float, float]]:
    """(field, value, the least that it can be)."""
    return [
        ("lora_r", plan.lora_r, 1),
        ("lora_alpha", plan.lora_alpha, 0),
        ("lora_dropout", plan.lora_dropout, 0),
        ("learning_rate", plan.learning_rate, 0),
        ("micro_batch_tokens", plan.micro_batch_tokens, 1),
        ("micro_batch_rows", plan.micro_batch_rows, 1),
        ("max_seq_length", plan.max_seq_length, 1),
        ("checkpointed_layers", plan.checkpointed_layers, 0),
        ("course.effective_batch_size", plan.course.effective_batch_size, 1),
        ("course.evaluation_every", plan.course.evaluation_every, 1),
        ("course.evaluation_rows", plan.course.evaluation_rows, 1),
        ("course.total_steps", plan.course.total_steps, 0),
        ("course.warmup_steps", plan.course.warmup_steps, 0),
        ("rows", plan.rows, 0),
    ]
