"""What is waited for is seen on a terminal, one thing at a time, and nothing of it is left; a pipe hears nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from llm_installer.ui.console import Console
from tests.ui.terminal import screen


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def console(file: io.StringIO, term: str = "xterm", **more: bool) -> Console:
    return Console(rich=RichConsole(file=file, width=60, _environ={"TERM": term}, **more))  # type: ignore[arg-type]


def story(voice: Console) -> None:
    with voice.waiting("Starting"):
        with voice.waiting("Loading"):
            voice.line("Loaded.")
        with voice.progress("Encoding") as tell:
            tell(1, 2)
    voice.line("Done.")


def test_the_innermost_is_seen_and_the_rest_comes_back() -> None:
    file = Terminal()
    story(console(file))
    said = re.findall(r"(Starting|Loading|Encoding)(?: \.\.\.)?", file.getvalue())
    assert [word for i, word in enumerate(said) if said[i - 1 : i] != [word]] == [
        "Starting", "Loading", "Starting", "Encoding", "Starting",
    ]  # fmt: skip
    shown = re.sub(r"\x1b\[\?25[lh]", "", file.getvalue())
    assert [line for line in screen(shown).splitlines() if line] == ["Loaded.", "Done."]


def test_a_bar_has_no_number_before_the_total_is_known() -> None:
    file = Terminal()
    with console(file).progress("Encoding") as tell:
        tell(0, 1200)
        tell(1200, 1200)
    assert "Encoding" in file.getvalue() and "?" not in re.sub(r"\x1b\[\?25[lh]", "", file.getvalue())
    assert "1,200/1,200" in file.getvalue()


@pytest.mark.parametrize("forced", [False, True])
def test_a_pipe_hears_nothing_of_it(forced: bool) -> None:
    file = io.StringIO()
    story(console(file, force_terminal=forced))
    assert file.getvalue() == "Loaded.\nDone.\n"


def test_a_terminal_without_a_cursor_gets_a_line_for_each() -> None:
    file = Terminal()
    story(console(file, "dumb"))
    assert file.getvalue() == "Starting ...\nLoading ...\nLoaded.\nEncoding ...\nDone.\n"


class Listening(Console):
    """A console that remembers what was waited for."""

    def __init__(self) -> None:
        super().__init__(rich=RichConsole(file=io.StringIO()))
        self.heard: list[str] = []

    def _spin(self, again: bool = False) -> None:
        if self._waits and self._waits[-1] not in self.heard:
            self.heard.append(self._waits[-1])


def test_a_training_says_what_takes_long(installed: Path, write_rows: Callable[..., Path]) -> None:
    from llm_installer.planning.options import Options
    from llm_installer.train_lora import run

    voice = Listening()
    found = run(Options(model_path=str(installed), data=str(write_rows(24)), epochs=0.2, tensorboard=False), voice)
    assert found and found.report
    assert voice.heard == [
        "Starting",
        "Reading the data",
        "Encoding",
        "Loading the model",
        "Probing memory with the longest rows",
        "Evaluating what the run changed",
        "Asking base and tuned model",
    ]
