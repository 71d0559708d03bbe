"""What MODEL on the command line means: the built-in model, a folder on this machine, a hub id or its address."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from llm_installer.core.errors import ModelError, UsageError
from llm_installer.core.hints import nearest, program
from llm_installer.core.home import known_names
from llm_installer.core.text import short_path, shortened
from llm_installer.install.naming import page_of, wrong_with_name
from llm_installer.install.tiny import MODEL_DIR

BUILT_IN = "tiny"
NEARLY = 0.85
"""How alike a mistyped name is, as difflib counts."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """Where a model comes from and what its directory will be called."""

    kind: Literal["built-in", "folder", "hub", "merged"]
    id: str
    """The hub id, the absolute folder, `tiny`, or the name of the model that an adapter was merged with."""
    dirname: str
    folder: Path = Path()
    """The folder to read from; not used for a hub id."""
    revision: str | None = None
    link: bool = False


def resolve(model: str, *, name: str | None = None, revision: str | None = None, link: bool = False) -> Source:
    """Say what `model` means. The word `tiny` is the built-in model, then a path that exists wins over a hub id, and
    the address of a page of the hub is the id and the revision in it.

    Raises ModelError for what is neither, UsageError for options that do not go with it.
    """
    path = Path(model).expanduser()
    if not model.strip():
        raise UsageError("No model was given; give a hub id (org/name), a folder, or tiny")
    if model == BUILT_IN:
        return _checked(Source("built-in", BUILT_IN, BUILT_IN, MODEL_DIR, revision, link), name)
    if path.exists():
        folder = _model_folder(path)
        return _checked(Source("folder", str(folder), folder.name, folder, revision, link), name)
    page = page_of(model)
    if page and page.revision and revision not in (None, page.revision):
        raise UsageError(f"The address names revision {page.revision}, and --revision {revision}; give one of them")
    model, revision = (page.id, page.revision or revision) if page else (model, revision)
    if not _HUB_ID.fullmatch(model):
        raise ModelError(f"{path} is neither a folder nor a hub id (org/name); check the spelling")
    if "/" not in model and not page:
        _refuse_nearly(model)
    return _checked(Source("hub", model, model.replace("/", "_"), revision=revision, link=link), name)


def _refuse_nearly(model: str) -> None:
    """Raise ModelError for a word that is nearly the name of a model that is here: no hub has to be asked for that."""
    close = nearest(model, (BUILT_IN, *known_names()), NEARLY)
    if close and close != model:
        raise ModelError(
            f"There is no model {model!r} here; did you mean {close!r}? A model of a hub is called by its whole id, "
            "org/name"
        )


def _model_folder(path: Path) -> Path:
    folder = path.resolve()
    if not folder.is_dir():
        raise ModelError(f"{short_path(folder)} is a file; give the folder that holds config.json and the weights")
    if not folder.name:
        raise ModelError(f"{folder} holds all of this machine; give the folder that holds config.json and the weights")
    if (folder / "model" / "config.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{short_path(folder)} is already a model directory; train in it, or copy its model with: "
            f"{program()} install {shlex.quote(str(folder / 'model'))} --name NAME"
        )
    return folder


def _checked(source: Source, name: str | None) -> Source:
    """The source under the name that was chosen for it, if any."""
    source = source if name is None else replace(source, dirname=name)
    if source.link and source.kind != "folder":
        raise UsageError(f"--link uses a folder in place, and {source.id} is not a folder; leave out --link")
    if source.revision is not None and source.kind != "hub":
        raise UsageError(f"--revision belongs to a hub id, and {source.id} is not one; leave out --revision")
    if wrong := wrong_with_name(source.dirname):
        raise UsageError(
            f"{shortened(repr(source.dirname), 80)} cannot be the name of a model directory, because {wrong}; choose "
            "another with --name NAME"
        )
    return source
