"""A run that went on after it had ended once: all lists show where it is now, and no earlier end."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from llm_installer.core.files import write_json
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import holder, only_training
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import FAILED, RUNNING, STOPPED, RunRecord
from llm_installer.runs.compare import RunComparison
from llm_installer.runs.listing import INTERRUPTED, RunList, list_runs
from llm_installer.runs.status import status_of
from llm_installer.ui.console import Console
from tests.made_runs import make_run

ENDED = "you asked it to stop with --stop-now"
NAME = "20261120-090000-fast"
END = {"steps": 17, "base_loss": 10.15, "best_loss": 6.82, "best_step": 16, "stop_reason": ENDED}


def shown(value: object) -> str:
    file = io.StringIO()
    Console(rich=RichConsole(file=file, width=200, force_terminal=False)).show(value)
    return re.sub(r" +", " ", file.getvalue())


def progress(step: int, best: float | None, best_step: int) -> Progress:
    base = None if best is None else 10.15
    losses = (6.6, step, 6.5, 6.7, base, best, best_step)
    return Progress(NAME, step, 64, 1.0, 4.0, *losses, 90.0, 12.0, 3.0, "checkpoint-20", False, 0.0)


def ended_at_17(installed: Path) -> tuple[ModelDir, Run]:
    folder = ModelDir(installed)
    run = make_run(folder, NAME, 1e-3)
    about = json.loads((run.adapter / "adapter_info.json").read_text())
    write_json(run.adapter / "adapter_info.json", about | END)
    record(run, STOPPED, END)
    progress(17, 6.82, 16).write(run)
    return folder, run


def record(run: Run, status: str, result: dict[str, object]) -> None:
    found = RunRecord.read(run)
    assert found
    dataclasses.replace(found, status=status, result=result).write(run)


@pytest.mark.parametrize(
    ("status", "said"),
    [(RUNNING, INTERRUPTED), (STOPPED, STOPPED), (FAILED, FAILED)],
    ids=["killed", "twice", "failed"],
)
def test_what_was_reached_since_counts_everywhere(installed: Path, status: str, said: str) -> None:
    folder, run = ended_at_17(installed)
    (row,) = list_runs(folder)
    assert (row.status, row.steps, row.best_loss, row.stop_reason) == (STOPPED, 17, 6.82, ENDED)
    record(run, status, {})
    progress(20, 6.696, 20).write(run)
    (row,) = list_runs(folder)
    assert (row.status, row.steps, row.best_loss, row.best_step, row.stop_reason) == (said, 20, 6.696, 20, "")
    assert f"{said} 20 10.1500 -> 6.6960" in shown(RunList(folder, [row]))
    status_text, compared = shown(status_of(folder)), shown(RunComparison(row, row, [], True, ""))
    assert "step 20/64" in status_text and "6.6960 at step 20" in status_text
    assert not [text for text in (status_text, compared) if ENDED in text]


def test_while_it_goes_on_there_is_no_end_and_one_time(installed: Path) -> None:
    folder, run = ended_at_17(installed)
    with only_training(folder) as tell:
        tell(run)
        (row,) = list_runs(folder)
        assert (row.status, row.stop_reason) == (RUNNING, ""), "its record still has the first end for a moment"
        record(run, RUNNING, {})
        text = shown(status_of(folder))
    assert f"run {NAME}, running, started 2026-11-20 09:00:00, resumed 20" in text
    assert ENDED not in text


def test_without_a_status_file_the_adapter_tells_the_losses_but_no_end(installed: Path) -> None:
    folder, run = ended_at_17(installed)
    record(run, STOPPED, {})
    run.progress.unlink()
    (row,) = list_runs(folder)
    assert (row.steps, row.best_loss, row.stop_reason) == (17, 6.82, "")
    progress(18, None, 0).write(run)
    (row,) = list_runs(folder)
    assert (row.steps, row.best_loss, row.best_step) == (18, 6.82, 16)


def test_a_new_run_and_its_process_have_one_time(installed: Path) -> None:
    folder = ModelDir(installed)
    run = make_run(folder, NAME, 1e-3, RUNNING)
    found = RunRecord.read(run)
    assert found
    dataclasses.replace(found, started="2099-01-01T06:52:35").write(run)
    with only_training(folder) as tell:
        tell(run)
        who, text = holder(folder), shown(status_of(folder))
    assert who and "since 2099-01-01 06:52:35" in str(who)
    assert f"run {NAME}, running, started 2099-01-01 06:52:35\n" in text
    assert "There is no ./lora until a run is finished" in shown(RunList(folder, list_runs(folder)))
