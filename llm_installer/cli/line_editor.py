"""What is typed into a chat: edited and remembered where a terminal and Python's readline allow it, else just read.

The history is a file of one line for each question. A line that would steer a terminal never comes into it, and none
is taken from it either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from llm_installer.core.files import write_text
from llm_installer.core.home import llm_home
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import steering

MOST = 1000
"""Lines of a history that are kept."""
FILE = ".chat_history"
PROMPT, MORE = "> ", "... "
"""What stands before a question, and before each further line of it."""
BLOCK = '"""'
"""Between two lines of it, a question may have several lines."""


class Ask(Protocol):
    """Reads a line; EOFError at the end of the input."""

    def __call__(self, prompt: str = PROMPT, /) -> str: ...


class Editor(Protocol):
    """What is used of Python's readline."""

    def add_history(self, line: str, /) -> None: ...
    def clear_history(self) -> None: ...
    def set_auto_history(self, enabled: bool, /) -> None: ...


@contextmanager
def line_editor(folder: ModelDir) -> Iterator[Ask]:
    """Reads lines for as long as this lasts, with the history of this model where somebody types."""
    editor = _editor()
    if editor is None:
        yield read_line
        return
    file = history_file(folder)
    lines = remembered(file)
    editor.clear_history()
    editor.set_auto_history(False)
    for line in lines:
        editor.add_history(line)

    def ask(prompt: str = PROMPT, /) -> str:
        text = read_line(prompt)
        if worth_keeping(text, lines):
            lines.append(text)
            editor.add_history(text)
        return text

    try:
        yield ask
    finally:
        keep(file, lines)


def history_file(folder: ModelDir) -> Path:
    """In the model's folder, or in that of all models where this one cannot be written to."""
    return (folder.root if os.access(folder.root, os.W_OK) else llm_home()) / FILE


def remembered(file: Path) -> list[str]:
    """The lines of a history; none where there is no readable one."""
    with suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
        return [line for line in text.split("\n") if line.strip() and not steering(line)][-MOST:]
    return []


def worth_keeping(text: str, lines: list[str]) -> bool:
    """Whether a line belongs into the history: it says something, steers nothing, and is not the one before."""
    return bool(text.strip()) and not steering(text) and text not in lines[-1:]


def keep(file: Path, lines: list[str]) -> None:
    """Write a history, for nobody else to read; a chat does not fail for it."""
    if lines:
        with suppress(OSError):
            write_text(file, "\n".join(lines[-MOST:]) + "\n", mode=0o600)


def interactive() -> bool:
    """Whether somebody types and reads here: a pipe gets answers alone."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _editor() -> Editor | None:
    """Python's readline where somebody types into a terminal; some builds of Python lack it."""
    if not interactive():
        return None
    try:
        import readline
    except ImportError:
        return None
    return readline


def read_line(prompt: str = PROMPT, /) -> str:
    """A line as it is typed or piped. Raises EOFError at the end of the input."""
    if not interactive():
        return input()
    if prompt == PROMPT:
        print(flush=True)  # not in the prompt: an editor counts its columns
    return input(prompt)


def whole_question(ask: Ask) -> str:
    """A question of one line, or of as many as its marks say; the end of the input ends it, too."""
    text = ask()
    if text.strip() == BLOCK:
        return "\n".join(_block(ask))
    while text.endswith("\\"):
        text = text[:-1]
        with suppress(EOFError):
            text += "\n" + ask(MORE)
    return text


def _block(ask: Ask) -> Iterator[str]:
    """The lines up to the mark."""
    with suppress(EOFError):
        while (line := ask(MORE)).strip() != BLOCK:
            yield line
