"""The lock of a model directory: real locks, real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llm_installer.core.errors import TrainingError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import Holder, holder, only_training, refuse_while_training

HOLD = """
import sys
from pathlib import Path
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import only_training
folder = ModelDir(Path(sys.argv[1]))
with only_training(folder) as tell:
    tell(Run(folder.runs / "20261121-120000-fast"))
    print("held", flush=True)
    sys.stdin.read()
"""

WITH_CHILDREN = HOLD.replace(
    "    sys.stdin.read()",
    """
    import os, subprocess, time
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False).pid, flush=True)
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(60)
    sys.stdin.read()
""",
)


@pytest.fixture
def folder(tmp_path: Path) -> ModelDir:
    (tmp_path / "tiny" / "runs" / "20261121-120000-fast").mkdir(parents=True)
    return ModelDir(tmp_path / "tiny")


def holding(folder: ModelDir, program: str = HOLD) -> subprocess.Popen[str]:
    """A process that holds the lock until its input ends."""
    words = [sys.executable, "-c", program, str(folder.root)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def test_the_second_is_told_who_holds_it(folder: ModelDir) -> None:
    process = holding(folder)
    found = holder(folder)
    assert found and (found.pid, found.run) == (process.pid, "20261121-120000-fast") and found.started
    with pytest.raises(TrainingError) as error, only_training(folder):
        pytest.fail("two hold it")
    said = str(error.value)
    for part in ("tiny is already being trained", f"process {process.pid}", found.run, found.started[11:], "--status"):
        assert part in said
    assert "\n" not in said
    with pytest.raises(TrainingError, match=f"tiny cannot be removed: process {process.pid}"):
        refuse_while_training(folder, "cannot be removed")
    ended(process)
    assert holder(folder) is None
    refuse_while_training(folder, "cannot be removed")


def test_a_kill_frees_it(folder: ModelDir) -> None:
    process = holding(folder)
    os.kill(process.pid, signal.SIGKILL)
    ended(process)
    assert "20261121-120000-fast" in folder.lock.read_text(), "what the dead wrote is still there, and counts no more"
    assert holder(folder) is None
    with only_training(folder):
        assert holder(folder) == Holder(os.getpid(), "", getattr(holder(folder), "started", ""))


def test_children_do_not_keep_it(folder: ModelDir) -> None:
    """A fork and a program begun while it is held, such as TensorBoard, outlive the training without the lock."""
    process = holding(folder, WITH_CHILDREN)
    assert process.stdout
    children = [int(process.stdout.readline()) for _ in range(2)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    try:
        for child in children:
            os.kill(child, 0)
        assert holder(folder) is None
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        process.communicate()


def test_whoever_only_looks_is_in_nobodys_way(folder: ModelDir) -> None:
    stop, seen = threading.Event(), set[str]()

    def look() -> None:
        while not stop.is_set():
            if found := holder(folder):
                seen.add(found.run)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for thread in lookers:
        thread.start()
    try:
        for number in range(200):
            run = Run(folder.runs / f"run-{number}")
            run.root.mkdir()
            with only_training(folder) as tell:
                tell(run)
    finally:
        stop.set()
        for thread in lookers:
            thread.join()
    assert seen <= {"", *(f"run-{n}" for n in range(200))}, "never half a name"


def test_a_look_leaves_nothing_behind_where_nothing_was_trained(folder: ModelDir) -> None:
    assert holder(folder) is None
    assert [p.name for p in folder.root.iterdir()] == ["runs"]


def test_a_kill_in_the_middle_of_a_look_frees_the_gate(folder: ModelDir) -> None:
    with only_training(folder):
        pass
    code = (
        "import sys; from pathlib import Path\n"
        "from llm_installer.core.paths import ModelDir\n"
        "from llm_installer.core.run import lock\n"
        "with lock._gate(ModelDir(Path(sys.argv[1]))): print('inside', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(folder.root)]
    looker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert looker.stdout and looker.stdout.readline() == "inside\n"
    taken = threading.Event()

    def train() -> None:
        with only_training(folder):
            taken.set()

    waiting = threading.Thread(target=train)
    waiting.start()
    assert not taken.wait(0.2), "the look is waited for"
    os.kill(looker.pid, signal.SIGKILL)
    ended(looker)
    assert taken.wait(30)
    waiting.join()


def test_of_many_at_the_same_moment_one_gets_it(folder: ModelDir) -> None:
    together, tried, won, told = threading.Barrier(8), threading.Barrier(8), list[int](), list[str]()

    def attempt(number: int) -> None:
        together.wait()
        try:
            with only_training(folder):
                won.append(number)
                tried.wait()
        except TrainingError as error:
            told.append(str(error))
            tried.wait()

    for _ in range(20):
        threads = [threading.Thread(target=attempt, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(told)) == (1, 7)
        won.clear()
        told.clear()


def test_requests_left_for_a_dead_session_are_gone_before_its_name_is_known(folder: ModelDir) -> None:
    run = Run(folder.runs / "20261121-120000-fast")
    run.requests.mkdir()
    (run.requests / "stop-1").touch()
    with only_training(folder) as tell:
        assert (run.requests / "stop-1").exists()
        tell(run)
        assert list(run.requests.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_said_in_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(TrainingError, match="cannot be written to"),
        only_training(ModelDir(tmp_path / "not there")),
    ):
        pytest.fail("there is no folder")
