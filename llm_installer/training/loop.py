"""The one training loop, on 1 to N processes. It obeys the plan and knows no mode by name."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor

from llm_installer.core.state import Evaluation, RunState, StepReport
from llm_installer.data.batches import Batch, collate, epoch_steps, micro_batches
from llm_installer.data.encode import Row
from llm_installer.data.encoded import EncodedSet
from llm_installer.data.mixing import Mix
from llm_installer.planning.plan import Plan
from llm_installer.planning.schedule import rate_scale
from llm_installer.planning.stopping import stop_reason
from llm_installer.training.checkpoint import CheckpointWriter, Weights, adapter_weights
from llm_installer.training.fast.speed import speed_up
from llm_installer.training.kernels import ScoredHead
from llm_installer.training.reporters import Reporter
from llm_installer.training.signals import StopRequest


@dataclass(frozen=True)
class TrainingData:
    """Encoded rows, and the fixed rows on which both losses are measured."""

    rows: Sequence[Row]
    train_slice: Sequence[Row]
    validation: Sequence[Row]
    mix: Mix | None = None
    """Which rows an epoch goes through, where it is not each once."""


class Trainer:
    """One run's moving parts: model, optimizer and the devices they live on."""

    def __init__(self, model: PeftModel, plan: Plan, pad: int) -> None:
        fp16 = plan.precision == "float16"
        self.accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision="fp16" if fp16 else "no")
        self.plan, self.pad, self.model = plan, pad, model
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        self.forward, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.trained = trained
        speed = speed_up(model)
        self.head = ScoredHead(model)
        self.notes = (*speed.notes, self.head.note)

    def step(self, batches: Sequence[Batch], rate: float) -> tuple[float, float]:
        """One optimizer step over micro-batches: (mean loss per learned token, gradient norm before clipping).

        The loss of each micro-batch is divided by the learned tokens of the whole step, so any split gives the same
        gradient.
        """
        self.forward.train()
        processes = self.accelerator.num_processes
        learned = sum(len(b.targets) for b in batches)
        total = torch.zeros((), device=self.accelerator.device)
        for batch in batches[self.accelerator.process_index :: processes]:
            loss = self._loss_sum(batch)
            self.accelerator.backward(loss * (processes / learned))
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(self.trained, self.plan.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        total = self.accelerator.reduce(total, reduction="sum")
        return float(total) / learned, float(norm if norm is not None else math.nan)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> float:
        """Mean loss per learned token in eval mode: no dropout, no gradient; rows in a fixed order."""
        self.forward.eval()
        lengths = row_lengths(rows)
        parts = micro_batches(lengths, np.arange(len(rows)), self.plan.micro_batch_tokens, len(rows))
        total = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        for part in parts[self.accelerator.process_index :: self.accelerator.num_processes]:
            total += self._loss_sum(self.batch(rows, part)).double()
        total = self.accelerator.reduce(total, reduction="sum")
        return float(total) / sum(int(r.learned[1:].sum()) for r in rows)

    def batch(self, rows: Sequence[Row], chosen: npt.NDArray[np.int64]) -> Batch:
        """The chosen rows as one micro-batch."""
        return collate([rows[i] for i in chosen], self.pad)

    def _loss_sum(self, batch: Batch) -> Tensor:
        device = self.accelerator.device
        ids, positions, targets = (torch.from_numpy(a).to(device) for a in (batch.ids, batch.positions, batch.targets))
        with self.accelerator.autocast():
            return self.head.loss_sum(self.forward, ids, positions, targets)


def train(
    trainer: Trainer, data: TrainingData, save: CheckpointWriter, report: Reporter, stop: StopRequest
) -> tuple[RunState, Weights]:
    """Train until the plan ends, a stop rule fires or a signal asks: the state, and the best adapter's weights."""
    plan, state = trainer.plan, RunState()
    start = seen = time.monotonic()
    tokens, loss, norm = 0, math.nan, math.nan
    with trainer.head.attached():
        best = adapter_weights(trainer.model)
        measure(trainer, data, state, report, norm, 0.0, 0.0)
        for batches in step_batches(trainer, data.rows, data.mix):
            began = time.monotonic()
            state.step += 1
            state.epoch = state.step * plan.epochs / plan.total_steps
            rate = plan.learning_rate * rate_scale(state.step, plan.warmup_steps, plan.total_steps)
            loss, norm = trainer.step(batches, rate)
            stepped = sum(b.tokens for b in batches)
            state.tokens, tokens = state.tokens + stepped, tokens + stepped
            seconds = time.monotonic() - began
            report.on_step(StepReport(state.step, state.epoch, loss, rate, norm, stepped, seconds))
            last = state.step == plan.total_steps
            if state.step % plan.evaluation_every == 0 or last or stop.number:
                now = time.monotonic()
                if measure(trainer, data, state, report, norm, tokens / (now - seen), now - start):
                    best = adapter_weights(trainer.model)
                state.stop_reason = stop_reason(state, plan.limits, plan.stop_rules) or ""
                ending = bool(last or state.stop_reason or stop.number)
                if trainer.accelerator.is_main_process:
                    save.write(trainer.model, trainer.optimizer, state, best, ending)
                if ending:
                    break
                tokens, seen = 0, time.monotonic()
    state.stop_reason = state.stop_reason or ("you stopped it" if stop.number else "all epochs are done")
    return state, best


def measure(
    trainer: Trainer, data: TrainingData, state: RunState, report: Reporter, norm: float, speed: float, seconds: float
) -> bool:
    """Measure both fixed sets and record it; True when this is the best so far."""
    plan = trainer.plan
    evaluation = Evaluation(
        step=state.step,
        epoch=state.epoch,
        train_loss=trainer.evaluate(data.train_slice),
        validation_loss=trainer.evaluate(data.validation) if data.validation else None,
        learning_rate=plan.learning_rate * rate_scale(max(1, state.step), plan.warmup_steps, plan.total_steps),
        grad_norm=norm,
        tokens_per_second=speed,
        seconds=seconds,
    )
    best = state.record(evaluation)
    report.on_evaluation(evaluation, state, best)
    return best


def step_batches(trainer: Trainer, rows: Sequence[Row], mix: Mix | None = None) -> Iterator[list[Batch]]:
    """The micro-batches of each step, epoch after epoch, `total_steps` of them."""
    plan, lengths = trainer.plan, row_lengths(rows)
    done = epoch = 0
    while True:
        met = mix.epoch(plan.seed, epoch) if mix else None
        for chosen in epoch_steps(lengths, plan.effective_batch_size, plan.seed, epoch, rows=met, order=plan.order):
            if done == plan.total_steps:
                return
            parts = micro_batches(lengths, chosen, plan.micro_batch_tokens, plan.micro_batch_rows)
            yield [trainer.batch(rows, part) for part in parts]
            done += 1
        epoch += 1


def row_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Tokens of each row."""
    if isinstance(rows, EncodedSet):
        return rows.lengths
    return np.fromiter((len(r.ids) for r in rows), dtype=np.int64, count=len(rows))
