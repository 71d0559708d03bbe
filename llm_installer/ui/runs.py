"""How runs look: the list, one screen about the present one, two of them beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from llm_installer.core.hints import program, script
from llm_installer.core.run.progress import Progress
from llm_installer.core.text import clock, loss_text, short_path, shortened
from llm_installer.runs.compare import RunComparison
from llm_installer.runs.listing import Chosen, RunList, RunRow
from llm_installer.runs.status import Ended, RunStatus, Saved
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import Cell, Columns, facts

STYLES = {"running": "cyan", "interrupted": "yellow", "failed": "red", "stopped": "", "finished": ""}
HEAD = ("", "run (date-time-mode)", "status", "steps", "loss", "data")
NOTHING = "(nothing)"


@drawing.register
def runs(shown: RunList) -> Iterator[RenderableType]:
    """One line a run, the one that `lora` names marked; an id says date and mode."""
    if not shown.rows:
        yield Text(f"There are no runs yet; start one with: {script(shown.folder.root)} --data my.json")
        return
    rows = [
        (
            "*" if row.current else "",
            row.run.id,
            Text(row.status, style=STYLES.get(row.status, "")),
            f"{row.steps:,}",
            _change(row),
            ", ".join(Path(part).name for part in row.data.split(",")),
        )
        for row in shown.rows
    ]
    yield Columns(rows, head=HEAD, indent=0, right=frozenset({3}), below=1)
    yield Text()
    yield Text(_about_lora(shown))


@drawing.register
def run_status(found: RunStatus) -> Iterator[RenderableType]:
    """One screen: the present training, or how the last one ended."""
    model, row, seen, training = found.folder.root.name, found.row, found.progress, found.training
    if training and row is None:
        yield Text(f"{model} is about to be trained by {training}; it is reading its data or loading the model.")
        return
    if row is None:
        yield Text(f"{model} has not been trained yet.")
        return
    lines: list[tuple[str, Cell]] = []
    if training:
        yield Text(f"{model} is being trained by process {training.pid}.")
        resumed = training.started > row.started
        lines.append(("run", f"{_began(row)}{f', resumed {_time(training.started)}' if resumed else ''}"))
    else:
        yield Text(f"{model} is not being trained. Its last run:")
        lines.append(("run", _began(row)))
        lines += [("ended", row.stop_reason)] if row.stop_reason else []
    lines.append(("data", row.data))
    if seen:
        lines += _progress(seen, training=training is not None, age=found.at - seen.updated)
    if row.status in ("interrupted", "stopped", "failed"):
        lines.append(("resume", f"{script(found.folder.root)} --resume"))
    yield facts(*lines)


@drawing.register
def saved(found: Saved) -> Iterator[RenderableType]:
    """The path alone and whole, for scripts."""
    yield Text(str(found.checkpoint))


@drawing.register
def ended(found: Ended) -> Iterator[RenderableType]:
    """How it ended, where its adapter is, and how to resume it."""
    row = found.row
    yield Text(f"Run {row.run.id} ended after step {row.steps:,}: {row.stop_reason}.")
    if row.best_loss is not None and row.base_loss is not None:
        yield Text(f"Loss {_change(row)}, the best at step {row.best_step:,}.")
    yield Text(f"Adapter: {short_path(row.adapter)}" + ("" if row.current else " (./lora is not this one)"))
    if row.status == "stopped":
        yield Text(f"Resume it: {script(found.folder.root)} --resume")


@drawing.register
def chosen(found: Chosen) -> Iterator[RenderableType]:
    """What `lora` names from now on."""
    lora, row = short_path(found.folder.lora), found.row
    if row is None:
        yield Text(f"{lora} is gone: start.sh now answers with the base model alone.")
    else:
        yield Text(f"{lora} is now run {row.run.id} ({row.mode}, loss {_change(row)}).")


class Differences:
    """What two runs have, in a column each; where both have no place beside each other, below, each with its run."""

    def __init__(self, ids: tuple[str, str], rows: Sequence[tuple[str, str, str]]) -> None:
        self._ids, self._rows = ids, rows

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        beside = Columns(self._rows, head=("", *self._ids), styles=("bold",))
        if beside.fits(console, options):
            yield beside
            return
        one, other = short_ids(*self._ids)
        rows = [row for name, *both in self._rows for row in ((name, one, both[0]), ("", other, both[1]))]
        yield Columns(rows, styles=("bold", "dim"), below=0)


def short_ids(one: str, other: str) -> tuple[str, str]:
    """The ends of two ids that say which is which, and that commands understand: 090000-fast and 100000-medium."""
    first, second = one.split("-"), other.split("-")
    for parts in range(2, max(len(first), len(second))):
        short = ("-".join(first[-parts:]), "-".join(second[-parts:]))
        if short[0] != short[1]:
            return short
    return one, other


@drawing.register
def comparison(found: RunComparison) -> Iterator[RenderableType]:
    """Settings and losses of two runs in two columns, then their answers."""
    one, other = found.one, found.other
    rows = [(each.name.replace("_", " "), each.one, each.other) for each in found.differences]
    rows += [
        ("status", one.status, other.status),
        ("steps", f"{one.steps:,}", f"{other.steps:,}"),
        ("base loss", loss_text(one.base_loss), loss_text(other.base_loss)),
        ("best loss", loss_text(one.best_loss), loss_text(other.best_loss)),
        ("ended", one.stop_reason, other.stop_reason),
    ]
    yield Differences((one.run.id, other.run.id), rows)
    yield Text()
    if not found.differences:
        yield Text("  They have the same settings.")
    if not found.comparable:
        yield Text("  Their losses are of different rows, so they do not tell which run is better.")
    if not found.answers:
        return
    yield Text()
    yield Text(f"Answers ({found.source})", style="bold")
    for pair in found.answers:
        said = [(one.run.id, pair.one), (other.run.id, pair.other)]
        lines: list[tuple[str, Cell]] = [("prompt", shortened(pair.prompt))]
        lines += [("expected", shortened(pair.expected))] if pair.expected else []
        yield facts(*lines, *((name, shortened(text) or NOTHING) for name, text in said))
        yield Text()


def _began(row: RunRow) -> str:
    return f"{row.run.id}, {row.status}, started {_time(row.started)}"


def _time(iso: str) -> str:
    return iso.replace("T", " ")


def _progress(seen: Progress, training: bool, age: float) -> Iterator[tuple[str, Cell]]:
    total = f"/{seen.total_steps:,} ({100 * seen.step // seen.total_steps}%)" if seen.total_steps else ", no end"
    epochs = f" of {seen.epochs:g}" if seen.epochs else ""
    yield "step", f"{seen.step:,}{total}, epoch {seen.epoch:.2f}{epochs}"
    validation = f", validation {loss_text(seen.validation_loss)}" if seen.validation_loss is not None else ""
    evaluated = f"; train {loss_text(seen.train_loss)}{validation} at step {seen.measured_at:,}"
    yield "loss", f"{loss_text(seen.loss)} in the last step{evaluated if seen.train_loss is not None else ''}"
    if seen.best_loss is not None:
        yield "best", f"{loss_text(seen.best_loss)} at step {seen.best_step:,} (base {loss_text(seen.base_loss)})"
    if seen.checkpoint:
        yield "checkpoint", seen.checkpoint
    if not training:
        return
    if not seen.training:
        yield "now", "the last step is done; the adapter is being published and compared"
    elif seen.tokens_per_second is not None:
        left = f", {clock(seen.remaining)} left" if seen.remaining is not None else ""
        yield "speed", f"{seen.tokens_per_second:,.0f} tokens/s, {clock(seen.elapsed)} so far{left}"
    yield "updated", f"{max(0.0, age):.1f} s ago"


def _change(row: RunRow) -> str:
    if row.base_loss is None and row.best_loss is None:
        return "-"
    return f"{loss_text(row.base_loss)} -> {loss_text(row.best_loss)}"


def _about_lora(shown: RunList) -> str:
    use = f"{program()} adapters {shown.folder.typed} use RUN"
    if any(row.current for row in shown.rows):
        return f"* is what ./lora names; choose another with: {use}"
    if shown.folder.lora.exists():
        return f"./lora is none of these but {short_path(shown.folder.lora.resolve())}"
    if not any(row.usable for row in shown.rows):
        return "There is no ./lora until a run is finished"
    return f"There is no ./lora; choose one with: {use}"
