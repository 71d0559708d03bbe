"""A run that a signal broke off: the error that says so, and the report that it leaves in its folder.

Nothing is measured for it: whoever sends a signal wants the end. It is written last, when all that counts is on disk.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from llm_installer.core.errors import Interrupted
from llm_installer.core.paths import Run
from llm_installer.runs.report import render_broken_off

if TYPE_CHECKING:
    from llm_installer.core.state import RunState
    from llm_installer.runs.job import Job


def break_off(number: int, job: Job, run: Run, state: RunState, found: str) -> Interrupted:
    """The error to raise when all is saved; report.md is written before. `found` says what there is to use."""
    name = signal.Signals(number).name
    _leave_report(job, run, state, name, found)
    return Interrupted(
        f"Stopped by {name} at step {state.step}; ./lora is as it was, {found}; go on with --resume", number
    )


def _leave_report(job: Job, run: Run, state: RunState, by: str, found: str) -> None:
    """Write it by way of a rename. A disk that is full must not hide why the run ended."""
    text = render_broken_off(
        model=job.info.name,
        run=run.id,
        data=str(job.options.sources),
        plan=job.plan,
        state=state,
        by=by,
        found=f"./lora is as it was; {found}.",
        command=f"{job.folder.root}/train.sh --resume",
        picture=run.history_png.name if run.history_png.exists() else "",
    )
    fresh = run.report.with_name(f".{run.report.name}.new")
    with suppress(OSError):
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, run.report)
