"""Times a step with micro-batches of several sizes, where that can pay; like the memory probe, it leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from llm_installer.data.batches import Batch, epoch_steps
from llm_installer.data.encoding.row import Row
from llm_installer.planning.tokens_at_once import as_timed, goes_on, worth_timing
from llm_installer.training.memory_probe import attempt, clean_up, untouched
from llm_installer.training.trainer import Trainer, row_lengths

SECONDS = 1.0
"""For each size, after a pass that pays for what comes only once."""


def choose_size(trainer: Trainer, rows: Sequence[Row]) -> bool:
    """Give the trainer the plan with the fastest micro-batch for a usual step; whether its size has changed."""
    plan, lengths = trainer.plan, row_lengths(rows)
    steps = epoch_steps(lengths, plan.batch_of(0), plan.seed, 0)
    step = sorted(steps, key=lambda each: int(lengths[each].sum()))[len(steps) // 2]
    more = worth_timing(plan, int(lengths[step].sum()), trainer.accelerator.num_processes)
    if more:
        trainer.plan = as_timed(plan, rates(trainer, rows, step, (plan.micro_batch_tokens, *more)))
    return trainer.plan.micro_batch_tokens != plan.micro_batch_tokens


def rates(
    trainer: Trainer, rows: Sequence[Row], step: npt.NDArray[np.int64], sizes: Sequence[int], seconds: float = SECONDS
) -> dict[int, float]:
    """Tokens per second of a step, padding not counted, by the size of its micro-batches: ascending, up to the first
    for which there is no memory, or that is no faster than the one before it."""
    plan, found = trainer.plan, dict[int, float]()
    lengths = row_lengths(rows)
    for size in sizes:
        trainer.plan = replace(plan, micro_batch_tokens=size)
        batches = trainer.micro_batches(rows, lengths, step)
        with untouched(trainer):
            error, result = attempt(partial(_rate, trainer, batches, seconds))
            if error:
                clean_up(trainer)
        if error:
            break
        found[size] = result[0]
        if not goes_on(found):
            break
    trainer.plan = plan
    return found


def _rate(trainer: Trainer, batches: Sequence[Batch], seconds: float) -> float:
    """Steps until the time is over; reading the loss waits for the device."""
    trainer.model.train()
    float(trainer.add_gradients(batches, 1))
    tokens, began = 0, time.perf_counter()
    while True:
        float(trainer.add_gradients(batches, 1))
        tokens += sum(batch.tokens for batch in batches)
        if (spent := time.perf_counter() - began) >= seconds:
            return tokens / spent
