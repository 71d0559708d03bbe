"""A whole chat in a terminal: pasted lines, wide letters, another size in the middle, Ctrl-C once and twice."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_installer.install.installer import install
from tests.commands import PATIENCE, command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="keys as Linux terminals send them")
CTRL_C = "\x03"
SELECT = {"23", "270", "72"}
"""select and pselect6 on x86-64, and pselect6 on ARM, by their numbers."""


class Terminal:
    """A program in a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], keys: int) -> None:
        self.process, self._keys = process, keys
        self.shown = ""
        self._letters = codecs.getincrementaldecoder("utf-8")("replace")

    def press(self, keys: str) -> None:
        os.write(self._keys, keys.encode())

    def until(self, mark: str) -> str:
        """What is shown from now on up to a mark."""
        begin, deadline = len(self.shown), time.monotonic() + PATIENCE
        while mark not in self.shown[begin:]:
            assert select.select([self._keys], [], [], max(0.0, deadline - time.monotonic()))[0], self.shown[-500:]
            self.shown += self._letters.decode(os.read(self._keys, 1))
        return self.shown[begin:]

    def interrupt(self) -> None:
        """Ctrl-C once the program waits for keys: Python's readline does not hear one between its prompt and that."""
        called, deadline = Path(f"/proc/{self.process.pid}/syscall"), time.monotonic() + PATIENCE
        while called.read_text(encoding="ascii").split()[0] not in SELECT and time.monotonic() < deadline:
            os.sched_yield()
        self.press(CTRL_C)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._keys, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@contextmanager
def chatting(*words: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}

    def owns() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    line = [sys.executable, "-m", "llm_installer", *words]
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=owns)
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.slow
def test_a_chat_in_a_terminal(llm_home: Path) -> None:
    install("tiny", say=lambda text: None)
    with chatting("start", "tiny", "--max-new-tokens", "900") as terminal:
        terminal.until("\n> ")
        terminal.press("Who are you?\n")
        assert "Tiny" in terminal.until(" a second]")
        terminal.until("\n> ")
        terminal.press("\x1b[200~Wie heißt du?\nBitte 日本 🙂\x1b[201~")
        terminal.until("🙂")
        terminal.resize(30)
        terminal.press("\n")
        assert terminal.until(" a second]").count("second]") == 1
        terminal.until("\n> ")
        terminal.press("/save\n")
        terminal.until("Saved as a row")
        assert "Bitte 日本" in (llm_home / "models" / "tiny" / "chat.jsonl").read_text(encoding="utf-8")
        terminal.until("\n> ")
        terminal.interrupt()
        terminal.until("Ctrl-C once more ends the chat")
        terminal.until("> ")
        terminal.press("Hi\n")
        terminal.until(" a second]")
        terminal.until("\n> ")
        terminal.interrupt()
        terminal.until("Ctrl-C once more ends the chat")
        terminal.until("> ")
        terminal.interrupt()
        assert terminal.process.wait(PATIENCE) == 0
    assert "Traceback" not in terminal.shown


def test_a_pipe_gets_answers_alone(llm_home: Path) -> None:
    """No prompt, no speed, nothing that steers a terminal."""
    install("tiny", say=lambda text: None)
    done = command("start", "tiny", input="Who are you?\n")
    assert done.returncode == 0 and "Tiny" in done.stdout
    assert "> " not in done.stdout and "second]" not in done.stdout and "\x1b" not in done.stdout + done.stderr
