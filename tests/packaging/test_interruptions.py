"""Set-ups that are interrupted, fail or meet each other: none leaves an incomplete environment in use."""

import json
import os
import pty
import select
import shutil
import signal
from pathlib import Path

import pytest

VENV, TOOLCHAIN, TORCH, PACKAGES = range(4)
STEPS = {"pip==": TOOLCHAIN, "torch==": TORCH, ".": PACKAGES}


def steps(calls: list[list[str]]) -> list[int]:
    """Which parts of the set-up were started; the index query is not one of them."""
    found = []
    for call in calls:
        if call[0] == "venv":
            found.append(VENV)
        elif call[1] == "install":
            found.append(next(step for start, step in STEPS.items() if any(a.startswith(start) for a in call[2:])))
    return found


@pytest.fixture
def gates(tmp_path: Path) -> tuple[Path, Path]:
    """Two FIFOs: pip says on the first that it is there, and continues when the second is written."""
    here, go_on = tmp_path / "here", tmp_path / "go-on"
    os.mkfifo(here)
    os.mkfifo(go_on)
    return here, go_on


def waiting_at(requirement: str, gates: tuple[Path, Path]) -> str:
    return json.dumps([requirement, *map(str, gates)])


def test_a_killed_set_up_starts_over(checkout, gates):
    """Wherever it was killed, also where the one before it was."""
    for requirement, last in STEPS.items():
        killed = checkout.open("list", STUB_WAIT=waiting_at(requirement, gates))
        assert gates[0].read_text(encoding="utf-8") == "here"
        os.killpg(killed.pid, signal.SIGKILL)
        assert killed.communicate()[0] == ""
        assert steps(checkout.take_calls()) == [VENV, TOOLCHAIN, TORCH, PACKAGES][: last + 1]

    after = checkout.start("list")
    assert (after.returncode, json.loads(after.stdout)) == (0, ["list"])
    assert steps(checkout.take_calls()) == [VENV, TOOLCHAIN, TORCH, PACKAGES]
    assert not (checkout.root / ".venv.old").exists()


def test_a_killed_update_starts_over(checkout, gates):
    checkout.start()
    (checkout.root / "setup.py").write_text("# changed\n", encoding="utf-8")
    killed = checkout.open("list", STUB_WAIT=waiting_at(".", gates))
    gates[0].read_text(encoding="utf-8")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    checkout.take_calls()
    assert checkout.start("list").returncode == 0
    assert steps(checkout.take_calls()) == [VENV, TOOLCHAIN, TORCH, PACKAGES]


