"""How much one forward and backward pass takes, and how many layers are checkpointed for it."""

from __future__ import annotations

import math

from llm_installer.core.errors import UsageError
from llm_installer.core.text import counted, size
from llm_installer.planning.chooser import YOURS, Chooser, by_size
from llm_installer.planning.fitting import Fit, filled, fit_memory
from llm_installer.planning.names import truth
from llm_installer.planning.options import Options
from llm_installer.planning.setup import Setup
from llm_installer.planning.sharding import asked_processes, shared_memory

ENOUGH_TOKENS = ((7e8, 16384), (7e9, 8192), (math.inf, 4096))
"""Tokens of a micro-batch that keep a GPU busy, by parameters of the model."""
ENOUGH_ON_CPU = 1536
"""1024 were 3 to 5 percent slower; 2048 no faster, and took two fifths more memory above the weights
(docs/concepts/performance.md)."""


def choose_micro_batch(
    options: Options, setup: Setup, most_rows: int, step_tokens: int, longest_row: int, choose: Chooser
) -> tuple[Fit, int]:
    """How memory is used, and the rows of a micro-batch: what memory holds, no more than keeps the device busy.

    `most_rows` are those of the largest step, `step_tokens` the tokens of a usual one, padding included, `longest_row`
    those of the longest row. Raises UsageError for a --gradient-checkpointing that is not one.
    """
    model, hardware, asked = setup.model, setup.hardware, options.gradient_checkpointing
    processes = asked_processes(options, hardware)
    memory, sharded = shared_memory(setup, processes)
    fit = fit_memory(
        memory,
        enough=ENOUGH_ON_CPU if hardware.device == "cpu" else by_size(ENOUGH_TOKENS, model.parameters),
        longest=setup.longest,
        step_tokens=step_tokens,
        smaller=memory if model.stored.words else shared_memory(setup.quantised_as("nf4"), processes)[0],
        layers=asked_layers(asked, model.layers),
    )
    fit = filled(fit, memory, most_rows * min(setup.longest, longest_row))
    why = f"{fit.why}; about {size(fit.peak)} of {size(hardware.free_bytes)}"
    choose.why["micro_batch_tokens"] = f"{_rows_why(options, most_rows)}{why}"
    if sharded:
        choose.why["micro_batch_tokens"] += "; no single GPU can hold the base, so it is sharded over all of them"
    choose.why["checkpointed_layers"] = YOURS if asked else "memory is short" if fit.checkpointed else "not needed"
    parts = options.gradient_accumulation_steps
    rows = options.batch_size or (math.ceil(most_rows / parts) if parts else most_rows)
    return fit, min(rows, most_rows)


def _rows_why(options: Options, most_rows: int) -> str:
    """What the user's own number of rows does, as the beginning of a reason; empty where there is none."""
    rows, parts = options.batch_size, options.gradient_accumulation_steps
    if rows and rows > most_rows:
        return f"{rows} rows are more than a step has; --effective-batch-size gives it more; "
    if rows:
        return "you set the rows; what is learned does not depend on them; "
    return f"the rows of a step in {counted(parts, 'part')}, as you said; " if parts else ""


def asked_layers(given: str | None, layers: int) -> int | None:
    """How many of `layers` --gradient-checkpointing on|off|N asks for, None where it is not given.

    Raises UsageError for anything else.
    """
    if given is None:
        return None
    if given.isdigit():
        return min(int(given), layers)
    on = truth(given)
    if on is None:
        raise UsageError(f"--gradient-checkpointing {given}: say on, off or a number of layers")
    return layers if on else 0
