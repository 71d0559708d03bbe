"""Commands for hints, spelled as this reader can type them from the current folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from llm_installer.core.text import short_path, steering

COMMAND = "LLM_INSTALLER_COMMAND"
"""Environment variable for whoever wraps this program: what hints call it."""
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


def pip(package: str) -> str:
    """How to install a package where this program finds it: by the Python that runs it, whatever else is on PATH."""
    return f"{typed(Path(sys.executable))} -m pip install {package}"


def typed(file: Path) -> str:
    """A path as a shell takes it; the tilde stays outside of the quotes."""
    return quoted(short_path(file))


def quoted(word: str) -> str:
    """A word as a shell takes it; a tilde stays outside of the quotes. Controls are escaped as bash reads them."""
    if steering(word):
        return f"$'{''.join(map(_in_ansi_c, word))}'"
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word)


def _in_ansi_c(character: str) -> str:
    if steering(character):
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return f"\\{character}" if character in "\\'" else character
