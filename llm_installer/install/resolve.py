"""What MODEL on the command line means: the built-in model, a folder on this machine, or a hub id."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.hints import program
from llm_installer.core.text import short_path
from llm_installer.tiny import MODEL_DIR

BUILT_IN = "tiny"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_NAME = re.compile(r"[^./\0][^/\0]*")


@dataclass(frozen=True)
class Source:
    """Where a model comes from and what its directory will be called."""

    kind: Literal["built-in", "folder", "hub"]
    id: str
    """The hub id, the absolute folder, or `tiny`."""
    dirname: str
    folder: Path = Path()
    """The folder to read from; not used for a hub id."""
    revision: str | None = None
    link: bool = False


def resolve(model: str, *, name: str | None = None, revision: str | None = None, link: bool = False) -> Source:
    """Say what `model` means. The word `tiny` is the built-in model, then a path that exists wins over a hub id.

    Raises ModelError for what is neither, UsageError for options that do not go with it.
    """
    path = Path(model).expanduser()
    if not model.strip():
        raise UsageError("No model was given; give a hub id (org/name), a folder, or tiny")
    if model == BUILT_IN:
        source = Source("built-in", BUILT_IN, name or BUILT_IN, MODEL_DIR, revision, link)
    elif path.exists():
        folder = _model_folder(path)
        source = Source("folder", str(folder), name or folder.name, folder, revision, link)
    elif _HUB_ID.fullmatch(model):
        source = Source("hub", model, name or model.replace("/", "_"), revision=revision, link=link)
    else:
        raise ModelError(f"{path} is neither a folder nor a hub id (org/name); check the spelling")
    return _checked(source)


def _model_folder(path: Path) -> Path:
    folder = path.resolve()
    if not folder.is_dir():
        raise ModelError(f"{short_path(folder)} is a file; give the folder that holds config.json and the weights")
    if (folder / "model" / "config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{short_path(folder)} is already a model directory; train in it, or copy its model with: "
            f"{program()} install {shlex.quote(str(folder / 'model'))} --name NAME"
        )
    return folder


def _checked(source: Source) -> Source:
    if source.link and source.kind != "folder":
        raise UsageError(f"--link uses a folder in place, and {source.id} is not a folder; leave out --link")
    if source.revision is not None and source.kind != "hub":
        raise UsageError(f"--revision belongs to a hub id, and {source.id} is not one; leave out --revision")
    if not _NAME.fullmatch(source.dirname):
        raise UsageError(f"{source.dirname!r} cannot be the name of a model directory; choose another with --name NAME")
    return source
