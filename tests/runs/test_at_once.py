"""What a second Ctrl-C says: what is kept, as far as the names of folders tell, and how to go on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from llm_installer.core.errors import Interrupted
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.checkpoints import STATE_FILE
from llm_installer.core.run.record import RUNNING, STOPPED, RunRecord
from llm_installer.core.run.signals import stop_requests
from llm_installer.runs.interrupted import told_what_is_kept
from llm_installer.runs.job import recorded
from tests.made_runs import make_run


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((), "there is no checkpoint yet; begin again with"),
        ((8, 1200, 16), "the newest checkpoint is of step 1,200; resume with"),
    ],
)
def test_a_second_signal_says_what_is_kept(installed: Path, steps: tuple[int, ...], says: str) -> None:
    folder = ModelDir(installed)
    run = make_run(folder, "20261120-090000-fast", 1e-3, RUNNING)
    for step in steps:
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (run.checkpoints / f"checkpoint-{step}" / STATE_FILE).write_text("{}")
    with (
        pytest.raises(Interrupted) as ended,
        told_what_is_kept(folder, run),
        stop_requests() as late,
        recorded(run),
        stop_requests() as requests,
    ):
        requests.take(late.number)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert ended.value.said == (
        f"Stopped at once, as asked twice; ./lora is as it was, {says}: {script(folder.root)} --resume"
    )
    record = RunRecord.read(run)
    assert record and (ended.value.exit_code, record.status) == (130, STOPPED)
