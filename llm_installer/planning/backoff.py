"""How a plan backs off after running out of memory: smaller micro-batches first, then checkpointed layers."""

from __future__ import annotations

from dataclasses import replace

from llm_installer.planning.plan import Plan


def smaller(plan: Plan, *, tokens: int, longest: int, layers: int) -> tuple[Plan, str] | None:
    """The plan after running out of memory with a micro-batch of `tokens`, and the line that says so.

    None when nothing is left to give up. A row is never split, so `longest` tokens are the least. A step keeps its
    rows: it takes more micro-batches, with the same gradient. `layers` is how many the model can checkpoint.
    """
    size = min(tokens, plan.micro_batch_tokens)
    if size > longest:
        value = max(longest, size // 2)
        reason = f"out of memory with micro-batches of {size} tokens: {value} from here on, and more of them per step"
        changed = replace(plan, micro_batch_tokens=value)
        return _because(changed, "micro_batch_tokens", reason), f"{reason[0].upper()}{reason[1:]}."
    if plan.checkpointed_layers < layers:
        count = max(1, layers // 2) if plan.checkpointed_layers < layers // 2 else layers
        reason = f"out of memory with a single row: {count} of {layers} layers are checkpointed from here on"
        changed = replace(plan, checkpointed_layers=count)
        return _because(changed, "checkpointed_layers", reason), f"{reason[0].upper()}{reason[1:]}."
    return None


def _because(plan: Plan, name: str, reason: str) -> Plan:
    return replace(plan, why={**plan.why, name: reason})
