"""The memory probe: one step and one evaluation on the longest rows before training; and backing off from an error.

Neither leaves a trace in the result: weights, optimizer and random state are as they were, and a step that is repeated
in smaller parts has the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from llm_installer.core.errors import TrainingError
from llm_installer.data.batches import Batch
from llm_installer.data.encoding.row import Row
from llm_installer.distributed.memory_errors import RanOut, is_out_of_memory
from llm_installer.distributed.processes import all_or_none
from llm_installer.planning.backoff import smaller
from llm_installer.planning.plan import Plan
from llm_installer.training.device_memory import checkpoint_layers, checkpointable, release
from llm_installer.training.trainer import Trainer, row_lengths

T = TypeVar("T")
Say = Callable[[str], None]
SEVERAL = (
    "Memory ran out in one of several processes; start again with smaller micro-batches, for example: --batch-size 1"
)


def probe(trainer: Trainer, rows: Sequence[Row], evaluated: Sequence[Row], say: Say) -> Plan:
    """Train and evaluate once on the longest rows; the plan that fits, which the trainer has from here on.

    `rows` are those of the training set, `evaluated` those on which the loss is evaluated; `say` is told each change.
    All processes probe, and all back off together. Raises TrainingError when the smallest plan does not fit.
    """
    lengths, chosen = row_lengths(rows), _longest(row_lengths(rows), trainer.plan.course.effective_batch_size)
    longest = max(int(lengths.max()), int(row_lengths(evaluated).max()) if len(evaluated) else 0)

    def once() -> None:
        with untouched(trainer), all_or_none(exchanges=trainer.sharded):
            _train_part(trainer, trainer.micro_batches(rows, lengths, chosen))
            if len(evaluated):
                _evaluate_part(trainer, evaluated)

    size = max(batch.ids.size for batch in trainer.micro_batches(rows, lengths, chosen))
    backing_off(trainer, once, size=size, longest=longest, say=say)
    return trainer.plan


def backing_off(trainer: Trainer, work: Callable[[], T], *, size: int, longest: int, say: Say) -> T:
    """What `work` returns; where memory runs out in it, the plan backs off and `work` is done again.

    `work` reads the trainer's plan each time and starts from nothing: what a half-done step left in the gradients is
    thrown away. `size` is its number of tokens, `longest` the longest row. Several processes go the same way where all
    of them know; where one ran out in the middle of an exchange, they cannot, and the error says what to type.
    """
    while True:
        error, result = attempt(work)
        if error is None:
            return result[0]
        if trainer.accelerator.num_processes > 1 and error is not RanOut:
            raise TrainingError(SEVERAL)
        clean_up(trainer)
        layers = len(checkpointable(trainer.model))
        found = smaller(trainer.plan, tokens=size, longest=longest, layers=layers)
        if found is None:
            raise TrainingError(_suggestion(longest))
        trainer.plan, line = found
        if checkpoint_layers(trainer.model, trainer.plan.checkpointed_layers):
            trainer.fast.short_of_memory()
        say(line)


def clean_up(trainer: Trainer) -> None:
    """Give back what a step that ran out of memory has left behind."""
    trainer.zero_grad()
    if trainer.fixed:
        trainer.fixed.refuse("memory is short")
    trainer.fast.forget_half_done()
    release(trainer.plan.device)


def _suggestion(longest: int) -> str:
    return (
        f"There is not enough memory for one row of {longest} tokens; "
        f"try --method qlora, or a shorter limit: --max-seq-length {max(8, longest // 2)}"
    )


def attempt(work: Callable[[], T]) -> tuple[type[RuntimeError] | None, list[T]]:
    """(which error said that memory ran out, the result in a list); the error and all it holds are gone on return."""
    try:
        return None, [work()]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return type(error), []


def _longest(lengths: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-lengths, kind="stable")[:count]


def _train_part(trainer: Trainer, batches: Sequence[Batch]) -> None:
    """A step of the largest micro-batches: the optimizer state is made beside the gradients, then forgotten."""
    trainer.model.train()
    largest = sorted(batches, key=lambda batch: batch.ids.size)
    if trainer.fast.parallel:
        trainer.add_gradients(largest[-trainer.fast.at_once :], 1)
    else:
        loss = trainer.loss_sum(largest[-1])
        loss.backward()  # type: ignore[no-untyped-call]
    trainer.bare_optimizer.step()


@torch.no_grad()
def _evaluate_part(trainer: Trainer, rows: Sequence[Row]) -> None:
    """The first part of an evaluation in which the longest rows come together."""
    lengths = row_lengths(rows)
    trainer.model.eval()
    part = trainer.parts(lengths, _longest(lengths, len(rows)), len(rows))[0]
    trainer.loss_sum(trainer.batch(rows, part))


@contextmanager
def untouched(trainer: Trainer) -> Iterator[None]:
    """Weights, gradients, optimizer, scale of float16 and random state as before, whatever happens inside."""
    assert not trainer.bare_optimizer.state, "the probe comes before the first step and before a resumed state"
    gpus = range(torch.cuda.device_count()) if trainer.plan.device == "cuda" else ()
    weights = [p.detach().clone() for p in trainer.trained]
    mode, scaler = trainer.model.training, trainer.accelerator.scaler
    scale = scaler.state_dict() if scaler else None
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            trainer.zero_grad()
            trainer.bare_optimizer.state.clear()
            with torch.no_grad():
                for parameter, before in zip(trainer.trained, weights, strict=True):
                    parameter.copy_(before)
            trainer.weights_changed()
            trainer.model.train(mode)
            if scaler and scale:
                scaler.load_state_dict(scale)
