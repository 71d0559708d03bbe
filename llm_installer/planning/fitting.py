"""What to give up when memory is short, in this order: tokens at once, then time (layers are computed twice)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_installer.planning.memory import MemoryPlan

GB = 1e9
QUANTISED = {"int8": "8-bit", "nf4": "4-bit"}


@dataclass(frozen=True)
class Fit:
    """How a run uses the memory there is."""

    tokens: int
    """Of a micro-batch."""
    checkpointed: int
    """Layers that compute their forward pass twice."""
    peak: int
    fits: bool
    why: str


def fit_memory(
    memory: MemoryPlan, *, enough: int, longest: int, step_tokens: int, smaller: MemoryPlan, layers: int | None = None
) -> Fit:
    """Choose tokens at once and checkpointed layers: the first that fits of the planner's order.

    `enough` tokens keep the device busy; half of them, or the whole step, is worth more than avoiding checkpointing.
    A row is never split, so `longest` is the least. `layers` is given where the user decides how many to checkpoint.
    Where nothing fits, what needs least comes back with fits=False, and the reason says whether the base in 4 bits
    (`smaller`) would fit.
    """
    counts = range(memory.layers + 1) if layers is None else (min(layers, memory.layers),)
    for aim in (max(longest, min(enough // 2, step_tokens)), longest):
        found = next((k for k in counts if memory.fitting_tokens(k) >= aim), None)
        if found is not None:
            return _fit(memory, found, max(longest, min(enough, memory.fitting_tokens(found))), enough)
    least = counts[-1]
    hint = "; --method qlora would" if smaller.fitting_tokens(least) >= longest else ""
    why = f"one longest row, though not even that fits by prediction{hint}"
    return Fit(longest, least, memory.peak(longest, least), False, why)


def memory_rows(planned: Callable[[str], MemoryPlan], precision: str, tokens: int) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) for each way to run with `tokens` at once, from fastest to smallest.

    `planned` gives the memory with linear layers quantised as named: "" for not at all, int8 or nf4.
    """
    rows = []
    for quantised, name in {"": precision, **QUANTISED}.items():
        memory = planned(quantised)
        for checkpointed, words in ((0, "no checkpointing"), (memory.layers, "every layer checkpointed")):
            most = memory.fitting_tokens(checkpointed)
            verdict = "fits" if most >= tokens else f"fits {most} tokens at once" if most else "does not fit"
            rows.append((f"{name}, {words}", f"{memory.peak(tokens, checkpointed) / GB:.1f} GB", verdict))
    return rows


def _fit(memory: MemoryPlan, checkpointed: int, tokens: int, enough: int) -> Fit:
    why = "enough to keep it busy" if tokens == enough else "what fits"
    if checkpointed:
        why += f" with {checkpointed} of {memory.layers} layers computed twice"
    return Fit(tokens, checkpointed, memory.peak(tokens, checkpointed), True, why)
