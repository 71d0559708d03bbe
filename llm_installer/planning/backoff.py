"""What a plan gives up when memory runs out, one piece at a time: tokens at once, then layers computed twice."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from llm_installer.core.errors import UsageError

if TYPE_CHECKING:
    from llm_installer.planning.plan import Plan


def smaller(plan: Plan, *, tokens: int, longest: int, layers: int) -> tuple[Plan, str] | None:
    """The plan after running out of memory at `tokens` at once, and the line that says so; None when nothing is left.

    A row is never split, so `longest` is the least. A step keeps its rows: it is computed in more parts, with the same
    gradient. `layers` is how many the model can checkpoint.
    """
    at_once = min(tokens, plan.micro_batch_tokens)
    if at_once > longest:
        value = max(longest, at_once // 2)
        reason = f"out of memory at {at_once} tokens at once: {value} from here on, in more parts per step"
        changed = dataclasses.replace(plan, micro_batch_tokens=value)
        return _because(changed, "micro_batch_tokens", reason), f"{reason[0].upper()}{reason[1:]}."
    if plan.checkpointed_layers < layers:
        count = max(1, layers // 2) if plan.checkpointed_layers < layers // 2 else layers
        reason = f"out of memory at one row: {count} of {layers} layers are computed twice from here on (checkpointing)"
        changed = dataclasses.replace(plan, checkpointed_layers=count)
        return _because(changed, "checkpointed_layers", reason), f"{reason[0].upper()}{reason[1:]}."
    return None


def asked_layers(given: str | None, layers: int) -> int | None:
    """How many of `layers` --gradient-checkpointing on|off|N asks for, None where it is not given."""
    if given is None:
        return None
    named = {"on": layers, "off": 0}
    if given not in named and not given.isdigit():
        raise UsageError(f"--gradient-checkpointing {given}: say on, off or a number of layers")
    return named[given] if given in named else min(int(given), layers)


def _because(plan: Plan, name: str, reason: str) -> Plan:
    return dataclasses.replace(plan, why={**plan.why, name: reason})
