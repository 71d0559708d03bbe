"""How many tokens a GPU computes at once: the plan's number comes from a table; larger ones are worth a second each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llm_installer.planning.plan import Plan

MORE = (2, 4)
"""What is timed beside the plan's own size, as multiples of it."""
WORTH = 1.03
"""How much faster a larger micro-batch must be: timings of a second differ by a percent or two."""


def worth_timing(plan: Plan, step_tokens: int, processes: int = 1) -> tuple[int, ...]:
    """Sizes of a micro-batch to time after the plan's own, ascending; none where a larger one cannot pay.

    That is on anything but a GPU, where memory is short already, where the user divides the step, and where a step of
    `step_tokens` is one micro-batch as it is. With several processes the table holds.
    """
    yours = plan.micro_batch_rows < (plan.rows if plan.cycles else plan.course.effective_batch_size)
    if plan.device != "cuda" or plan.checkpointed_layers or yours or processes > 1:
        return ()
    # A size pays only where the one below it leaves more than one part.
    return tuple(n * plan.micro_batch_tokens for n in MORE if n // 2 * plan.micro_batch_tokens < step_tokens)


def goes_on(rates: Mapping[int, float]) -> bool:
    """Whether a still larger size is worth a second: the last one was faster than the one before it."""
    last = [rates[size] for size in sorted(rates)][-2:]
    return len(last) < 2 or last[1] >= WORTH * last[0]


def fastest(rates: Mapping[int, float]) -> int:
    """The smallest size that is about as fast as the fastest; `rates` are tokens per second by size."""
    return min(size for size, rate in rates.items() if WORTH * rate >= max(rates.values()))


def as_timed(plan: Plan, rates: Mapping[int, float]) -> Plan:
    """The plan with the fastest size, and the timings as its reason; the same plan where only its own was timed."""
    if len(rates) < 2:
        return plan
    found = [f"{rate:,.0f} tokens/s with {size}" for size, rate in sorted(rates.items())]
    why = f"about the fastest of those that were timed: {', '.join(found)}"
    return replace(plan, micro_batch_tokens=fastest(rates), why={**plan.why, "micro_batch_tokens": why})
