"""What a merged model is called and where it is put: below LLM_HOME/models by a name, or in any folder."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path
from llm_installer.install.naming import wrong_with_name

_LONGEST = 80
_UNSAFE = re.compile(r'[<>:"|?*/\\\s\x00-\x1f]+')


def target_of(base: ModelDir, made_by: str, to: str | None) -> ModelDir:
    """The directory of the merged model; `made_by` names the run or adapter.

    Raises UsageError for a name that no directory can have, ModelError for one that is taken.
    """
    name = default_name(base.root.resolve().name, made_by) if to is None else to
    folder = Path(name).expanduser()
    if to is not None and (os.sep in to or "/" in to or to.startswith((".", "~"))):
        root = folder.absolute()
    else:
        root = models_dir() / name
    if wrong := wrong_with_name(root.name):
        raise UsageError(f"A model cannot be called {root.name!r}: {wrong}; give another name or folder with --to")
    refuse_taken(root)
    return ModelDir(root)


def refuse_taken(root: Path) -> None:
    """Raise ModelError for a place where something is: nothing is ever replaced."""
    if os.path.lexists(root):
        raise ModelError(f"{short_path(root)} is there already; give another name or folder with --to, or remove it")


def default_name(base: str, made_by: str) -> str:
    """<model>-<run>, without what some system allows in no name, and not longer than is of use."""
    name = _UNSAFE.sub("-", f"{base}-{made_by}").strip(" .-")
    if len(name) > _LONGEST:  # the end of a run's name says which it is
        room = _LONGEST - len(made_by) - 1
        name = f"{base[:room]}-{made_by}" if room > 8 else name[:_LONGEST]
        name = _UNSAFE.sub("-", name).strip(" .-")
    return name


def lock_name(target: ModelDir) -> str:
    """What the lock of the directory is called."""
    root = target.root
    if root.parent == models_dir():
        return root.name
    return f"{root.name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"
