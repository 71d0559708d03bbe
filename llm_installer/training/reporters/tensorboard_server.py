"""Starts and stops the TensorBoard server: a child process that lives as long as the run, or one in the foreground."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import short_path, visible

HOST = "127.0.0.1"
PORTS_TRIED = 100
STOP_SECONDS = 5.0
TAKEN = "already in use"
"""What TensorBoard says when a port that was free at its start is taken some seconds later."""


def free_port(first: int) -> int:
    """The first free port from `first` on. Raises OSError where there is none."""
    last = min(first + PORTS_TRIED - 1, 65535)
    for port in range(first, last + 1):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            if os.name == "posix":  # as the server itself does: a port that was just closed is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise OSError(f"all ports from {first} to {last} are taken; choose another with --tensorboard-port")


class TensorBoardServer:
    """A reporter that serves `logdir` from the start of the run to its end."""

    def __init__(self, logdir: Path, port: int, say: Callable[[str], None] = lambda text: None) -> None:
        self._logdir = logdir
        self._port = port
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the page is; empty while there is no server."""
        return f"http://{HOST}:{self._port}/" if self._process else ""

    def on_start(self, header: RunHeader) -> None:
        """Start it without waiting; it needs some seconds to answer."""
        self.start()

    def on_step(self, report: StepReport) -> None:
        """Raise OSError when it has ended by itself."""
        self.check()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Raise OSError when it has ended by itself."""
        self.check()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """End it."""
        self.stop()

    def on_note(self, text: str) -> None:
        """A server has no use for notes."""

    def start(self) -> None:
        """Start the child process on the first free port."""
        self._port = free_port(self._port)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - stop() closes it
        launcher = Path(__file__).with_name("tensorboard_launch.py")
        flags = ["--logdir", str(self._logdir), "--host", HOST, "--port", str(self._port)]
        # One process without helpers, in a session of its own: Ctrl-C is for the run, which then ends the server.
        self._process = subprocess.Popen(
            [sys.executable, str(launcher), str(os.getpid()), *flags, "--load_fast=false"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise OSError with its last words when it has ended by itself; but if another program has just taken its
        port, start it again on the next one."""
        if self._process and self._errors and (code := self._process.poll()) is not None:
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace").strip().splitlines() or ["without a message"]
            self.stop()
            if TAKEN in words[-1]:
                self._port += 1
                self.start()
                return self._say(f"TensorBoard: {self.url} (the other port has just been taken)")
            raise ChildProcessError(f"it ended with code {code} ({words[-1].strip()})")

    def answers(self) -> bool:
        """Whether its port accepts connections."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), timeout=1):
            return True
        return False

    def wait(self) -> NoReturn:
        """Wait until it has ended by itself, then raise OSError with its last words; never return."""
        while True:
            if self._process:
                self._process.wait()
            self.check()

    def stop(self) -> None:
        """End it, gently first; does nothing when it has ended already."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._errors:
            self._errors.close()
        self._process = self._errors = None


def serve_tensorboard(logdir: Path, port: int) -> int:
    """Serve `logdir` in the foreground until Ctrl-C; the exit code."""
    if not any(logdir.glob("**/events.out.tfevents.*")):
        where = visible(short_path(logdir))
        print(f"There are no runs in {where} yet; they will appear on the page once training has begun.")
    server = TensorBoardServer(logdir, port, lambda text: print(visible(text), flush=True))
    try:
        server.start()
        while not server.answers():
            server.check()
            time.sleep(0.1)
        print(f"TensorBoard: {server.url} (Ctrl-C stops it)", flush=True)
        server.wait()
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"TensorBoard cannot be started: {visible(str(error))}", file=sys.stderr)
        return 1
    finally:
        server.stop()
