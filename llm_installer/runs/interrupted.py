"""A run that a signal interrupted: the error that says so, and the report that it leaves in its folder.

Nothing is evaluated for it: whoever sends a signal wants the end. It is written last, when all that counts is on disk.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llm_installer.core.errors import Interrupted, StoppedAtOnce
from llm_installer.core.files import write_text
from llm_installer.core.hints import quoted, script
from llm_installer.core.markdown import document, plain
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import newest_step
from llm_installer.core.state import RunState
from llm_installer.core.text import short_path
from llm_installer.runs.job import Job
from llm_installer.runs.report import adjustments_part, plan_part
from llm_installer.runs.uncompared import losses_part


def interrupted(number: int, job: Job, run: Run, state: RunState, adapter: Path | None) -> Interrupted:
    """The error to raise when all is saved; report.md is written before. `adapter`: the best so far, if any."""
    name = signal.Signals(number).name
    text = render(job, run, state, name, adapter)
    with suppress(OSError):  # a full disk must not hide why the run ended
        write_text(run.report, text)
    return Interrupted(
        f"Interrupted by {name} at step {state.step}; {kept(job.folder, adapter, ', ')}; "
        f"resume with: {script(job.folder.root)} --resume",
        number,
    )


@contextmanager
def told_what_is_kept(folder: ModelDir, run: Run) -> Iterator[None]:
    """What a second signal ends in here says what is kept of the run; nothing is read for it that takes time."""
    try:
        yield
    except StoppedAtOnce as asked:
        step = newest_step(run)
        kept = "there is no checkpoint yet" if step is None else f"the newest checkpoint is of step {step:,}"
        how = "begin again" if step is None else "resume"
        raise Interrupted(
            f"Stopped at once, as asked twice; ./lora is as it was, {kept}; {how} with: {script(folder.root)} --resume",
            asked.number,
        ) from None


def render(job: Job, run: Run, state: RunState, by: str, adapter: Path | None) -> str:
    """report.md of a run that the signal `by` ended: where it stood, and the command that resumes it."""
    plan = job.plan
    of = f" of {plan.course.total_steps:,}" if plan.course.total_steps else ""
    data = plain(str(job.options.sources))
    return document(
        [
            [f"# {plain(job.info.name)}: run {plain(run.id)}"],
            [f"Training on {data} was interrupted by {by} at step {state.step:,}{of}. Nothing is lost; resume with:"],
            [f"    {quoted(str(job.folder.root / 'train.sh'))} --resume"],
            [f"{kept(job.folder, adapter, '; ')}."],
            [f"![Loss over the run]({run.history_png.name})"] if run.history_png.exists() else [],
            losses_part("Loss so far", state),
            plan_part(plan),
            adjustments_part(state.adjustments),
        ]
    )


def kept(folder: ModelDir, adapter: Path | None, between: str) -> str:
    """What ./lora is, and where the best adapter so far is; a run that is resumed may be what ./lora names."""
    if adapter is None:
        return f"./lora is as it was{between}the adapter was not evaluated yet"
    if folder.lora.is_symlink() and folder.lora.resolve() == adapter.resolve():
        return "./lora names this run, and holds its best adapter so far"
    shown = short_path(adapter) if between == ", " else adapter
    return f"./lora is as it was{between}the best adapter so far is {shown}"
