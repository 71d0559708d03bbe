"""The words that a run is reported in, shared by the terminal and the log, and how they wrap."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path

from rich.cells import cell_len

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState
from llm_installer.core.text import clock, counted, loss_text

SEPARATOR = " | "
INDENT = "  "
NOT_BETTER = "Not better than the base model"
"""The best weights are kept all the same: a later evaluation is compared with them."""


def perplexity_text(loss: float | None) -> str:
    """exp(loss) with one decimal, as evaluation lines have it; a dash where there is no number."""
    if loss is None or math.isnan(loss):
        return "-"
    if loss > 700:  # beyond what a float holds
        return "inf"
    perplexity = math.exp(loss)
    return f"{perplexity:.1f}" if perplexity < 1e6 else f"{perplexity:.1e}"


def start_fields(header: RunHeader) -> list[str]:
    """What is trained, on how much."""
    validation = f", {counted(header.validation_rows, 'validation row')}" if header.validation_rows else ""
    length = f"up to {counted(header.total_steps, 'step')}" if header.total_steps else "until stopped"
    resumed = f" (resumed after step {header.start_step:,})" if header.start_step else ""
    return [
        f"Training {header.model}",
        f"{header.method}, {header.mode}",
        f"{counted(header.rows, 'training row')}{validation}",
        f"{length}{resumed}",
    ]


def evaluation_fields(header: RunHeader, evaluation: Evaluation, state: RunState, best: bool) -> list[str]:
    """One evaluation; where there is no validation set, the training loss is monitored."""
    if evaluation.step == 0:
        name = "Evaluation #0 (before training)"
    else:
        name = f"Evaluation #{sum(past.step > 0 for past in state.history)}"
    fields = [name, f"Time: {clock(evaluation.seconds)}", f"Train Loss: {loss_text(evaluation.train_loss)}"]
    monitored = evaluation.validation_loss if header.validation_rows else evaluation.train_loss
    if header.validation_rows:
        fields.append(f"Val Loss: {loss_text(monitored)}")
    if header.perplexity:
        fields.append(f"Perplexity: {perplexity_text(monitored)}")
    fields.append(f"Best {_monitored(header, state)}: {loss_text(state.best_loss)}")
    if header.patience:
        within = f", within the noise of {evaluation.noise:.2g}" if state.uncertain else ""
        fields.append(f"Patience: {state.evaluations_without_improvement:g}/{header.patience}{within}")
    if state.best_loss is not None and not state.improved:
        return [*fields, NOT_BETTER]
    return [*fields, "New best"] if best else fields


def end_fields(header: RunHeader, state: RunState, result: Result | None, reason: bool = True) -> list[str]:
    """How the run ended, with the `reason` where that is wanted, and what it reached."""
    why = result.stop_reason if result else state.stop_reason
    if result:
        spent = f" in {clock(state.history[-1].seconds)}" if state.history else ""
        fields = [f"Trained {counted(result.steps, 'step')}{spent}"]
    else:
        fields = [f"Training ended early, at step {state.step:,}"]
    if reason and why:
        fields.append(f"{'Ended' if result else 'Reason'}: {why}")
    if state.best_loss is not None:
        fields.append(f"Best {_monitored(header, state)}: {loss_text(state.best_loss)} at step {state.best_step:,}")
    if state.base_loss is not None:
        fields.append(f"Base model: {loss_text(state.base_loss)}")
    if result and not result.improved:
        fields.append(NOT_BETTER)
    return fields


def fold(fields: Iterable[str], width: int) -> list[str]:
    """The fields joined to as few rows of `width` cells as they need.

    Rows break between fields, within a field that is wider than a row between words, and continue indented.
    """
    rows: list[str] = []
    for field in fields:
        joined = f"{rows[-1]}{SEPARATOR}{field}" if rows else field
        room = width - 2  # for the bar at the end of a row that continues
        if rows and cell_len(joined) <= room:
            rows[-1] = joined
        else:
            rows[-1:] = [f"{row}{SEPARATOR.rstrip()}" for row in rows[-1:]]
            rows += wrap(f"{INDENT}{field}" if rows else field, room)
    return rows


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text in `width` cells: broken between words only, and continued indented.

    A word that is wider, such as a path, gets a line of its own, which the terminal breaks so that it can be copied.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if cell_len(paragraph) <= width:
            lines.append(paragraph)
            continue
        indent = paragraph[: len(paragraph) - len(paragraph.lstrip())]
        line = ""
        for word in paragraph.split():
            if line and cell_len(line) + 1 + cell_len(word) > width:
                lines.append(line)
                line = f"{indent or INDENT}{word}"
            else:
                line = f"{line} {word}" if line else f"{indent}{word}"
        lines.append(line)
    return lines


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


def _monitored(header: RunHeader, state: RunState) -> str:
    return "Val" if header.validation_rows and not state.memorising else "Train"
