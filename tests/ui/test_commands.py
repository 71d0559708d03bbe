"""Commands that are printed can be typed: each is handed to a shell as it stands."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from llm_installer.core.hints import quoted, script
from llm_installer.ui.console import Console


@pytest.mark.parametrize("terminal", [False, True])
def test_a_printed_command_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    folder = tmp_path / "LLM" / "my models"
    folder.mkdir(parents=True)
    (folder / "train.sh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "train.sh").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    said = io.StringIO()
    console = Console(rich=RichConsole(file=said, width=60, force_terminal=terminal, no_color=True))
    words = ["--data", "~/my data.json", "--prompt", "Who looks after the lighthouse? It's late.", "--epochs", "3"]
    console.command([script(folder), *map(quoted, words)])
    typed = said.getvalue().strip()
    assert typed.startswith("$ ~/'LLM/my models/train.sh'")
    done = subprocess.run(
        ["sh", "-c", typed.removeprefix("$ ")], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.splitlines() == ["--data", f"{tmp_path}/my data.json", *words[2:]]
