"""What to give up when memory is short, in this order: tokens of a micro-batch, then time (checkpointed layers)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_installer.core.text import size
from llm_installer.planning.memory import MemoryPlan, plan_memory
from llm_installer.planning.method import FLOAT8
from llm_installer.planning.setup import Setup

QUANTISED = {FLOAT8: "float8", "int8": "8-bit", "nf4": "4-bit"}


@dataclass(frozen=True)
class Fit:
    """How a run uses the memory there is."""

    tokens: int
    """Of a micro-batch."""
    checkpointed: int
    """Layers whose activations are recomputed."""
    peak: int
    """Predicted peak memory, in bytes."""
    fits: bool
    why: str


def fit_memory(
    memory: MemoryPlan, *, enough: int, longest: int, step_tokens: int, smaller: MemoryPlan, layers: int | None = None
) -> Fit:
    """Choose the tokens of a micro-batch and the checkpointed layers: the first that fits of the planner's order.

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
    hint = "; --method qlora would fit" if smaller.fitting_tokens(least) >= longest else ""
    why = f"one row of full length, and by prediction not even that fits{hint}"
    return Fit(longest, least, memory.peak(longest, least), False, why)


def filled(fit: Fit, memory: MemoryPlan, tokens: int) -> Fit:
    """The same for data of which a step has at most so many tokens: its micro-batches take less than they may."""
    return fit if tokens >= fit.tokens or not fit.fits else replace(fit, peak=memory.peak(tokens, fit.checkpointed))


def memory_rows(setup: Setup, tokens: int) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) for each way to hold the base, from the fastest to the smallest.

    `tokens` are those of a micro-batch.
    """
    rows, stored = [], setup.model.stored
    for quantised, name in {"": setup.precision, **QUANTISED}.items():
        if stored.words and quantised != stored.kept:
            continue
        if quantised == FLOAT8 and not setup.hardware.float8:
            continue
        memory = plan_memory(setup.quantised_as(quantised))
        for checkpointed, words in ((0, "no checkpointing"), (memory.layers, "every layer checkpointed")):
            most = memory.fitting_tokens(checkpointed)
            verdict = "fits" if most >= tokens else f"fits {most} tokens per micro-batch" if most else "does not fit"
            rows.append((f"{name}, {words}", size(memory.peak(tokens, checkpointed)), verdict))
    return rows


def _fit(memory: MemoryPlan, checkpointed: int, tokens: int, enough: int) -> Fit:
    why = "enough to keep the device busy" if tokens == enough else "the most that fits"
    if checkpointed:
        why += f" with {checkpointed} of {memory.layers} layers checkpointed"
    return Fit(tokens, checkpointed, memory.peak(tokens, checkpointed), True, why)
