"""`--gpus 2` as a user types it, with two processes on the CPU: one voice, one run, signals, errors, exit codes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from llm_installer.api import lora_sft
from llm_installer.core.errors import UsageError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.checkpoints import newest_valid, read_state
from llm_installer.core.run.lock import only_training
from llm_installer.distributed.launch import meeting, per_machine, started
from llm_installer.planning.options import Options

ROOT = Path(__file__).resolve().parents[2]


Two = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def two(start: Two) -> Two:
    """Starts the command on two processes."""

    def begin(model: Path, data: Path, *words: str) -> subprocess.Popen[str]:
        command = ("train", "--model-path", model, "--data", data, "--gpus", "2", "--skip-test", "--no-tensorboard")
        return start(*command, *words, env={**os.environ, "LLM_CPU_PROCESSES": "2", "PYTHONPATH": str(ROOT)})

    return begin


def test_two_processes_speak_and_write_as_one_and_a_signal_ends_both(
    two: Two, installed: Path, write_rows: Callable[..., Path]
) -> None:
    """A run without an end, for which SIGINT is the usual one: both finish their step, and the best is published."""
    running = two(installed, write_rows(24), "--mode", "non-stop")
    assert running.stdout
    said = ""
    for line in running.stdout:
        said += line
        if line.startswith("Evaluation #2 "):
            break
    running.send_signal(signal.SIGINT)
    rest, wrong = running.communicate(timeout=120)
    said += rest
    assert (running.returncode, wrong) == (0, "")
    assert "Stopped because you stopped it" in said
    assert said.count("Evaluation #0") == said.count("Evaluation #1 ") == said.count("Done\n") == 1
    (run,) = (installed / "runs").iterdir()
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert (installed / "lora").resolve() == run / "adapter"
    measured = (run / "metrics.jsonl").read_text().splitlines()
    assert len(measured) == len(set(measured)), "one process writes each line"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGTERM, 143, ()), (signal.SIGHUP, 129, ("--method", "qlora", "--packing", "on"))],
)
def test_a_signal_to_the_command_stops_all_processes_well(
    two: Two,
    installed: Path,
    write_rows: Callable[..., Path],
    number: signal.Signals,
    code: int,
    words: tuple[str, ...],
) -> None:
    running = two(installed, write_rows(40), "--epochs", "9999", "--force-epochs", *words)
    assert running.stdout
    next(line for line in running.stdout if line.startswith("Evaluation #0"))
    running.send_signal(number)
    _, wrong = running.communicate(timeout=60)
    assert running.returncode == code, wrong
    assert wrong.startswith(f"Interrupted by {number.name} at step ") and wrong.count("\n") == 1
    (run,) = (installed / "runs").iterdir()
    assert (run / "checkpoints" / "last" / "optimizer.pt").is_file()
    saved = newest_valid(Run(run), pytest.fail)
    assert saved and f" at step {read_state(saved).step};" in wrong, "what the step of the end was is what was saved"


def children(process: int) -> list[int]:
    """Ids of the processes that a process started."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def pending(process: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that cannot take it now."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("ShdPnd:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def still(process: int) -> bool:
    """Whether a process is stopped: only then do signals wait for it."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("T")


def until_so(so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, and fail where it is not in time."""
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end, "not in time"
        select.select([], [], [], 0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_second_signal_ends_them_at_once_even_where_one_hangs(
    two: Two, installed: Path, write_rows: Callable[..., Path]
) -> None:
    running = two(installed, write_rows(40), "--epochs", "300", "--force-epochs")
    assert running.stdout
    next(line for line in running.stdout if line.startswith("Evaluation #1"))
    until_so(lambda: any((installed / "runs").glob("*/checkpoints/last")))
    (torchrun,) = children(running.pid)
    workers = children(torchrun)
    ends = [os.pidfd_open(process) for process in (torchrun, *workers)]
    # One does not move any more, so the other waits for it, and none can stop well.
    os.kill(workers[1], signal.SIGSTOP)
    until_so(lambda: still(workers[1]))
    running.send_signal(signal.SIGINT)
    until_so(lambda: pending(workers[1], signal.SIGINT))
    running.send_signal(signal.SIGINT)
    _, wrong = running.communicate(timeout=60)
    for end in ends:
        assert select.select([end], [], [], 10)[0], "still there"
        os.close(end)
    assert running.returncode == 130, wrong
    assert wrong == "Stopped.\n" or wrong.startswith("Stopped at once, as asked twice; ./lora is as it was, the newest")
    (run,) = (installed / "runs").iterdir()
    saved = newest_valid(Run(run), pytest.fail)
    assert saved and read_state(saved).step, "what was saved before is whole"
    with only_training(ModelDir.find(str(installed))):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
@pytest.mark.slow
@pytest.mark.parametrize("killed", ["the command", "torchrun"])
def test_nothing_goes_on_when_a_parent_is_killed(
    two: Two, installed: Path, write_rows: Callable[..., Path], killed: str
) -> None:
    running = two(installed, write_rows(40), "--epochs", "9999", "--force-epochs")
    assert running.stdout
    next(line for line in running.stdout if line.startswith("Evaluation #0"))
    (torchrun,) = children(running.pid)
    workers = children(torchrun)
    assert len(workers) == 2
    # Readable once the process is gone, even where nobody collects it.
    ends = [os.pidfd_open(process) for process in (torchrun, *workers)]
    os.kill(running.pid if killed == "the command" else torchrun, signal.SIGKILL)
    try:
        for end in ends:
            assert select.select([end], [], [], 60)[0], "still there"
    finally:
        for end in ends:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, signal.SIGKILL)
            os.close(end)
    running.communicate(timeout=60)
    (run,) = (installed / "runs").iterdir()
    assert (run / "checkpoints" / "last" / "optimizer.pt").is_file()


def test_an_error_is_said_once(two: Two, installed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    running = two(installed, tmp_path / "empty.json")
    said, wrong = running.communicate(timeout=120)
    assert running.returncode == 1
    assert wrong.startswith("Error: ") and wrong.count("\n") == 1, said + wrong


@pytest.mark.parametrize(
    ("asked", "found", "processes"), [("2", 4, 2), ("all", 4, 4), (None, 3, 3), ("1", 1, 1)], ids=str
)
def test_how_many_processes(asked: str | None, found: int, processes: int) -> None:
    assert per_machine(Options(gpus=asked), found) == processes


@pytest.mark.parametrize(
    ("asked", "found", "why"),
    [
        ("2", 0, "has no GPU"),
        ("5", 4, "at most 4"),
        ("0", 4, "1 or more"),
        ("many", 4, "not a number"),
        ("-1", 4, "not a n"),
    ],
)
def test_gpus_that_are_not_there_are_refused(asked: str, found: int, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        per_machine(Options(gpus=asked), found)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"nnodes": 2}, "--rdzv-endpoint"),
        ({"nnodes": 2, "rdzv_endpoint": "host"}, "HOST:PORT"),
        ({"nnodes": 2, "rdzv_endpoint": "host:1", "node_rank": 2}, "0 to 1"),
        ({"rdzv_endpoint": "host:1"}, "--nnodes"),
    ],
)
def test_machines_that_cannot_meet_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        meeting(Options(**options), 2)


