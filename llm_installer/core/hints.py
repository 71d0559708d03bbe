"""Commands for hints, spelled as this reader can type them from the current folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from difflib import get_close_matches
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
    if found := launcher():
        return typed(found)
    return f"{shlex.quote(sys.executable)} -m llm_installer"


def from_anywhere() -> str:
    """The same for files that are kept: it works in any folder, and without the Python that runs this."""
    found = launcher()
    return program() if found is None or shutil.which(NAME) or os.environ.get(COMMAND) else shlex.quote(str(found))


def launcher() -> Path | None:
    """The launcher of the checkout that this is; None where the program was installed without one."""
    found = Path(__file__).resolve().parents[2] / NAME
    return found if found.is_file() else None


def nearest(word: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The known name that a mistyped one is closest to, whatever their case; empty where none is `alike`."""
    names = {name.lower(): name for name in known}
    return names.get(next(iter(get_close_matches(word.lower(), list(names), n=1, cutoff=alike)), ""), "")


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for a mistyped name, empty where nothing is close."""
    close = nearest(word, known)
    return f"; did you mean {close!r}?" if close else ""


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
