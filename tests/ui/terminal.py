"""Commands in a real terminal of a given width, and what such a terminal shows in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections import Counter
from pathlib import Path

from tests.commands import PATIENCE, processes

ROWS = 50
_TOKEN = re.compile(r"\x1b\[(?P<numbers>[?\d;]*)(?P<what>[A-Za-z])|(?P<other>[^\x1b])", re.S)


def on_terminal(width: int, *words: str | Path, cwd: Path) -> str:
    """The screen after a command that ended well, line by line without trailing spaces."""
    main, name = _terminal(width)
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    given = (list(map(str, words)), name, {**environment, "TERM": "xterm-256color"}, str(cwd))
    process = processes.Process(target=_run, args=given)
    process.start()
    written = bytearray()
    deadline = time.monotonic() + PATIENCE
    while process.is_alive() or _ready(main):
        assert time.monotonic() < deadline, written.decode(errors="replace")
        if _ready(main):
            written += os.read(main, 65536)
    process.join()
    os.close(main)
    shown = screen(written.decode())
    assert process.exitcode == 0, shown
    return shown


def screen(written: str) -> str:
    """What is seen after all that was written: lines may have been erased and written over again."""
    lines: list[str] = [""]
    row = column = 0
    for token in _TOKEN.finditer(written):
        what = token["what"]
        if what == "A":
            row = max(0, row - int(token["numbers"] or 1))
        elif what == "K":
            lines[row] = "" if token["numbers"] == "2" else lines[row][:column]
        elif token["other"] == "\r":
            column = 0
        elif token["other"] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token["other"]:
            lines[row] = lines[row].ljust(column)[:column] + token["other"] + lines[row][column + 1 :]
            column += 1
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def words(text: str) -> Counter[str]:
    """How often each word is in a text; a flag may be in brackets or not, a command on several lines or on one."""
    return Counter(text.replace("(--", "--").replace(")", "").replace(" \\\n", "\n").split())


def _terminal(width: int) -> tuple[int, str]:
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, width, 0, 0))
    name = os.ttyname(side)
    os.set_inheritable(side, False)
    _SIDES.append(side)  # open as long as this process: before the command opens its own, there would be no terminal
    return main, name


_SIDES: list[int] = []


def _ready(file: int) -> bool:
    return bool(select.select([file], [], [], 0.05)[0])


def _run(given: list[str], terminal: str, environment: dict[str, str], folder: str) -> None:
    """In the forked process: llm-installer with this terminal in the place of its three streams."""
    from llm_installer.cli.main import main

    os.setsid()
    side = os.open(terminal, os.O_RDWR)
    for number in range(3):
        os.dup2(side, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["llm-installer", *given]
    main()
