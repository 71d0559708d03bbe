"""The one training loop, on 1 to N processes. It obeys the plan and knows no mode by name."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from llm_installer.core.speed import timed
from llm_installer.core.startup import ready
from llm_installer.core.state import Adjustment, Evaluation, RunState, StepReport
from llm_installer.data.batches import epoch_steps
from llm_installer.data.mixing import Mix
from llm_installer.distributed.processes import greatest, seed_apart
from llm_installer.planning.controller import CONTROLLERS
from llm_installer.planning.modes import MODES
from llm_installer.planning.plan import Plan
from llm_installer.planning.stopping import stop_reason
from llm_installer.training.checkpoint import (
    Checkpoint,
    Weights,
    adapter_weights,
    load_weights,
    set_random_state,
)
from llm_installer.training.measured import GROUPS, measure
from llm_installer.training.memory_probe import backing_off
from llm_installer.training.reporters import Everyone
from llm_installer.training.session import Session
from llm_installer.training.trainer import Trainer, row_lengths
from llm_installer.training.training_data import TrainingData

MOST_SKIPPED = 3
"""Steps in a row without a finite loss that end the run."""
NAMED_ROWS = 8


def train_loop(trainer: Trainer, data: TrainingData, session: Session) -> tuple[RunState, Weights]:
    """Train until the plan ends, a stop rule fires or somebody asks: the state, and the best adapter's weights.

    Resumed from a checkpoint, what follows is on one CPU bit for bit what would have followed.
    """
    loop, since = _Loop(trainer, data, session), session.since
    ready()
    if since:
        loop.resume(since)
    for name, seconds in session.phases.items():
        loop.state.phases[name] = loop.state.phases.get(name, 0.0) + seconds
    if not since:
        seed_apart(trainer.plan.seed, 0)
        loop.evaluate()
    loop.run()
    return loop.state, loop.best


class _Loop:
    """The parts of one run and where it stands. The plan is the trainer's, which changes it when memory runs out."""

    def __init__(self, trainer: Trainer, data: TrainingData, session: Session) -> None:
        self.trainer, self.data = trainer, data
        self.save, self.report, self.requests = session.save, session.report, session.requests
        self.lengths = row_lengths(data.rows)
        self.longest = int(self.lengths.max())
        self.state = RunState(memorising=MODES[trainer.plan.mode].memorises)
        self.best = adapter_weights(trainer.model)
        self.first: Weights | None = self.best
        """What a controller goes back to; None once an evaluation beat the base, for then it goes back to the best."""
        trainer.rank = trainer.plan.rank_at(1)
        self.norm = math.nan
        self.skipped_rows: deque[str] = deque(maxlen=NAMED_ROWS)
        self._clock = self._seen = time.monotonic()
        self._tokens = 0

    @property
    def plan(self) -> Plan:
        """What is planned now."""
        return self.trainer.plan

    def resume(self, since: Checkpoint) -> None:
        """Weights, optimizer, random state, counters and history as they were."""
        load_weights(self.trainer.model, since.weights)
        self.trainer.weights_changed()
        self.trainer.set_optimizer_state(since.optimizer)
        set_random_state(since.random)
        self.state, self.best = since.state, since.best
        self.trainer.rank = self.plan.rank_at(self.state.done)
        # Older checkpoints lack them: then they are those of a fresh adapter.
        self.first = since.first or (None if self.state.improved else self.first)
        seed_apart(self.plan.seed, self.state.step)

    def run(self) -> None:
        """Step after step to the end; nothing where a rule had ended the run before it was resumed."""
        state = self.state
        if state.stop_reason:
            return
        done = state.done
        for rows in planned_steps(self.plan, self.lengths, state, self.data.mix, self.report):
            with timed(state.phases, "train"):
                self._step(rows)
            if self._judged(done, state.done):
                break
            done = state.done
        state.stop_reason = (
            state.stop_reason
            or self.requests.why
            or ("you stopped it" if self.requests.number else MODES[self.plan.mode].ended())
        )

    def _judged(self, before: int, done: int) -> bool:
        """Evaluate, adjust, judge and save, each where it is due after a step; True when the run ends with it."""
        state, plan = self.state, self.plan
        last = bool(plan.course.total_steps) and done >= plan.course.total_steps
        # A run that is interrupted is saved as it is: evaluating it here would change how it is resumed.
        interrupted, asked = self._asked()
        skipped = self._too_many_skipped()
        evaluated = plan.course.evaluation_due(before, done) or last or asked or bool(skipped)
        if evaluated:
            self.evaluate()
        if evaluated and not (last or asked) and self._adjust():
            state.stop_reason = ""
        else:
            judged = stop_reason(state, plan.course.limits, plan.course.stop_rules) if evaluated else None
            state.stop_reason = skipped or judged or ""
        ending = bool(last or state.stop_reason or asked or interrupted)
        if ending or self.requests.save or self.save.due(evaluated):
            self._save()
        return ending

    def evaluate(self) -> None:
        """Evaluate both fixed sets, record and report it, and keep the weights if they are the best so far."""
        trainer, data, state, now = self.trainer, self.data, self.state, time.monotonic()
        with timed(state.phases, "evaluate"):
            train = measure(trainer, data.train_slice, self._say)
            held_out = measure(trainer, data.validation, self._say, GROUPS) if data.validation else None
        evaluation = Evaluation(
            step=state.step,
            epoch=state.epoch,
            train_loss=train.loss,
            validation_loss=held_out.loss if held_out else None,
            learning_rate=self.plan.learning_rate_at(state),
            grad_norm=self.norm,
            tokens_per_second=self._tokens / max(now - self._seen, 1e-9) if state.step else 0.0,
            seconds=state.seconds,
            noise=held_out.noise(state.best_sums) if held_out and not state.memorising else 0.0,
        )
        if best := state.record(evaluation):
            state.best_sums = held_out.sums.tolist() if held_out else []
            self.best = adapter_weights(trainer.model)
            self.first = None if state.improved else self.first
        self.report.on_evaluation(evaluation, state, best)
        self._tokens, self._seen = 0, time.monotonic()

    def _step(self, rows: npt.NDArray[np.int64]) -> None:
        state, began = self.state, time.monotonic()
        self.report.on_event("step begin", state)
        rate = self.plan.learning_rate_at(state)
        if said := self.trainer.grow(self.plan.rank_at(state.done)):
            self._say(f"Step {state.step}: {said}")
        loss, self.norm, taken, tokens = backing_off(
            self.trainer, lambda: self._train_on(rows, rate),
            size=self._at_once(rows), longest=self.longest, say=self._say,
        )  # fmt: skip
        if not taken:
            state.skipped += 1
            self.skipped_rows.extend(self.data.name(int(i)) for i in rows)
        state.skipped_in_a_row = 0 if taken else state.skipped_in_a_row + 1
        state.tokens, self._tokens = state.tokens + tokens, self._tokens + tokens
        now = time.monotonic()
        state.seconds, self._clock = state.seconds + now - self._clock, now
        self.report.on_step(StepReport(state.step, state.epoch, loss, rate, self.norm, tokens, now - began))

    def _train_on(self, rows: npt.NDArray[np.int64], rate: float) -> tuple[float, float, bool, int]:
        batches = self.trainer.micro_batches(self.data.rows, self.lengths, rows)
        return *self.trainer.step(batches, rate), sum(b.tokens for b in batches)

    def _at_once(self, rows: npt.NDArray[np.int64]) -> int:
        """Tokens of the largest part of a step, were memory no limit."""
        longest = np.sort(self.lengths[rows])[-self.trainer.rows_at_once(len(rows)) :]
        return int(longest.sum() if self.trainer.packing else longest[-1] * len(longest))

    def _say(self, line: str) -> None:
        self.report.on_note(line)

    def _asked(self) -> tuple[bool, bool]:
        """Whether a signal interrupts the run, and whether it should end well; all processes say the same."""
        number, why = greatest(self.requests.number, int(bool(self.requests.why)))
        self.requests.hear(number)
        signalled, endless = bool(number), not self.plan.course.total_steps
        return signalled and not endless, bool(why) or (signalled and endless)

    def _too_many_skipped(self) -> str | None:
        state = self.state
        if state.skipped_in_a_row < MOST_SKIPPED:
            return None
        rows = ", ".join(dict.fromkeys(self.skipped_rows))
        return f"the loss was not a finite number for {state.skipped_in_a_row} steps in a row; their rows: {rows}"

    def _adjust(self) -> bool:
        """Let the controller change learning rate, batch or weights; True where it did, and patience starts again."""
        change: Adjustment | None = CONTROLLERS[self.plan.controller](self.state, self.plan)
        if change is None:
            return False
        self.state.adjustments.append(change)
        self.state.rate_scale, self.state.batch_scale = change.rate_scale, change.batch_scale
        self.state.evaluations_without_improvement = self.state.skipped_in_a_row = 0
        if change.restore_best:
            load_weights(self.trainer.model, self.best if self.first is None else self.first)
            self.trainer.weights_changed()
            self.trainer.forget()
        self.report.on_note(f"Step {change.step}: {change.why}")
        return True

    def _save(self) -> None:
        self.report.on_event("save", self.state)
        with timed(self.state.phases, "save"):
            if self.trainer.is_writer:
                self.save.write(self.trainer.model, self.trainer.optimizer_state(), self.state, self.best, self.first)
        self.requests.saved()
        self.report.on_event("saved", self.state)


def planned_steps(
    plan: Plan, lengths: npt.NDArray[np.int64], state: RunState, mix: Mix | None, report: Everyone
) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of each step from where `state` stands, which it moves on."""
    while True:
        epoch = state.epoch_index
        met = mix.epoch(plan.seed, epoch) if mix else None
        planned = epoch_steps(lengths, plan.batch_of(epoch), plan.seed, epoch, rows=met, order=plan.order)
        if not state.epoch_offset:
            report.on_event("epoch begin", state)
        while state.epoch_offset < len(planned):
            if plan.course.total_steps and state.done >= plan.course.total_steps:
                return
            taken = planned[state.epoch_offset : state.epoch_offset + state.batch_scale]
            state.epoch_offset += len(taken)
            state.epoch = epoch + state.epoch_offset / len(planned)
            state.step, state.done = state.step + 1, state.done + len(taken)
            yield np.concatenate(taken)
        state.epoch_index, state.epoch_offset = epoch + 1, 0
        report.on_event("epoch end", state)
