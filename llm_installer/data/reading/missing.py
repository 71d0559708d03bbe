"""What is said about a place where nothing is: the names nearby that look like what was typed."""

from __future__ import annotations

import difflib
import glob
import os
from pathlib import Path

_LONG_NAME = 300


def missing(piece: str, base: Path) -> str:
    """That nothing is there, with the names in the folder that look like what was typed."""
    path = base / os.path.expanduser(piece)
    shown = _cut(piece)
    if os.path.lexists(path):
        return f"{shown} is a link to something that does not exist"
    if glob.has_magic(piece):
        return f"No file matches {shown} in {base}"
    if not os.path.isdir(path.parent):
        return f"{shown} does not exist, and neither does the folder {_cut(str(path.parent))}"
    names = {name.lower(): name for name in sorted(os.listdir(path.parent))}
    close = [names[name] for name in difflib.get_close_matches(path.name.lower(), names, n=3)]
    hint = f" (did you mean {' or '.join(str(Path(piece).with_name(name)) for name in close)}?)" if close else ""
    return f"There is no {shown} in {base}{hint}"


def _cut(name: str) -> str:
    """A name as typed, unless somebody gave a whole text for one."""
    return name if len(name) <= _LONG_NAME else name[:_LONG_NAME] + "..."
