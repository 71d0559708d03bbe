"""Where --output writes the adapter: a folder that is new, empty, or an adapter of this program; no other is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

from llm_installer.core.adapter_info import CONFIG
from llm_installer.core.errors import UsageError
from llm_installer.core.manifest import MANIFEST
from llm_installer.core.text import short_path, shortened
from llm_installer.planning.options import Options


def output_folder(options: Options) -> Path | None:
    """The folder that --output names; None where the adapter stays in its run."""
    return Path(options.output).expanduser().absolute() if options.output else None


def refuse_output(options: Options) -> None:
    """Raise UsageError where writing to --output would replace anything but an adapter, or cannot be done."""
    folder = output_folder(options)
    if folder is None:
        return
    shown = short_path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--output {shown} is a file; name a folder that is new or empty")
    try:
        strange = _strange(folder)
    except OSError as error:
        raise UsageError(f"--output {shown} cannot be read ({error.strerror}); name a folder that is new") from None
    if strange:
        raise UsageError(
            f"--output {shown} would be replaced as a whole, and {shortened(strange, 80)} in it is no part of an "
            "adapter; name a folder that is new or empty"
        )
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--output {shown} cannot be written, for you may not write in {short_path(above)}")


def _strange(folder: Path) -> str:
    """The first file of a folder that its own list of an adapter's files does not name; empty where there is none."""
    if not folder.is_dir():
        return ""
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        listed = {}
    known = {MANIFEST, *listed} if isinstance(listed, dict) and CONFIG in listed else set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == "logs" and path.is_symlink():  # runs.curves
            continue
        if name not in known and not any(other.startswith(f"{name}/") for other in known):
            return name
    return ""
