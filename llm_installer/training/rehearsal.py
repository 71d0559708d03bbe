"""One full step and one evaluation on the longest rows before training, and the way back when memory runs out.

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
from llm_installer.data.encode import Row
from llm_installer.planning.backing_off import smaller
from llm_installer.planning.plan import Plan
from llm_installer.training.memory import checkpoint_layers, checkpointable, is_out_of_memory, release
from llm_installer.training.trainer import Trainer, row_lengths

T = TypeVar("T")
Say = Callable[[str], None]


def rehearse(trainer: Trainer, rows: Sequence[Row], evaluated: Sequence[Row], say: Say) -> Plan:
    """Train and evaluate once on the longest rows; the plan that came through, which the trainer has from here on.

    Raises TrainingError when nothing that the plan could give up is enough. `rows` are those of the training set,
    `evaluated` those on which the loss is measured. All processes rehearse, and all back off together.
    """
    lengths = row_lengths(rows)
    chosen = _longest(lengths, trainer.plan.effective_batch_size)
    measured = [evaluated[int(i)] for i in _longest(row_lengths(evaluated), trainer.plan.effective_batch_size)]
    longest = max(int(lengths.max()), *(len(row.ids) for row in measured)) if measured else int(lengths.max())

    def once() -> None:
        with _untouched(trainer), trainer.head.attached():
            batches = trainer.micro_batches(rows, lengths, chosen)
            trainer.model.train()
            loss = trainer.loss_sum(max(batches, key=lambda batch: batch.ids.size))
            (loss / max(1, len(chosen))).backward()  # type: ignore[no-untyped-call]
            del loss
            trainer.bare_optimizer.step()
            trainer.bare_optimizer.zero_grad()
            trainer.bare_optimizer.state.clear()
            if measured:
                _evaluate_part(trainer, measured)

    backing_off(trainer, once, size=int(lengths[chosen].sum()), longest=longest, say=say, together=True)
    return trainer.plan


def backing_off(
    trainer: Trainer, work: Callable[[], T], *, size: int, longest: int, say: Say, together: bool = False
) -> T:
    """What `work` returns; where memory runs out in it, the plan gives something up and `work` is done again.

    `work` reads the trainer's plan each time and starts from nothing: what a half-done step left in the gradients is
    thrown away. `size` is its number of tokens, `longest` the longest row. With `together`, all processes go the same
    way; without, several processes cannot (one alone may have run out), and the error says what to type.
    """
    while True:
        failed, result = _attempt(work)
        alone = trainer.accelerator.num_processes == 1
        if together and not alone:
            failed = trainer.any_process(failed)
        if not failed:
            return result[0]
        trainer.bare_optimizer.zero_grad()
        release(trainer.plan.device)
        layers = len(checkpointable(trainer.model))
        found = smaller(trainer.plan, tokens=size, longest=longest, layers=layers) if alone or together else None
        if found is None:
            raise TrainingError(
                f"There is not enough memory for one row of {longest} tokens; "
                f"try --method qlora, or a shorter limit: --max-seq-length {max(8, longest // 2)}"
                if alone or together
                else "Memory ran out in one of several processes; start again with less at once: --batch-size 1"
            )
        trainer.plan, line = found
        checkpoint_layers(trainer.model, trainer.plan.checkpointed_layers)
        say(line)


def _attempt(work: Callable[[], T]) -> tuple[bool, list[T]]:
    """(whether memory ran out, the result in a list); the error and all it holds on to are gone on return."""
    try:
        return False, [work()]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return True, []


def _longest(lengths: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-lengths, kind="stable")[:count]


@torch.no_grad()
def _evaluate_part(trainer: Trainer, rows: Sequence[Row]) -> None:
    trainer.model.eval()
    batches = trainer.micro_batches(rows, row_lengths(rows), np.arange(len(rows)))
    trainer.loss_sum(max(batches, key=lambda batch: batch.ids.size))


@contextmanager
def _untouched(trainer: Trainer) -> Iterator[None]:
    """Weights, gradients, optimizer and random state as before, whatever happens inside."""
    gpus = range(torch.cuda.device_count()) if trainer.plan.device == "cuda" else ()
    weights = [p.detach().clone() for p in trainer.trained]
    mode = trainer.model.training
    with torch.random.fork_rng(devices=gpus):
        try:
            yield
        finally:
            trainer.bare_optimizer.zero_grad()
            trainer.bare_optimizer.state.clear()
            with torch.no_grad():
                for parameter, before in zip(trainer.trained, weights, strict=True):
                    parameter.copy_(before)
            trainer.model.train(mode)
