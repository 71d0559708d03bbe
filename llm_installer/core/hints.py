"""Commands that a hint may name: such as work for this reader, from the folder they are in."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from llm_installer.core.text import short_path

COMMAND = "LLM_INSTALLER_COMMAND"
"""Environment variable that says how the reader calls this program; set by those who wrap it."""
NAME = "llm-installer"


def program() -> str:
    """How to call this program: by its name where that is on PATH, else the launcher of the checkout, else Python."""
    if named := os.environ.get(COMMAND):
        return named
    if shutil.which(NAME):
        return NAME
    launcher = Path(__file__).resolve().parents[2] / NAME
    if launcher.is_file():
        return typed(launcher)
    return f"{shlex.quote(sys.executable)} -m llm_installer"


def script(root: Path, name: str = "train.sh") -> str:
    """How to call a script of a model directory: ./train.sh inside of it, else with its path."""
    return typed(root / name)


def typed(file: Path) -> str:
    """A path as a shell takes it; the tilde stays outside of the quotes."""
    path = short_path(file)
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)
