"""Predicts how long a run will take: steps and evaluations are timed before training, on the run's own rows.

Like the memory probe, it leaves no trace in the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from llm_installer.core.run.forecast import Forecast
from llm_installer.core.run.history import ratios, read_history
from llm_installer.core.run.samples import ANSWER_TOKENS
from llm_installer.core.state import RunState
from llm_installer.data.batches import epoch_steps
from llm_installer.distributed.processes import greatest
from llm_installer.planning.minutes import evaluations_left, steps_left
from llm_installer.planning.modes import ENDLESS
from llm_installer.planning.plan import Plan
from llm_installer.training.evaluation import MOST_ROWS, SHARE
from llm_installer.training.measured import GROUPS, grouped
from llm_installer.training.memory_probe import backing_off, untouched
from llm_installer.training.own_text import SAMPLES, own_tokens
from llm_installer.training.trainer import Trainer, row_lengths
from llm_installer.training.training_data import TrainingData

Lengths = npt.NDArray[np.int64]
QUANTILES = (0.5, 0.5, 0.1, 0.9, 0.3, 0.7, 0.5, 0.2, 0.8)
"""Which steps are timed, by where they are among all when sorted by tokens. The first one also pays for what comes only
once, such as buffers, and counts where it is the only one."""
LONGEST, LARGEST = 1.5, 0.03
"""Seconds that steps are timed for, and as a share of the run."""
COMPILED = 3
"""Steps that are timed where something is compiled."""
BATCHES = 3
"""Batch sizes that are timed, where they grow; those between them follow."""
WRITING, REPORTING = 2.5, 0.003
"""Seconds for adapter, curves and report at the end, and for reporters in each step."""
DECODING = 1.0
"""What a token of an answer costs, in evaluations of the shortest row."""
AFTERWARDS = 0.4
"""What comparing takes of that: answers end before their limit, and more rows at once are cheaper. From five runs."""
GENERAL = 600
"""Tokens of the bundled sentences, on which base and tuned model are compared, about; more with a small vocabulary."""


@dataclass(frozen=True)
class Extra:
    """What a run generates, beside training."""

    prompts: bool
    """Answers to the user's own prompts, at each evaluation."""
    questions: bool
    """Answers of base and tuned model to questions from the data, at the end."""


def forecast(
    trainer: Trainer, data: TrainingData, state: RunState, extra: Extra, say: Callable[[str], None]
) -> Forecast:
    """How long the run will take from where `state` stands.

    All processes time, and all do the same. `say` is told where memory runs out meanwhile.
    """
    lengths = row_lengths(data.rows)

    def once() -> tuple[float, float, float]:
        with untouched(trainer):
            step = _step(trainer, data, lengths, state)
            return step, *_evaluation(trainer, data)

    longest = int(lengths.max())
    step, per_token, word = backing_off(trainer, once, size=int(lengths.sum()), longest=longest, say=say)
    plan, course = trainer.plan, trainer.plan.course
    evaluated = sum(int(row_lengths(rows).sum()) for rows in (data.train_slice, data.validation) if len(rows))
    steps = sum(steps_left(plan, state, plan.rows or len(lengths)).values())
    answers = ANSWER_TOKENS * word * extra.prompts, 2 * ANSWER_TOKENS * word * extra.questions
    compared = 2 * per_token * _compared(data, plan, lengths) + answers[1]
    own = own_tokens(float(lengths.mean()) * (plan.rows or len(lengths)) * min(course.epochs, 1e6))
    kept = 2 * per_token * (GENERAL + own) + own / SAMPLES * max(word, SAMPLES * per_token)
    found = Forecast(
        step=step + REPORTING,
        evaluation=evaluated * per_token + answers[0],
        steps=steps,
        evaluations=evaluations_left(course, state.done, steps),
        after=WRITING + (0.0 if trainer.sharded else AFTERWARDS * compared + kept),
        before=state.seconds,
        early=bool(set(course.stop_rules) - set(ENDLESS)),
        endless=not course.total_steps,
    )
    return replace(found, past=ratios(found.total, plan.device, read_history()))


