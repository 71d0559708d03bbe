"""The words that a run is reported in, shared by the console and the log."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path

from llm_installer.core.state import Evaluation, Result, RunState
from llm_installer.training.reporters.protocol import RunHeader

SEPARATOR = " | "


def clock(seconds: float) -> str:
    """HH:MM:SS; hours go on counting after a day."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}"


def loss_text(loss: float | None) -> str:
    """Four decimals; a dash where there is no number."""
    return "-" if loss is None or math.isnan(loss) else f"{loss:.4f}"


def perplexity_text(loss: float | None) -> str:
    """exp(loss) with one decimal; a dash where there is no number."""
    if loss is None or math.isnan(loss):
        return "-"
    if loss > 700:  # beyond what a float holds
        return "inf"
    perplexity = math.exp(loss)
    return f"{perplexity:.1f}" if perplexity < 1e6 else f"{perplexity:.1e}"


def start_fields(header: RunHeader) -> list[str]:
    """What is trained, on how much."""
    validation = f", {header.validation_rows:,} for validation" if header.validation_rows else ""
    length = f"up to {header.total_steps:,} steps" if header.total_steps else "until stopped"
    begun = f" (going on after step {header.start_step:,})" if header.start_step else ""
    return [
        f"Training {header.model}",
        f"{header.method}, {header.mode}",
        f"{header.rows:,} examples{validation}",
        f"{length}{begun}",
    ]


def evaluation_fields(header: RunHeader, evaluation: Evaluation, state: RunState, best: bool) -> list[str]:
    """One measurement; without a validation set the training loss takes its place."""
    if evaluation.step == 0:
        name = "Evaluation #0 (before training)"
    else:
        name = f"Evaluation #{sum(past.step > 0 for past in state.history)}"
    fields = [name, f"Time: {clock(evaluation.seconds)}", f"Train Loss: {loss_text(evaluation.train_loss)}"]
    watched = evaluation.validation_loss if header.validation_rows else evaluation.train_loss
    if header.validation_rows:
        fields.append(f"Val Loss: {loss_text(watched)}")
    if header.perplexity:
        fields.append(f"Perplexity: {perplexity_text(watched)}")
    fields.append(f"Best {_watched(header)}: {loss_text(state.best_loss)}")
    if header.patience:
        fields.append(f"Patience: {state.evaluations_without_improvement}/{header.patience}")
    return [*fields, "New best"] if best else fields


def end_fields(header: RunHeader, state: RunState, result: Result | None) -> list[str]:
    """How the run ended and what it reached."""
    reason = result.stop_reason if result else state.stop_reason
    if result:
        spent = f" in {clock(state.history[-1].seconds)}" if state.history else ""
        fields = [f"Trained {result.steps:,} steps{spent}"]
    else:
        fields = [f"Training was cut short at step {state.step:,}"]
    if reason:
        fields.append(f"Ended: {reason}")
    if state.best_loss is not None:
        fields.append(f"Best {_watched(header)}: {loss_text(state.best_loss)} at step {state.best_step:,}")
    if state.base_loss is not None:
        fields.append(f"Base model: {loss_text(state.base_loss)}")
    if result and not result.improved:
        fields.append("no better than the base model")
    return fields


def fold(fields: Iterable[str], width: int) -> list[str]:
    """The fields joined to as few rows as fit; rows break between fields and go on indented."""
    rows: list[str] = []
    for field in fields:
        joined = f"{rows[-1]}{SEPARATOR}{field}" if rows else field
        # two cells are kept for the bar that a folded row ends in
        if not rows or len(joined) + 2 <= width:
            rows[-1:] = [joined]
        else:
            rows[-1] += SEPARATOR.rstrip()
            rows.append(f"  {field}")
    return rows


def append_whole(path: Path, data: bytes) -> None:
    """Append all of `data` or, when the disk refuses, nothing: a reader never finds half a record."""
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except OSError:
            with contextlib.suppress(OSError):  # why the write failed is what matters
                file.truncate(size)
            raise


def _watched(header: RunHeader) -> str:
    return "Val" if header.validation_rows else "Train"
