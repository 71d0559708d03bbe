"""How runs begin without a run to resume, how they are stopped at odd times, and what ./lora is afterwards."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_installer import lora_sft
from llm_installer.core.errors import Interrupted, TrainingError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import holder
from llm_installer.core.voice import Silence
from llm_installer.planning.options import Options
from llm_installer.runs.listing import list_runs
from llm_installer.train_lora import run
from tests.commands import command
from tests.tiers import first_here

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
QUIET = {"tensorboard": False, "seed": 1}
HOLD = """
import sys, time
from pathlib import Path
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import only_training
folder = ModelDir(Path(sys.argv[1]))
with only_training(folder) as tell:
    if len(sys.argv) > 2:
        run = Run(folder.runs / sys.argv[2])
        run.root.mkdir(parents=True)
        tell(run)
    print("holding", flush=True)
    time.sleep(600)
"""


@contextmanager
def suspended(folder: Path, *run_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a model directory, and was stopped by Ctrl-Z."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, *run_id], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stdout.readline() == "holding\n"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("asked", "run_id"), [("--stop-now", ("20260101-000000-medium",)), ("--save-now", ())])
def test_a_suspended_training_is_named_and_not_waited_for(installed: Path, asked: str, run_id: tuple[str, ...]) -> None:
    with suspended(installed, *run_id) as process:
        said = command("train", "--model-path", installed, asked)
        assert said.returncode == 1
        assert "is suspended" in said.stderr and f"kill -CONT {process.pid}" in said.stderr
        assert holder(ModelDir(installed))


def test_a_job_that_is_queued_again_begins_where_there_is_nothing_to_resume(
    installed: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"data_path": write_rows(20), "epochs": 1, "skip_test": True, "resume": True, **QUIET}
    first = lora_sft(installed, **given)
    assert "There is no run to resume in" in (said := capsys.readouterr().out) and "so a new one begins" in said
    assert first.steps > 0
    with pytest.raises(TrainingError, match=f"no unfinished run in .*; run {first.run.name} of this data is finished"):
        lora_sft(installed, **given)
    with pytest.raises(TrainingError, match="begin one with data_path"):
        lora_sft(installed, resume=True)
    lora_sft(installed, **{**given, "data_path": write_rows(24, "other.jsonl")})
    assert len(list_runs(ModelDir(installed))) == 2


class Impatient(Silence):
    """Asks for the end by a signal while base and tuned model are compared, once `ready` says so."""

    def __init__(self, ready: Callable[[], bool], number: int) -> None:
        self._ready, self._number = ready, number

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        if not what.startswith("Evaluating"):
            yield
            return
        ended = threading.Event()

        def ask() -> None:
            while not self._ready() and not ended.is_set():
                time.sleep(0.001)
            if not ended.is_set():
                os.kill(os.getpid(), self._number)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            yield
        finally:
            ended.set()
            asking.join()


@pytest.mark.parametrize(("after_switch", "number"), first_here([(False, signal.SIGINT), (True, signal.SIGTERM)]))
def test_a_signal_during_before_and_after_ends_only_that(
    installed: Path, write_rows: Callable[..., Path], after_switch: bool, number: int
) -> None:
    folder = ModelDir(installed)
    options = Options(
        model_path=str(installed), data=str(write_rows(40)), epochs=1, tensorboard=False, test_prompt="What else? " * 3
    )
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="the run itself is finished") as stopped:
        run(options, Impatient(folder.lora.exists if after_switch else lambda: True, number))
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    (row,) = list_runs(folder)
    assert row.status == "finished" and row.current
    report = row.run.report.read_text()
    assert "./lora is now the adapter of this run" in report and "## Plan" in report
    assert ("## Before and after" in report) is after_switch
    assert (f"Nothing was compared: {signal.Signals(number).name} came before that." in report) is not after_switch
    assert "Answers side by side" not in report


class CtrlC:
    """A callback that presses Ctrl-C after the first step."""

    def on_step_end(self, *told: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_before_the_first_evaluation_stops_the_run_and_it_can_be_resumed(
    installed: Path, write_rows: Callable[..., Path]
) -> None:
    data = write_rows(40)
    with pytest.raises(Interrupted, match="the adapter was not evaluated yet"):
        lora_sft(installed, data, epochs=3, callbacks=[CtrlC()], skip_test=True, **QUIET)
    (row,) = list_runs(ModelDir(installed))
    assert row.status == "stopped"
    assert lora_sft(installed, resume=True, skip_test=True).run == row.run.root


class TooLate:
    """A callback that presses Ctrl-C once the adapter is written."""

    def on_train_end(self, *told: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_after_the_last_step_finds_the_run_finished(installed: Path, write_rows: Callable[..., Path]) -> None:
    """It was called interrupted, with a command to resume what was recorded as finished."""
    with pytest.raises(Interrupted, match="the run itself is finished") as late:
        lora_sft(installed, write_rows(40), epochs=2, callbacks=[TooLate()], skip_test=True, **QUIET)
    assert late.value.exit_code == 130
    (row,) = list_runs(ModelDir(installed))
    assert row.status == "finished" and row.current


@pytest.mark.slow
def test_what_lora_was_is_said_with_the_way_back(
    installed: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, data = ModelDir(installed), write_rows(40)
    good = lora_sft(installed, data, epochs=8, learning_rate=5e-3, skip_test=True, **QUIET)
    assert "Before, it was" not in capsys.readouterr().out
    bad = lora_sft(installed, data, epochs=1, learning_rate=1e-4, skip_test=True, **QUIET)
    assert good.best_loss and bad.best_loss and good.best_loss < bad.best_loss - 0.5
    for said in (capsys.readouterr().out, Run(bad.run).report.read_text()):
        assert "./lora is now the adapter of this run" in said
        assert f"Before, it was run {good.run.name} (loss {good.base_loss:.4f} -> {good.best_loss:.4f}" in said
        assert f"lower than this run's {bad.best_loss:.4f} on the same rows" in said
        (back,) = re.findall("go back with: llm-installer (.*?use [0-9a-z-]+)", said)
    assert folder.lora.resolve() == Run(bad.run).adapter.resolve()
    assert command(*shlex.split(back)).returncode == 0
    assert folder.lora.resolve() == Run(good.run).adapter.resolve()


def test_a_trial_on_two_rows_is_used_only_when_asked_for(
    installed: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ModelDir(installed)
    tried = lora_sft(installed, write_rows(2), epochs=1, skip_test=True, **QUIET)
    said = capsys.readouterr().out
    assert tried.improved and not folder.lora.exists()
    assert re.search(
        r"\./lora is as it was, for [12] steps? on [12] rows? can hardly have taught the model anything\.", said
    )
    assert re.search("Talk to it: .*start.sh.* --lora .*adapter", said)
    (use,) = re.findall("Use this adapter anyway with: llm-installer (.*)", said)
    assert command(*shlex.split(use)).returncode == 0
    assert folder.lora.resolve() == Run(tried.run).adapter.resolve()


def test_a_run_that_forgot_its_language_is_used_only_when_asked_for(
    llm_home: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from llm_installer.install.installer import install

    folder = install("tiny", say=lambda text: None)
    given = {"epochs": 4, "force_epochs": True, "learning_rate": 0.2, "skip_test": True}
    ran = lora_sft(folder.root, write_rows(40), **given, **QUIET)
    said = capsys.readouterr().out
    assert ran.improved and not folder.lora.exists(), said
    assert "./lora is as it was, for the model forgot its language in this run: the loss on general" in said
    assert json.loads(Run(ran.run).record.read_text())["status"] == "finished"


def test_a_folder_of_the_users_own_is_left_alone(installed: Path, write_rows: Callable[..., Path]) -> None:
    own = ModelDir(installed).lora
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    ran = lora_sft(installed, write_rows(40), epochs=1, skip_test=True, **QUIET)
    assert (own / "notes.txt").read_text() == "mine"
    assert "./lora is a folder of your own, so it is as it was" in Run(ran.run).report.read_text()
