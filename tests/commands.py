"""llm-installer as users type it, in a process of its own that is forked where the libraries are loaded already.

A start of Python imports for seconds what the next one imports again. Tests of start-up itself, of signals to whole
groups, and of environments do not use this. command() runs one to its end, Begun() only starts it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

PATIENCE = 120.0
"""Seconds that a command may take."""

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.libraries"])


def command(*words: str | Path, cwd: str | Path | None = None, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end; stdout and stderr apart, neither a terminal."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        for stream, text in zip(streams, (input, "", ""), strict=True):
            stream.write_text(text, encoding="utf-8")
        given = [str(word) for word in words]
        process = processes.Process(target=_run, args=(given, streams, dict(os.environ), str(cwd or Path.cwd())))
        _start(process)
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(given, PATIENCE)
        said, wrong = (stream.read_text(encoding="utf-8") for stream in streams[1:])
    return subprocess.CompletedProcess(given, process.exitcode, said, wrong)


def _start(process: ForkServerProcess) -> None:
    """Start it; the one that forks listens in the system's folder for temporary files, whatever a studio in this
    process has chosen: names of sockets are short."""
    before, tempfile.tempdir = tempfile.tempdir, None
    try:
        process.start()
    finally:
        tempfile.tempdir = before


class Begun:
    """A command that goes on: what it says can be read line by line, and it can be sent signals."""

    def __init__(self, *words: str | Path) -> None:
        reads, writes = processes.Pipe(duplex=False)
        self._folder = tempfile.TemporaryDirectory()
        self._wrong = Path(self._folder.name) / "stderr"
        self._wrong.touch()
        given = [str(word) for word in words]
        self._process = processes.Process(
            target=_begin, args=(given, writes, self._wrong, dict(os.environ), os.getcwd())
        )
        _start(self._process)
        writes.close()
        self.stdout = open(os.dup(reads.fileno()), encoding="utf-8")  # noqa: SIM115  close() does it
        reads.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError("it goes on")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """What it said that was not read yet, and its errors, once it has ended."""
        said = self.stdout.read()
        self.wait(timeout)
        return said, self._wrong.read_text(encoding="utf-8")

    def close(self) -> None:
        """Kill it where it still runs, with its children."""
        if self.poll() is None:
            for one in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        self._process.join()
        self.stdout.close()
        self._folder.cleanup()


def _begin(words: list[str], writes: Connection, wrong: Path, environment: dict[str, str], folder: str) -> None:
    """In the forked process: as a terminal's child, which hears Ctrl-C, and nothing it says waits in a buffer."""
    os.dup2(writes.fileno(), 1)
    writes.close()
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115  it stays open to the end
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _run(words, [Path(os.devnull), None, wrong], environment, folder)


def _run(words: list[str], streams: list[Path | None], environment: dict[str, str], folder: str) -> None:
    """In the forked process, which has its streams, environment and folder from whoever forked first."""
    from llm_installer.cli.main import main

    for number, (stream, flags) in enumerate(zip(streams, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        if stream is not None:
            os.dup2(os.open(stream, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  multiprocessing opened nothing there
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["llm-installer", *words]
    main()
