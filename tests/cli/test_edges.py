"""What a shell may do to a command: a width of 0, numbers that are none, and Ctrl-C before anything is loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_installer.cli.chat import start
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


def test_ctrl_c_before_anything_is_loaded_is_one_word() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "Stopped.\n")
