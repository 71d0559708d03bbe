"""How each open value is chosen: tables by size, and small functions that return a value with its reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Task
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import GIB, Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.backoff import asked_layers
from llm_installer.planning.fitting import Fit, fit_memory
from llm_installer.planning.memory import MemoryPlan
from llm_installer.planning.options import Options


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


RANKS = ((1e9, 8), (3e9, 16), (7e9, 32), (13e9, 64), (30e9, 128), (math.inf, 256))
"""LoRA rank by parameters (the guide's table)."""

LEARNING_RATES = ((5e7, 5e-3), (1e9, 5e-4), (3e9, 2e-4), (7e9, 1e-4), (13e9, 5e-5), (math.inf, 2e-5))
"""Peak rate of mode medium by parameters; the first row is measured on models of 0.3 to 4 million."""

ENOUGH_TOKENS = ((7e8, 16384), (7e9, 8192), (math.inf, 4096))
"""Tokens at once that keep a GPU busy, by parameters."""
ENOUGH_ON_CPU = 1536
"""1024 were 3 to 5 percent slower; 2048 no faster, and took two fifths more memory above the weights
(docs/performance.md)."""


class Chooser:
    """Collects chosen values and why: user > mode > handler > size table > default."""

    def __init__(self) -> None:
        self.why: dict[str, str] = {}

    def pick(self, name: str, given: Any, chosen: Any, reason: str) -> Any:
        """`given` if the user gave it, else `chosen` for `reason`."""
        self.why[name] = "you asked for it" if given is not None else reason
        return chosen if given is None else given


def choose_length(
    options: Options, info: ModelInfo, handler: Handler, lost: Sequence[tuple[int, float]]
) -> tuple[int, str]:
    """The longest row in tokens, and why: the shortest limit that loses under 1 % of answers and of rows.

    `lost` pairs each candidate limit, ascending, with the share of tokens it would lose. Raises UsageError
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
    ceiling, reason = (
        min(limit, handler.max_length),
        f"the limit of {info.name if limit <= handler.max_length else handler.name}",
    )
    for candidate, share in lost:
        if candidate <= ceiling and share < 0.01:
            return candidate, f"the shortest that keeps {1 - share:.1%} of the tokens"
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


def by_size(table: Sequence[tuple[float, float]], parameters: int) -> Any:
    return next(value for below, value in table if parameters < below)


def micro_batch(
    options: Options, info: ModelInfo, hardware: Hardware, planned: Callable[[str], tuple[MemoryPlan, bool]],
    quantised: str, effective: int, longest: int, step_tokens: int, choose: Chooser,
) -> tuple[Fit, int]:  # fmt: skip
    """How memory is used, and the rows computed at once: what memory holds, no more than keeps the device busy.

    `planned` is the memory by quantisation and whether several GPUs hold the base together, `step_tokens` are those of
    a usual step, padding included.
    """
    enough = ENOUGH_ON_CPU if hardware.device == "cpu" else by_size(ENOUGH_TOKENS, info.parameters)
    asked = options.gradient_checkpointing
    memory, parted = planned(quantised)
    fit = fit_memory(
        memory, enough=enough, longest=longest, step_tokens=step_tokens, smaller=planned("nf4")[0],
        layers=asked_layers(asked, info.layers),
    )  # fmt: skip
    choose.why["micro_batch_tokens"] = f"{fit.why}; about {fit.peak / GIB:.1f} of {hardware.free_bytes / GIB:.0f} GB"
    if parted:
        choose.why["micro_batch_tokens"] += "; no single GPU holds the base, so all hold it together"
    reason = "you asked for it" if asked else "memory is short" if fit.checkpointed else "no need"
    choose.why["checkpointed_layers"] = reason
    parts = options.gradient_accumulation_steps
    rows = options.batch_size or (math.ceil(effective / parts) if parts else effective)
    return fit, min(rows, effective)
