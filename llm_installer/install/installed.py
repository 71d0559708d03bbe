"""List what is installed, update its scripts, remove it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.files import unwritable
from llm_installer.core.hints import program, suggest
from llm_installer.core.home import known_names, model_names, models_dir
from llm_installer.core.paths import ModelDir, allow
from llm_installer.core.run.lock import only_training, refuse_while_training
from llm_installer.core.text import short_path
from llm_installer.install.disk import closed_folder, delete, size_on_disk
from llm_installer.install.model_record import is_complete, read_record
from llm_installer.install.scripts import write_scripts
from llm_installer.install.staging import directory_lock, removing_dir, staging_dir, undo_interrupted_swap

IN_TRAINING = "cannot be removed while it is being trained"


@dataclass(frozen=True)
class Installed:
    """A model directory, as `list` shows it."""

    root: Path
    name: str
    id: str
    size: str
    parameters: int
    bytes: int
    """On the disk, with all runs; a linked model's own folder is not counted."""
    installed: str
    """When, in UTC, as ISO 8601."""
    adapter: str
    """What `lora` points to, relative to the directory; empty when nothing is active."""
    complete: bool
    linked: bool = False
    """Whether its weights are in the user's own folder."""
    readable: bool = True
    """Whether its rights let anything be known of it beside its name."""
    source: str = ""
    """built-in, folder or hub."""
    revision: str = ""
    """The commit of a hub model."""
    model_type: str = ""


def list_models() -> list[Installed]:
    """Every model directory below LLM_HOME/models, by name."""
    return [_installed(ModelDir(models_dir() / name)) for name in model_names()]


def is_installed(path_or_name: str) -> bool:
    """Whether an installed model has this name, or lies there."""
    return bool(_candidates(path_or_name))


def update(path_or_name: str) -> list[Path]:
    """Write the scripts of a model directory again, for the Python that runs this. Returns the files written.

    Raises ModelError for what is not an installed model, InstallerError while another process changes it or where the
    scripts cannot be written.
    """
    found = find_installed(path_or_name)
    with directory_lock(found.root.name):
        try:
            undo_interrupted_swap(found)
        except PermissionError as error:
            raise unwritable(found.root, error) from None
        return write_scripts(found)


def remove(path_or_name: str) -> Path:
    """Delete a whole model directory, or what an interrupted install left. A folder it links to stays.

    Returns the folder that was deleted. Raises ModelError for what is not an installed model, TrainingError while it
    is being trained, InstallerError while another process changes it or where the disk or its rights refuse.
    """
    root = removable(path_or_name)
    name = root.name.removeprefix(".").removesuffix(".installing").removesuffix(".removing")
    doomed = removing_dir(root.with_name(name))
    with directory_lock(name), only_training(ModelDir(root), IN_TRAINING):
        try:
            if root != doomed:
                delete(doomed)
                os.rename(root, doomed)
            delete(doomed)
        except OSError as error:
            raise InstallerError(
                f"{short_path(root)} could not be removed completely ({error.strerror}: {error.filename})"
            ) from error
    return root


def removable(path_or_name: str) -> Path:
    """What `remove` would delete; that nothing is in the way of it is looked at first.

    Raises ModelError for what is neither installed nor left half-way and for weights that another model uses,
    TrainingError while it is being trained, InstallerError where its rights are in the way.
    """
    root = _doomed(path_or_name)
    refuse_while_training(ModelDir(root), IN_TRAINING)
    if user := next((other for other in _linked_to(root)), None):
        raise ModelError(
            f"{short_path(root)} was not removed, because the model {user} uses its weights (--link); remove that first"
        )
    _refuse_closed(root)
    return root


def _linked_to(root: Path) -> Iterator[str]:
    """The names of other models whose weights lie in `root`."""
    for name in model_names():
        weights = ModelDir(models_dir() / name).weights
        with suppress(PermissionError):  # which nobody here can load weights through
            if weights.parent != root and weights.is_symlink() and weights.resolve().is_relative_to(root):
                yield name


def _doomed(path_or_name: str) -> Path:
    """The model directory, or what an interrupted install or removal left of it."""
    if not _candidates(path_or_name):
        named = models_dir() / path_or_name.replace("/", "_")
        given = Path(path_or_name).expanduser().absolute()
        for left in (staging_dir(named.name).root, removing_dir(named), removing_dir(given)):
            if path_or_name.strip() and os.path.isdir(left):
                return left
    return find_installed(path_or_name).root


def _refuse_closed(root: Path) -> None:
    """Half a model must not be all that is left, so rights are looked at before anything is deleted."""
    if closed := closed_folder(root):
        raise InstallerError(
            f"{short_path(root)} was not removed, because {short_path(closed)} cannot be changed; "
            f"{allow(root if closed != root.parent else closed)}"
        )


def _candidates(path_or_name: str) -> list[Path]:
    """The installed model directories that the words can mean: a path, then a name below LLM_HOME/models."""
    given = Path(path_or_name).expanduser()
    named = models_dir() / path_or_name.replace("/", "_")
    return [p for p in (given, named) if path_or_name.strip() and _is_ours(p)]


def _is_ours(root: Path) -> bool:
    """A record that can be read; a damaged one only counts where nothing but model directories lies."""
    info = root / "model_info.json"
    try:
        if not info.is_file():
            return False
        read_record(info)
    except (ModelError, PermissionError):
        return root.resolve().parent == models_dir().resolve()
    return True


def find_installed(path_or_name: str) -> ModelDir:
    """The installed model of this name, or in this directory, complete or not. Raises ModelError."""
    found = _candidates(path_or_name)
    if not found:
        near = suggest(path_or_name, known_names()) or f"; see the installed models with: {program()} list"
        raise ModelError(f"{path_or_name!r} is not an installed model{near}")
    if found[0].is_symlink():
        raise ModelError(f"{short_path(found[0])} is a link to {found[0].resolve()}; give that directory itself")
    return ModelDir(found[0].resolve())


def _installed(model_dir: ModelDir) -> Installed:
    root = model_dir.root
    try:
        model_dir.info.open("rb").close()
        return _looked_at(model_dir)
    except PermissionError:
        return Installed(root, root.name, "", "", 0, 0, "", "", complete=False, readable=False)


def _looked_at(model_dir: ModelDir) -> Installed:
    root = model_dir.root
    adapter = os.readlink(model_dir.lora) if model_dir.lora.is_symlink() and model_dir.lora.exists() else ""
    try:
        record = read_record(model_dir.info)
    except ModelError:
        return Installed(root, root.name, "", "", 0, size_on_disk(root), "", adapter, complete=False)
    return Installed(
        root=root,
        name=root.name,
        id=record.id,
        size=record.size,
        parameters=record.parameters,
        bytes=size_on_disk(root),
        installed=record.installed,
        adapter=adapter,
        complete=is_complete(model_dir.weights, record),
        linked=record.linked,
        source=record.source,
        revision=record.revision,
        model_type=record.model_type,
    )
