"""LoRA rank and learning rate by the size of the model, and small functions that choose a value with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Task
from llm_installer.core.handler import Handler
from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import counted
from llm_installer.planning.cuts import NOTHING_CUT, CutFacts
from llm_installer.planning.options import Options

Value = TypeVar("Value")

YOURS = "you set it"
"""The reason for a value that the user gave."""
USUAL = "the usual value"
PLAIN_PEFT = "plain PEFT: you asked for --fast off"


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
    answer_tokens: float = 0.0
    """Tokens that are learned in one pass over the data, nearly."""
    cut: CutFacts = NOTHING_CUT
    """What rows lose that are longer than the sequence length."""


RANKS = ((1e9, 8), (3e9, 16), (7e9, 32), (13e9, 64), (30e9, 128), (math.inf, 256))
"""Highest LoRA rank by parameters (the guide's table)."""
USUAL_RANK = 16
"""Lowest rank that is chosen, where the table has no lower one."""
ALPHA = 32.0
"""LoRA alpha. A LoRA is scaled by alpha / rank, and with the same alpha every rank wants nearly the same learning rate
(Schulman et al., 2025, LoRA Without Regret; docs/choices.md)."""
HIGHEST_RATE = 6e-3
"""Peak learning rate of mode medium where the hidden size is 166 or less."""
CAUTIOUS_RATE = 2e-4
"""The same where config.json does not say how wide the model is: what QLoRA used for 7B (arXiv 2305.14314)."""


def usual_rate(info: ModelInfo) -> tuple[float, str]:
    """The peak learning rate of mode medium, and why: 1 / hidden size, to two digits.

    That a rate which suits one width suits all when it is divided by the width is the maximal update parametrisation
    (Yang et al., 2022, arXiv 2203.03466). At hidden sizes of 2048 and 4096 this gives 4.9e-4 and 2.4e-4; LoRA Without
    Regret found 5e-4 and 2.9e-4 best there, with the same alpha.
    """
    if not info.hidden_size:
        return CAUTIOUS_RATE, "cautious: config.json does not say how wide the model is"
    rate = float(f"{min(HIGHEST_RATE, 1 / info.hidden_size):.1e}")
    return rate, f"usual for a hidden size of {info.hidden_size:,}"


def usual_rank(info: ModelInfo, answer_tokens: float, per_rank: int) -> tuple[int, str]:
    """The rank and why: what the data can fill, `per_rank` trained weights for each rank, and at most the table's.

    A weight holds about 2 bits (Allen-Zhu and Li, 2024, arXiv 2404.05405), and a token about 1 that is new; half of
    what would fit is counted on.
    """
    most = by_size(RANKS, info.parameters)
    enough = answer_tokens / max(per_rank, 1)
    rank = next((rank for rank in (USUAL_RANK, 32, 64, 128) if rank >= enough), most)
    if rank >= most:
        return most, f"the most that is usual for {info.size} parameters"
    return rank, f"room for {counted(int(answer_tokens), 'answer token')}: at least one trained weight for each"


class Chooser:
    """Collects chosen values and why: user > mode > handler > size table > default."""

    def __init__(self) -> None:
        self.why: dict[str, str] = {}

    def pick(self, name: str, given: Value | None, chosen: Value, reason: str) -> Value:
        """`given` if the user gave it, else `chosen` for `reason`."""
        self.why[name] = YOURS if given is not None else reason
        return chosen if given is None else given


def choose_length(
    options: Options, info: ModelInfo, handler: Handler, lost: Sequence[tuple[int, float]]
) -> tuple[int, str]:
    """The maximum sequence length in tokens, and why: the shortest limit that loses under 1 % of answers and of rows,
    and nothing with --strict.

    `lost` pairs each candidate limit, ascending, with the share of tokens it would cut off. Raises UsageError
    when the user's own limit is beyond what the model can read.
    """
    limit = most_tokens(info, handler)
    if options.max_seq_length is not None:
        if options.max_seq_length > limit:
            raise UsageError(
                f"--max-seq-length {options.max_seq_length} is more than {info.name} can read; "
                f"give at most {limit}, or leave it out"
            )
        return options.max_seq_length, YOURS
    ceiling, reason = handler.max_length, f"the usual limit for {handler.name} models"
    if limit <= ceiling:
        ceiling, reason = limit, f"the most {info.name} can read"
    for candidate, share in lost:
        if candidate <= ceiling and (not share if options.strict else share < 0.01):
            return candidate, f"the shortest that keeps {1 - share:.1%} of the tokens"
    return ceiling, reason


def most_tokens(info: ModelInfo, handler: Handler) -> int:
    """The longest row that the model can read, as far as is known."""
    return info.max_positions or handler.max_length


def choose_precision(info: ModelInfo, handler: Handler, hardware: Hardware) -> tuple[str, str]:
    """Precision of the frozen base and why: the family's own, raised to bfloat16 where the hardware has it."""
    if hardware.device == "cpu":
        if hardware.bf16 and info.parameters >= 5e7:
            return "bfloat16", "this CPU has native bfloat16"
        small = "the model is small" if hardware.bf16 else "this CPU has no native bfloat16"
        return "float32", small
    if hardware.bf16 or handler.dtype == "bfloat16":
        native = f"{hardware.name} has native bfloat16"
        return "bfloat16", native if hardware.bf16 else f"{handler.name} models need the range of bfloat16"
    return handler.dtype, f"{hardware.name} has no native bfloat16"


def by_size(table: Sequence[tuple[float, Value]], parameters: int) -> Value:
    """The value of the first row of (parameters below which it holds, value) that a model of `parameters` falls in."""
    return next(value for below, value in table if parameters < below)
