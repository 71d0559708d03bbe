"""What ./lora is after a run, and what it was before: switched by itself, or left as it was with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_installer.core.changes import Changes
from llm_installer.core.hints import program
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Result
from llm_installer.core.text import loss_text, short_path
from llm_installer.planning.modes import MODES
from llm_installer.planning.switching import Ended, why_not
from llm_installer.runs.compare import same_rows
from llm_installer.runs.curves import make_current
from llm_installer.runs.job import Job
from llm_installer.runs.listing import RunRow, list_runs


@dataclass(frozen=True)
class Lora:
    """What became of ./lora."""

    switched: bool
    """Whether it is now this run's adapter."""
    said: tuple[str, ...]
    """What it is, what it was, and how to change that, as sentences."""


def settle(job: Job, result: Result, changes: Changes | None) -> Lora:
    """Switch ./lora to the adapter of a run that ended, where nothing speaks against it.

    `changes` is what was evaluated then; None where that was nothing.
    """
    folder, run = job.folder, Run(result.run)
    ended = Ended(result.improved, job.prepared.facts.rows, result.best_step, None)
    if changes:
        learned = None if MODES[job.plan.mode].memorises else changes.learned()
        ended = replace(ended, general=changes.general.change, own=changes.own, learned=learned)
    if job.options.output:
        return Lora(
            False, (f"./lora is as it was; this adapter, from step {result.best_step:,}, is {result.adapter}.",)
        )
    if not result.improved:
        said = f"No evaluation beat the base model, so ./lora is as it was; this adapter is {result.adapter}."
        return Lora(False, (said,))
    if folder.lora.exists() and not folder.lora.is_symlink():
        said = f"./lora is a folder of your own, so it is as it was; this adapter is {result.adapter}."
        return Lora(False, (said,))
    if reason := why_not(ended):
        return Lora(False, (f"./lora is as it was, for {reason}.", f"Use this adapter anyway with: {use(folder, run)}"))
    before = _before(folder, run, result)
    make_current(folder, run)
    return Lora(True, (f"./lora is now the adapter of this run, from step {result.best_step:,}, its best.", *before))


def use(folder: ModelDir, run: Run) -> str:
    """The command that makes a run the current one."""
    return f"{program()} adapters {folder.typed} use {run.id}"


def _before(folder: ModelDir, run: Run, result: Result) -> tuple[str, ...]:
    """What ./lora was until now; nothing where it was not there, or was this very run."""
    if not folder.lora.exists():
        return ()
    row = next((row for row in list_runs(folder) if row.current), None)
    if row is None:
        return (f"Before, it was {short_path(folder.lora.resolve())}.",)
    if row.run.id == run.id:
        return ()
    return (f"Before, it was run {row.run.id} ({_losses(row, result)}); go back with: {use(folder, row.run)}",)


def _losses(row: RunRow, result: Result) -> str:
    known = f"loss {loss_text(row.base_loss)} -> {loss_text(row.best_loss)}"
    if row.best_loss is None or result.best_loss is None or not same_rows(row.run, Run(result.run)):
        return known
    if row.best_loss < result.best_loss:
        return f"{known}, lower than this run's {loss_text(result.best_loss)} on the same rows"
    return known
