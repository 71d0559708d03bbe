"""What to give up when memory is short, in this order: tokens at once, then time (checkpointing), then precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llm_installer.planning.memory import MemoryPlan

GB = 1e9
Planned = Callable[[str], MemoryPlan]
"""The memory of the run with its linear layers quantised as named: "", int8 or nf4."""


@dataclass(frozen=True)
class Fit:
    """How a run uses the memory there is."""

    tokens: int
    """Of a micro-batch."""
    checkpointed: int
    """Layers that compute their forward pass twice."""
    quantised: str
    peak: int
    fits: bool
    why: str


def fit_memory(planned: Planned, *, enough: int, longest: int, step_tokens: int, may_quantise: bool) -> Fit:
    """Choose tokens at once, checkpointed layers and quantisation: the first that fits of the planner's order.

    `enough` tokens keep the device busy; half of them, or the whole step, is worth more than avoiding checkpointing.
    A row is never split, so `longest` is the least. Where nothing fits, what needs least is returned with fits=False.
    """
    least = max(longest, min(enough // 2, step_tokens))
    for quantised in ("", "nf4") if may_quantise else ("",):
        memory = planned(quantised)
        for aim in (least, longest):
            found = next((k for k in range(memory.layers + 1) if memory.fitting_tokens(k) >= aim), None)
            if found is not None:
                return _fit(memory, found, max(longest, min(enough, memory.fitting_tokens(found))), quantised, enough)
    hint = "" if may_quantise else "; --method qlora needs less"
    return Fit(
        longest, memory.layers, quantised, memory.peak(longest, memory.layers), False,
        f"one longest row does not fit even with every layer checkpointed{hint}",
    )  # fmt: skip


def memory_rows(planned: Planned, precision: str, tokens: int) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) for each way to run with `tokens` at once, from fastest to smallest."""
    rows = []
    names = {"": precision, "int8": "8-bit", "nf4": "4-bit"}
    for quantised, name in names.items():
        memory = planned(quantised)
        for checkpointed, words in ((0, "no checkpointing"), (memory.layers, "every layer checkpointed")):
            most = memory.fitting_tokens(checkpointed)
            verdict = "fits" if most >= tokens else f"fits {most} tokens at once" if most else "does not fit"
            rows.append((f"{name}, {words}", f"{memory.peak(tokens, checkpointed) / GB:.1f} GB", verdict))
    return rows


def _fit(memory: MemoryPlan, checkpointed: int, tokens: int, quantised: str, enough: int) -> Fit:
    said = ["enough to keep it busy" if tokens == enough else "what fits"]
    if checkpointed:
        said.append(f"{checkpointed} of {memory.layers} layers are computed twice, since memory is short")
    if quantised:
        said.append("4-bit weights, since 16-bit ones leave no room")
    return Fit(tokens, checkpointed, quantised, memory.peak(tokens, checkpointed), True, "; ".join(said))