def _step(trainer: Trainer, data: TrainingData, lengths: Lengths, state: RunState) -> float:
    """Mean seconds of the steps that are left."""
    plan = trainer.plan
    left = steps_left(plan, state, plan.rows or len(lengths))
    if not left:
        return 0.0
    batches = sorted(left)
    chosen = sorted({batches[round(i * (len(batches) - 1) / (BATCHES - 1))] for i in range(BATCHES)})
    epoch, count = state.epoch_index, sum(left.values())
    met = data.mix.epoch(plan.seed, epoch) if data.mix else None
    took = []
    for batch in chosen:
        steps = epoch_steps(lengths, batch, plan.seed, epoch, rows=met, order=plan.order)
        tokens = np.array([int(lengths[rows].sum()) for rows in steps])
        took.append(float(tokens.mean()) * _per_token(trainer, data, lengths, steps, tokens, count * len(chosen)))
    return float(sum(np.interp(b, chosen, took) * n for b, n in left.items()) / count)


def _per_token(
    trainer: Trainer, data: TrainingData, lengths: Lengths, steps: Sequence[Lengths], tokens: Lengths, count: int
) -> float:
    """Seconds of a step for each of its tokens; `count` steps are the share of the run that bounds the timing."""
    order, times = np.argsort(tokens, kind="stable"), list[tuple[int, float]]()

    def step(at: int) -> object:
        return trainer.step(trainer.micro_batches(data.rows, lengths, steps[at]), trainer.plan.learning_rate)

    for quantile in QUANTILES:
        at = int(order[int(quantile * (len(order) - 1) + 0.5)])
        times.append((int(tokens[at]), seconds_of(partial(step, at))))
        spent = sum(seconds for _, seconds in times)
        if trainer.plan.compiling:  # which shapes a compiler meets first must not depend on a clock
            if len(times) == COMPILED:
                break
        elif spent > LONGEST or (len(times) > 1 and spent > LARGEST * count * min(seconds for _, seconds in times)):
            break
    counted = times[1:] or times
    return sum(seconds for _, seconds in counted) / sum(size for size, _ in counted)


def _evaluation(trainer: Trainer, data: TrainingData) -> tuple[float, float]:
    """Seconds of evaluating a token, and of the shortest row."""
    rows = [*data.train_slice, *data.validation]
    lengths = row_lengths(rows)
    apart = max(1, int(lengths.sum()) // (2 * trainer.plan.micro_batch_tokens))
    some = [rows[i] for i in np.argsort(lengths, kind="stable")[apart // 2 :: apart]]
    shortest = [rows[int(lengths.argmin())]]
    # Few rows are computed in the groups of validation rows, where there are any.
    of = grouped(some, GROUPS if data.validation and apart == 1 else 1)
    seconds = min(seconds_of(lambda: trainer.summed_losses(some, of)) for _ in range(2))
    word = min(seconds_of(lambda: trainer.evaluate(shortest)) for _ in range(3))
    return seconds / int(row_lengths(some).sum()), word * DECODING


def _compared(data: TrainingData, plan: Plan, lengths: Lengths) -> float:
    """Tokens on which base and tuned model are compared at the end."""
    rows = min(MOST_ROWS, len(lengths)) + len(data.validation)
    fixed, more = len(data.train_slice) + len(data.validation), 2 * SHARE * plan.rows * min(plan.course.epochs, 1e6)
    return float(lengths.mean()) * min(rows, fixed + more)


def seconds_of(work: Callable[[], object]) -> float:
    """What it takes; the longest of all processes, so that they agree."""
    began = time.monotonic()
    work()
    return greatest(int(1e6 * (time.monotonic() - began)))[0] / 1e6
