"""The TensorBoard server: it answers, it moves away from busy ports, and it never outlives its run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llm_installer.core.paths import switch_link
from llm_installer.runs.curves import curves
from llm_installer.training.reporters.tensorboard import TensorBoardReporter
from llm_installer.training.reporters.tensorboard_server import HOST, TensorBoardServer, free_port

DEADLINE_SECONDS = 60
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s for: {what}"
        time.sleep(0.05)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as page:
        return bytes(page.read())


@pytest.fixture
def port() -> int:
    """A free port, outside of the range from which systems hand out ports to others in the meantime."""
    return next(port for port in random.sample(range(20_000, 30_000), 1000) if not answers(port))


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    with socket.socket() as busy:
        busy.bind((HOST, port))
        busy.listen()
        yield


def test_a_busy_port_is_left_alone(port):
    with listener(port):
        assert free_port(port) > port
    assert free_port(port) == port


def test_a_port_that_is_taken_while_it_starts_is_left_to_who_was_faster(tmp_path: Path, port):
    """Two trainings started at the same moment see the same free port."""
    said: list[str] = []
    server = TensorBoardServer(tmp_path, port, said.append)
    server.start()
    try:
        with listener(port):

            def moved() -> bool:
                server.check()
                return bool(said)

            until(moved, "the server to move")
            assert not server.url.endswith(f":{port}/") and server.url in said[0]
            until(server.answers, "the server to answer at its new port")
    finally:
        server.stop()


def test_a_port_that_does_not_exist_is_an_error():
    with pytest.raises(OSError, match="choose another with --tensorboard-port"):
        free_port(65536)


def test_it_serves_the_runs_on_the_next_free_port_and_ends(make_story, port):
    story = make_story()
    events = TensorBoardReporter(story.header)
    events.on_start(story.header)
    story.play(events)
    switch_link(curves(story.header.run), story.header.run.logs)  # as in the current run, which is listed once
    server = TensorBoardServer(story.header.model_dir.runs, port)
    assert server.url == ""
    with listener(port):
        server.on_start(story.header)
        try:
            until(server.answers, "the server to answer")
            taken = int(server.url.rstrip("/").rsplit(":", 1)[1])
            assert taken > port
            assert b"TensorBoard" in fetch(server.url)
            runs = f"{server.url}data/runs"
            run = story.header.run.id
            names = [run, f"{run}/train", f"{run}/validation"]
            until(lambda: sorted(json.loads(fetch(runs))) == names, "the run to be listed")
            tags = f"{server.url}data/plugin/scalars/tags"
            until(lambda: all("loss" in json.loads(fetch(tags)).get(n, {}) for n in names[1:]), "both losses on a card")
            server.on_step(story.step(1))
        finally:
            server.on_end(story.state, None)
    assert not answers(taken)
    assert server.url == ""
    server.on_end(story.state, None)  # ending twice does no harm


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_a_server_that_ends_by_itself_says_why(make_story, port):
    story = make_story()
    server = TensorBoardServer(story.header.model_dir.runs, port)
    server.start()
    until(lambda: bool(servers(story.header.model_dir.runs)), "the server to be a process")
    os.kill(int(servers(story.header.model_dir.runs)[0]), signal.SIGKILL)

    def failed() -> bool:
        try:
            server.on_step(story.step(1))
        except OSError as error:
            assert f"it ended with code {-signal.SIGKILL}" in str(error)
            return True
        return False

    until(failed, "the failure to be noticed")
    assert server.url == ""


CHILD = """
import sys
from pathlib import Path
from llm_installer.training.reporters import TensorBoardServer

server = TensorBoardServer(Path(sys.argv[1]), int(sys.argv[2]))
server.start()
print(server.url, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("answering", [True, False], ids=["while serving", "while starting"])
def test_it_ends_when_its_parent_is_killed(tmp_path: Path, port, answering):
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == f"http://{HOST}:{port}/\n"
        if answering:
            until(lambda: answers(port), "the server to answer")
        until(lambda: bool(servers(tmp_path)), "the server to be a process")
        parent.kill()
    until(lambda: not servers(tmp_path), "the server to end")


def servers(logdir: Path) -> list[str]:
    """The ids of the processes, whoever is their parent, that serve this folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if {b"--logdir", os.fsencode(logdir)} <= set(command.read_bytes().split(b"\0")):
                found.append(command.parent.name)
    return found


SERVE = """
import sys
from pathlib import Path
from llm_installer.training.reporters import serve_tensorboard

sys.exit(serve_tensorboard(Path(sys.argv[1]), int(sys.argv[2])))
"""


@posix
def test_in_the_foreground_it_says_where_and_ends_with_ctrl_c(tmp_path: Path, port):
    command = [sys.executable, "-c", SERVE, str(tmp_path / "runs"), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        assert served.stdout.readline() == (
            f"There are no runs in {tmp_path / 'runs'} yet; they will appear on the page once training has begun.\n"
        )
        assert served.stdout.readline() == f"TensorBoard: http://{HOST}:{port}/ (Ctrl-C stops it)\n"
        assert b"TensorBoard" in fetch(f"http://{HOST}:{port}/")
        served.send_signal(signal.SIGINT)
        rest, errors = served.communicate(timeout=DEADLINE_SECONDS)
    assert (served.returncode, rest, errors) == (0, "", "")
    assert not answers(port)


def test_in_the_foreground_a_failure_is_one_sentence(tmp_path: Path):
    ended = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path), "65536"], capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("TensorBoard cannot be started: all ports from 65536")
    assert ended.stderr.count("\n") == 1
