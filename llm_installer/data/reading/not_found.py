"""The message for a path where nothing is, with similar names in its folder."""

from __future__ import annotations

import difflib
import glob
import os
from pathlib import Path

from llm_installer.core.text import shortened


def not_found(piece: str, base: Path) -> str:
    """A sentence, without its full stop, that `piece` is not there, nor below `base`; it suggests similar names."""
    path = base / os.path.expanduser(piece)
    shown = shortened(piece)
    where = "" if Path(os.path.expanduser(piece)).is_absolute() else f" in {base}"
    if os.path.lexists(path):
        return f"{shown} is a link to something that does not exist"
    if glob.has_magic(piece):
        return f"No file matches {shown}{where}"
    if not os.path.isdir(path.parent):
        return f"{shown} does not exist, and neither does the folder {shortened(str(path.parent))}"
    names = {name.lower(): name for name in sorted(os.listdir(path.parent))}
    close = [names[name] for name in difflib.get_close_matches(path.name.lower(), names, n=3)]
    hint = f" (did you mean {' or '.join(str(Path(piece).with_name(name)) for name in close)}?)" if close else ""
    return f"There is no {shown}{where}{hint}"
