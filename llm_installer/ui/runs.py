"""What people see of runs: the list, one screen about the present one, two of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llm_installer.core.paths import ModelDir, models_dir
from llm_installer.training.reporters.lines import clock, loss_text
from llm_installer.ui.console import Console

if TYPE_CHECKING:
    from llm_installer.core.run.progress import Progress
    from llm_installer.runs.compare import Difference, SideBySide
    from llm_installer.runs.listing import RunRow
    from llm_installer.runs.status import Standing

STYLES = {"running": "cyan", "interrupted": "yellow", "failed": "red", "stopped": "", "finished": ""}
RUN_HEAD = "run (date-time-mode)"


def show_runs(console: Console, folder: ModelDir, rows: Sequence[RunRow]) -> None:
    """The runs of a model directory, oldest first, the one that `lora` names marked; an id says date and mode."""
    if not rows:
        console.line(f"There is no run yet; begin one with: {folder.root}/train.sh --data my.json")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("", RUN_HEAD, "status", "steps", "loss", "data"):
        table.add_column(name, overflow="fold", no_wrap=name != "data")
    for row in rows:
        table.add_row(
            "*" if row.current else "",
            row.run.id,
            Text(row.status, style=STYLES.get(row.status, "")),
            f"{row.steps:,}",
            _change(row),
            Text(", ".join(Path(part).name for part in row.data.split(","))),
        )
    console.rich.print(table)
    console.line()
    console.line(_about_lora(folder, rows))


def show_standing(console: Console, found: Standing, now: float) -> None:
    """One screen: the present training, or how the last one ended."""
    row, seen, training = found.row, found.progress, found.training
    if training and row is None:
        console.line(f"{found.model} is about to be trained by {training}: it reads its data or loads its model.")
        return
    if row is None:
        console.line(f"Nothing was trained in {found.model} yet.")
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    if training:
        console.line(f"{found.model} is being trained by process {training.pid}.")
        table.add_row("run", f"{row.run.id}, since {training.started.replace('T', ' ')}")
    else:
        console.line(f"Nothing is being trained in {found.model}. The last run:")
        table.add_row("run", f"{row.run.id}, {row.status}, begun {row.started.replace('T', ' ')}")
        if row.stop_reason:
            table.add_row("ended", Text(row.stop_reason))
    table.add_row("data", Text(row.data))
    if seen:
        _add_progress(table, seen, present=training is not None, age=now - seen.updated)
    if row.status in ("interrupted", "stopped", "failed"):
        table.add_row("go on", "./train.sh --resume")
    console.rich.print(Padding(table, (0, 0, 0, 1)))


def show_use(console: Console, folder: ModelDir, row: RunRow | None) -> None:
    """What `lora` names from now on."""
    if row is None:
        console.line(f"{folder.lora} is gone: start.sh answers with the base model alone.")
    else:
        console.line(f"{folder.lora} is run {row.run.id} ({row.mode}, loss {_change(row)}).")


def show_settings(console: Console, one: RunRow, other: RunRow, found: Sequence[Difference], comparable: bool) -> None:
    """The settings and losses of two runs in two columns."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", one.run.id, other.run.id):
        table.add_column(name, overflow="fold")
    for difference in found:
        table.add_row(difference.name, Text(difference.one), Text(difference.other))
    for name, values in {
        "status": (one.status, other.status),
        "steps": (f"{one.steps:,}", f"{other.steps:,}"),
        "base loss": (loss_text(one.base_loss), loss_text(other.base_loss)),
        "best loss": (loss_text(one.best_loss), loss_text(other.best_loss)),
        "ended": (one.stop_reason, other.stop_reason),
    }.items():
        table.add_row(name, *map(Text, values))
    console.rich.print(table)
    if not found:
        console.line("  They have the same settings.")
    if not comparable:
        console.line("  Their losses were measured on different rows, so they do not tell which is better.")


def show_answers(console: Console, one: RunRow, other: RunRow, source: str, found: Sequence[SideBySide]) -> None:
    """What both answer to the same prompts."""
    console.heading(f"Answers ({source})")
    for pair in found:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("prompt", Text(_flat(pair.prompt)))
        if pair.expected:
            table.add_row("expected", Text(_flat(pair.expected)))
        table.add_row(one.run.id, Text(_flat(pair.one) or "(nothing)"))
        table.add_row(other.run.id, Text(_flat(pair.other) or "(nothing)"))
        console.rich.print(Padding(table, (0, 0, 1, 1)))


def _add_progress(table: Table, seen: Progress, present: bool, age: float) -> None:
    total = f"/{seen.total_steps:,} ({100 * seen.step // seen.total_steps}%)" if seen.total_steps else ", no end"
    epochs = f" of {seen.epochs:g}" if seen.epochs else ""
    table.add_row("step", f"{seen.step:,}{total}, epoch {seen.epoch:.2f}{epochs}")
    held_out = f", validation {loss_text(seen.validation_loss)}" if seen.validation_loss is not None else ""
    measured = f"; train {loss_text(seen.train_loss)}{held_out} at step {seen.measured_at:,}"
    table.add_row("loss", f"{loss_text(seen.loss)} in the last step{measured if seen.train_loss is not None else ''}")
    if seen.best_loss is not None:
        table.add_row(
            "best", f"{loss_text(seen.best_loss)} at step {seen.best_step:,} (base {loss_text(seen.base_loss)})"
        )
    if seen.checkpoint:
        table.add_row("checkpoint", seen.checkpoint)
    if not present:
        return
    if not seen.training:
        table.add_row("now", "the last step is done; it is being published and compared")
    elif seen.tokens_per_second is not None:
        left = f", {clock(seen.remaining)} left" if seen.remaining is not None else ""
        table.add_row("speed", f"{seen.tokens_per_second:,.0f} tokens/s, {clock(seen.elapsed)} so far{left}")
    table.add_row("seen", f"{max(0.0, age):.1f} s ago")


def _change(row: RunRow) -> str:
    return f"{loss_text(row.base_loss)} -> {loss_text(row.best_loss)}"


def _about_lora(folder: ModelDir, rows: Sequence[RunRow]) -> str:
    use = f"llm-installer adapters {folder.root.name if folder.root.parent == models_dir() else folder.root} use"
    if any(row.current for row in rows):
        return f"* is what ./lora names; choose another with: {use} RUN"
    if folder.lora.exists():
        return f"./lora names none of these but {folder.lora.resolve()}"
    return f"There is no ./lora; choose one with: {use} RUN"


def _flat(text: str, limit: int = 300) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else words[: limit - 3] + "..."