@pytest.mark.parametrize(
    ("here", "machines", "asked", "found"),
    [
        ("1", "1", Options(), Options()),
        ("4", "1", Options(), Options(gpus="4")),
        ("4", "2", Options(), Options(gpus="4", nnodes=2)),
        ("2", "1", Options(gpus="all"), Options(gpus="all")),
    ],
)
def test_the_plan_knows_what_torchrun_started(
    here: str, machines: str, asked: Options, found: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    monkeypatch.setenv("GROUP_WORLD_SIZE", machines)
    assert started(asked) == found


def test_machines_meet_where_they_are_told() -> None:
    words = " ".join(meeting(Options(nnodes=2, node_rank=1, rdzv_endpoint="first:29400"), 8))
    assert "--node-rank 1 --master-addr first --master-port 29400" in words
    words = " ".join(meeting(Options(nnodes=2, rdzv_endpoint="first:29400"), 8))
    assert "--nnodes 2 --nproc-per-node 8" in words and "--rdzv-backend c10d --rdzv-endpoint first:29400" in words


SCRIPT = """
import sys
from llm_installer import InstallerError, lora_sft
model, data = sys.argv[1:]
quiet = {"tensorboard": False, "skip_test": True, "num_epochs": 1}
for file in ("nothing.jsonl", data):
    try:
        result = lora_sft(model_path=model, data_path=file, **quiet)
        print(f"RETURNED {result.run.name} {result.steps} {result.best_loss}\\n", end="", flush=True)
    except InstallerError as error:
        print(f"REFUSED {type(error).__name__} {error}\\n", end="", flush=True)
"""


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    """A script and its arguments, in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.slow
def test_a_script_of_ones_own_under_torchrun(installed: Path, write_rows: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    running = torchrun(tmp_path / "mine.py", installed, write_rows(24))
    said = running.stdout.splitlines()
    assert running.returncode == 0, running.stderr
    (run,) = (installed / "runs").iterdir()
    refused, returned = ([line for line in said if line.startswith(word)] for word in ("REFUSED", "RETURNED"))
    assert len(refused) == 2 and len({*refused}) == 1 and refused[0].startswith("REFUSED DataError There is no nothing")
    assert len(returned) == 2 and len({*returned}) == 1 and run.name in returned[0]
    assert running.stdout.count("Evaluation #0") == said.count("Done") == 1, "one voice"
    assert running.stderr == "", "and nothing else"


LEAVING = """
import os, sys, threading, time
from pathlib import Path
from llm_installer import InstallerError, lora_sft
model, data, when = sys.argv[1:]
def leave():
    while not [*Path(model).glob("runs/*/metrics.jsonl")]:
        time.sleep(0.05)
    os._exit(0)
if os.environ["RANK"] == "1":
    if when == "before":
        sys.exit()
    threading.Thread(target=leave, daemon=True).start()
try:
    lora_sft(model_path=model, data_path=data, tensorboard=False, skip_test=True, mode="non-stop")
except InstallerError as error:
    print(f"REFUSED {type(error).__name__} {error}", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("when", "says"), [("before", "1 process of 2 came to train"), ("during", "has ended, and")])
def test_one_that_leaves_keeps_nobody_waiting(
    when: str, says: str, installed: Path, write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(LEAVING)
    running = torchrun(tmp_path / "mine.py", installed, write_rows(24), when)
    assert f"REFUSED LeftBehind {'' if when == 'before' else 'Another process of this run '}{says}" in running.stdout
    assert "Traceback" not in running.stderr


def test_python_is_sent_to_torchrun_or_the_command_line(installed: Path, write_rows: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="torchrun --nproc-per-node 2, or use the command line"):
        lora_sft(installed, write_rows(24), nproc_per_node=2)
