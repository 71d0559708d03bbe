"""What is waited for is seen on a terminal, one thing at a time, and nothing of it is left; a pipe hears of it late."""

from __future__ import annotations

import io
import re
import sys
import threading
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
def test_a_pipe_hears_nothing_of_what_takes_a_moment(forced: bool) -> None:
    file = io.StringIO()
    story(console(file, force_terminal=forced))
    assert file.getvalue() == "Loaded.\nDone.\n"


def test_a_terminal_without_a_cursor_gets_a_line_for_each() -> None:
    file = Terminal()
    story(console(file, "dumb"))
    assert file.getvalue() == "Starting ...\nLoading ...\nLoaded.\nEncoding ...\nDone.\n"


class Pipe(io.StringIO):
    """A pipe that tells whoever waits for a line in it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Condition()

    def write(self, text: str) -> int:
        """As it is, and those who wait look again."""
        with self.heard:
            self.heard.notify_all()
            return super().write(text)

    def until(self, text: str) -> None:
        """Wait until exactly this has been written."""
        with self.heard:
            assert self.heard.wait_for(lambda: self.getvalue() == text, 20), self.getvalue()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes are told what is waited for, as they are outside of tests."""
    monkeypatch.delenv("LLM_WAITING")


def test_a_pipe_can_be_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_WAITING", "0")
    voice = Console(rich=RichConsole(file=io.StringIO(), width=60), patience=600)
    with voice.waiting("Loading"):
        assert voice._timer is None, "nothing waits to say it"
    monkeypatch.delenv("LLM_WAITING")
    with voice.waiting("Loading"):
        assert voice._timer is not None


def test_a_pipe_gets_one_line_for_what_takes_longer(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)  # results are for the pipe alone
    voice = Console(rich=RichConsole(file=pipe, width=60), patience=0.01)
    with voice.waiting("Starting"):
        pipe.until("Starting ...\n")
        with voice.waiting("Loading"):
            pipe.until("Starting ...\nLoading ...\n")
        with voice.progress("Encoding"):
            pipe.until("Starting ...\nLoading ...\nEncoding ...\n")
    voice.line("Done.")
    assert pipe.getvalue() == "Starting ...\nLoading ...\nEncoding ...\nDone.\n", "each once"


def test_what_contains_it_is_said_when_it_still_lasts(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)
    voice = Console(rich=RichConsole(file=pipe, width=60), patience=600)
    with voice.waiting("Outer"):
        with voice.waiting("Inner"):
            voice.line("Something else.")
            voice.patience = 0.01
        pipe.until("Something else.\nOuter ...\n")


def test_a_pipe_that_nobody_reads_is_no_matter(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: failed.set())
    tried = threading.Event()

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            tried.set()
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with Console(rich=RichConsole(file=io.StringIO(), width=60), patience=0.01).waiting("Loading"):
        assert tried.wait(20)
    assert not failed.is_set()


class Listening(Console):
    """A console that remembers what was waited for."""

    def __init__(self) -> None:
        super().__init__(rich=RichConsole(file=io.StringIO()))
        self.heard: list[str] = []

    def _spin(self) -> None:
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
