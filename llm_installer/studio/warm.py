"""A process that has loaded torch already, and forks a child for each question: what a page asks is answered sooner.

The child limits itself before it reads a byte, as one that is started from nothing does. The process ends with the
server, whose socket it reads, and when nobody has asked for a while.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

IDLE = 900
"""Seconds without a question after which its memory is given back."""
LONGEST = 1 << 17
"""Bytes of a question."""
_SERVE = (
    "import sys\n"
    "from llm_installer.studio import warm\n"
    "import torch, transformers\n"
    "from llm_installer.cli.main import main\n"
    "warm.answer(int(sys.argv[1]), int(sys.argv[2]), main)\n"
)


class Away(Exception):
    """There is no such process; it is to be done without one."""


@dataclass
class Warm:
    """The process, as the server has it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None
    line: socket.socket | None = None

    def start(self) -> None:
        """Start it, unless it runs. Raises OSError."""
        with self.lock:
            self._start()

    def _start(self) -> socket.socket:
        if self.line and self.process and self.process.poll() is None:
            return self.line
        self._close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as undone, theirs:
            undone.callback(ours.close)
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(theirs.fileno()), str(IDLE)],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
            undone.pop_all()
        self.line = ours
        return ours

    def ask(self, question: Mapping[str, object], out: int, said: int) -> Asked:
        """A child that answers; its output goes to `out` and `said`. Raises Away."""
        text = json.dumps({**question, "environment": {**os.environ}}).encode()
        try:
            with ExitStack() as undone, self.lock:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undone.callback(ours.close)
                with theirs:
                    line = self._start()
                    if len(text) > LONGEST:
                        raise OSError
                    socket.send_fds(line, [text], [out, said, theirs.fileno()])
                undone.pop_all()
        except OSError as error:
            raise Away from error
        return Asked(ours)

    def end(self) -> None:
        """End it."""
        with self.lock:
            self._close()

    def _close(self) -> None:
        if self.line:
            self.line.close()
        if self.process:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            self.process.kill()
            self.process.wait()
        self.line = self.process = None


class Asked:
    """A child that answers a question."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = 0

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises Away where nobody began, and TimeoutExpired."""
        self._line.settimeout(seconds)
        try:
            while found := self._line.recv(64):
                kind, _, number = found.decode().partition(" ")
                if kind == "code":
                    return int(number)
                self.pid = int(number)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired("llm_installer", seconds) from None
        except OSError:
            pass
        if self.pid:
            return -signal.SIGKILL
        raise Away

    def close(self) -> None:
        """End the child, with all that it started."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._line.close()


def answer(line: int, idle: int, main: Callable[[], object]) -> None:
    """Fork a child that runs `main` for each question, until the server is gone or nobody asks any more."""
    asked = socket.socket(fileno=line)
    running: dict[int, socket.socket] = {}
    while True:
        asked.settimeout(0.01 if running else idle)
        try:
            question, descriptors, _, _ = socket.recv_fds(asked, LONGEST, 3)
        except TimeoutError:
            if not running:
                return
            _reap(running)
            continue
        if not question:
            return
        out, said, teller = descriptors
        pid = os.fork()
        if not pid:
            for other in (asked, *running.values()):
                other.close()
            os.close(teller)
            _child(json.loads(question), out, said, main)
        running[pid] = socket.socket(fileno=teller)
        with suppress(OSError):
            running[pid].send(f"pid {pid}".encode())
        os.close(out)
        os.close(said)


def _reap(running: dict[int, socket.socket]) -> None:
    for pid in list(running):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            with running.pop(pid) as teller, suppress(OSError):
                teller.send(f"code {os.waitstatus_to_exitcode(status)}".encode())


def _child(question: Mapping[str, object], out: int, said: int, main: Callable[[], object]) -> None:
    """The command, in this process, which then ends."""
    code = 1
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(said, 2)
        os.chdir(str(question["folder"]))
        words, limits, given = question["words"], question["limits"], question["environment"]
        assert isinstance(words, Sequence) and isinstance(limits, Sequence) and isinstance(given, dict)
        os.environ.clear()
        os.environ.update(given)
        sys.argv[1:] = [str(word) for word in words]
        code = _command([int(number) for number in limits], main)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _command(limits: list[int], main: Callable[[], object]) -> int:
    memory, seconds = limits
    for kind, most in (("RLIMIT_AS", memory), ("RLIMIT_CPU", seconds), ("RLIMIT_CORE", 0)):
        resource.setrlimit(getattr(resource, kind), (most, most))
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0