def test_ctrl_c_says_so_and_ends(checkout, gates):
    stopped = checkout.open("list", STUB_WAIT=waiting_at("torch==", gates))
    gates[0].read_text(encoding="utf-8")
    os.killpg(stopped.pid, signal.SIGINT)
    out, err = stopped.communicate()
    assert (stopped.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert checkout.start("list").returncode == 0


def read_until(terminal: int, mark: str) -> str:
    """What a terminal shows up to a mark, or to its end."""
    shown = b""
    while mark.encode() not in shown or not mark:
        assert select.select([terminal], [], [], 60)[0], shown
        try:
            piece = os.read(terminal, 1)
        except OSError:  # the other side is closed
            break
        shown += piece
    return shown.decode()


@pytest.mark.parametrize("ended", ["Ready.", "interrupted"])
def test_on_a_terminal_a_few_lines_and_one_that_moves_are_seen(checkout, gates, ended):
    for tool in ("sleep", "tail", "cut"):
        (checkout.bin / tool).symlink_to(str(shutil.which(tool)))
    terminal, side = pty.openpty()
    process = checkout.open(stderr=side, TERM="xterm", STUB_WAIT=waiting_at("torch==", gates))
    os.close(side)
    gates[0].read_text(encoding="utf-8")
    shown = read_until(terminal, "\r\x1b[K  1 s")
    if ended == "Ready.":
        gates[1].write_text("go on", encoding="utf-8")
    else:
        os.killpg(process.pid, signal.SIGINT)
    shown += read_until(terminal, "")
    os.close(terminal)
    assert shown.count("\n") <= 10, shown
    last = shown.rstrip().rpartition("\n")[2]
    assert last.rpartition("\r\x1b[K")[2].startswith(("Ready.", "llm-installer: ")), "nothing is left of it"
    assert ended in last
    assert f"details are in {checkout.root}/.venv/install.log" in shown


def test_two_first_starts_set_up_once(checkout, gates):
    first = checkout.open("one", STUB_WAIT=waiting_at("torch==", gates))
    gates[0].read_text(encoding="utf-8")
    second = checkout.open("two")
    assert second.stderr.readline() == "Another process is setting up LLM Installer here; waiting for it.\n"
    gates[1].write_text("go on", encoding="utf-8")
    for process, argument in ((first, "one"), (second, "two")):
        out, _ = process.communicate()
        assert (process.returncode, json.loads(out)) == (0, [argument])
    assert steps(checkout.take_calls()) == [VENV, TOOLCHAIN, TORCH, PACKAGES]


def test_a_left_over_pip_keeps_the_next_start_waiting(checkout, gates):
    """The launcher is killed but its pip is not: the next start must not install beside it."""
    killed = checkout.open("one", STUB_WAIT=waiting_at("torch==", gates))
    gates[0].read_text(encoding="utf-8")
    killed.kill()
    second = checkout.open("two")
    assert "waiting" in second.stderr.readline()
    gates[1].write_text("go on", encoding="utf-8")
    killed.communicate()
    assert json.loads(second.communicate()[0]) == ["two"]
    assert steps(checkout.take_calls()) == [VENV, TOOLCHAIN, TORCH, VENV, TOOLCHAIN, TORCH, PACKAGES]


FAILURES = {
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": "is full",
    "WARNING: Retrying after connection broken by 'NewConnectionError': /simple/torch/": "cannot be reached",
    "ERROR: No matching distribution found for torch==9.9.9": "lacks a build of a pinned package",
    "ERROR: something unheard of": "pip could not install",
}


FAILING = [("torch==", *failure) for failure in FAILURES.items()]
FAILING += [(requirement, *failure) for requirement in ("pip==", ".") for failure in list(FAILURES.items())[1:2]]


def test_a_failure_is_one_sentence_and_the_log(checkout):
    """One after the other; then nothing fails, and it is set up."""
    for requirement, logged, sentence in FAILING:
        failed = checkout.start("list", STUB_FAIL=json.dumps([requirement, logged]))
        assert (failed.returncode, failed.stdout) == (1, "")
        last = failed.stderr.splitlines()[-1]
        assert last.startswith("llm-installer: ") and sentence in last, requirement
        assert last.endswith(f"Details are in {checkout.root}/.venv/install.log")
        assert logged in (checkout.root / ".venv" / "install.log").read_text(encoding="utf-8")
    assert checkout.start("list").returncode == 0


def test_an_environment_that_cannot_be_made_is_a_failure_too(checkout):
    for logged, sentence in (("[Errno 28] No space left on device", "is full"), ("no idea", "could not make")):
        failed = checkout.start("list", STUB_VENV_FAILS=logged)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert sentence in failed.stderr.splitlines()[-1]
    assert checkout.start("list").returncode == 0


@pytest.mark.parametrize(
    ("logged", "expected"),
    [
        ("ERROR: No matching distribution found for x", [TOOLCHAIN, PACKAGES]),
        ("Installing collected packages: x", [VENV, TOOLCHAIN, TORCH, PACKAGES]),
    ],
    ids=["before any package", "between packages"],
)
def test_a_failed_update_keeps_what_is_complete(checkout, logged, expected):
    checkout.start()
    before = (checkout.root / "setup.py").read_text(encoding="utf-8")
    (checkout.root / "setup.py").write_text("# changed\n", encoding="utf-8")
    assert checkout.start(STUB_FAIL=json.dumps([".", logged])).returncode == 1
    checkout.take_calls()
    assert checkout.start().returncode == 0
    assert steps(checkout.take_calls()) == expected
    assert before == ""
