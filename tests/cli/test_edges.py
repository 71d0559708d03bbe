"""What a shell may do to a command: a width of 0, numbers that are none, and Ctrl-C before anything is loaded."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console as RichConsole

from llm_installer.cli.chat import start
from llm_installer.cli.echo import complain
from llm_installer.cli.quickstart import _command, _Really
from llm_installer.core.errors import Interrupted, UsageError
from llm_installer.ui.console import Console
from tests.commands import command

INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "llm_installer.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv = ["llm_installer", "list"]
runpy.run_module("llm_installer", run_name="__main__")
"""


@pytest.mark.parametrize("option", ["--temperature", "--top-p", "--max-new-tokens"])
@pytest.mark.parametrize("value", ["nan", "inf", "1" + "0" * 30])
def test_a_chat_refuses_what_is_no_number(option: str, value: str) -> None:
    done = CliRunner().invoke(start, ["--model-path", "x", option, value])
    assert done.exit_code == 2 and f"'{option}': " in done.output


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_width_of_nothing_is_none(monkeypatch: pytest.MonkeyPatch, columns: str, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "0")
    assert "modes" in command("help", cwd=tmp_path).stdout


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [40, 80])
def test_an_error_is_wrapped_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    said, shown = "Error: " + "one of many words, " * 20, Terminal()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown)
    complain(said)
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width and " ".join(lines).split() == said.split()


def test_an_error_is_one_line_in_a_pipe(tmp_path: Path) -> None:
    done = command("check", tmp_path / ("a" * 100) / ("b" * 100), cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "tiny"), "Error: Missing option '--to'. Choose from: gguf, gguf-lora, ollama, mlx"),
        (("check-for",), "Error: Missing argument '{vllm|ollama}'. Choose from: vllm, ollama"),
    ],
)
def test_what_can_be_chosen_is_listed_in_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert command(*words, cwd=tmp_path).stderr.splitlines()[-1] == said


def test_a_stop_is_no_error() -> None:
    assert Interrupted("Interrupted by SIGTERM at step 3", signal.SIGTERM).said == "Interrupted by SIGTERM at step 3"
    assert UsageError("Say what").said == "Error: Say what"


def test_ctrl_c_in_the_quickstart_is_for_the_training(tmp_path: Path) -> None:
    """The command saves what there is and says how it ended; only then does the story end."""
    script = tmp_path / "train.sh"
    script.write_text("#!/bin/sh\ntrap 'echo saved >\"$1\"; exit 130' INT\nkill -INT $PPID\nkill -INT $$\n")
    script.chmod(0o755)
    with pytest.raises(KeyboardInterrupt):
        _command(Console(rich=RichConsole(quiet=True)), _Really(), script, [str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "saved\n"


def test_ctrl_c_before_anything_is_loaded_is_one_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "Stopped.\n")
