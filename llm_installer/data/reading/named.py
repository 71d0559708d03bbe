"""The files that an option names, among those that are read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from llm_installer.core.errors import UsageError


def named_files(given: Mapping[str, str], known: Sequence[str], base: Path, flag: str) -> dict[str, str]:
    """`given` with every file named as it is shown. A path is understood too, and so is the end of one that only one
    file has.

    Raises UsageError for a name that matches no file or several.
    """
    found: dict[str, str] = {}
    for name, value in given.items():
        matches = _matches(name, known, base)
        if len(matches) != 1:
            wrong = "matches several files" if matches else "matches none of the files"
            raise UsageError(f"{flag}: '{name}' {wrong}; name one of: {', '.join(matches or known)}")
        if matches[0] in found:
            raise UsageError(f"{flag} names '{matches[0]}' twice; name it once")
        found[matches[0]] = value
    return found


def _matches(name: str, known: Sequence[str], base: Path) -> list[str]:
    """The known names that `name` matches: itself, the same path, or names that end in it."""
    if name in known:
        return [name]
    path = os.path.abspath(base / os.path.expanduser(name))
    if same := [other for other in known if os.path.abspath(base / os.path.expanduser(other)) == path]:
        return same
    ending = PurePosixPath(name).parts
    return [other for other in known if ending and PurePosixPath(other).parts[-len(ending) :] == ending]
