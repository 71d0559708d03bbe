"""List what is installed, update its scripts, remove it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import InstallerError, ModelError
from llm_installer.core.hints import program
from llm_installer.core.paths import ModelDir, models_dir
from llm_installer.core.run.lock import only_training
from llm_installer.core.text import short_path
from llm_installer.install.disk import delete, size_on_disk
from llm_installer.install.model_record import is_complete, read_record
from llm_installer.install.scripts import write_scripts
from llm_installer.install.staging import directory_lock, staging_dir, undo_interrupted_swap


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


def list_models() -> list[Installed]:
    """Every model directory below LLM_HOME/models, by name."""
    folder = models_dir()
    if not folder.is_dir():
        return []
    roots = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and (p / "model_info.json").is_file())
    return [_installed(ModelDir(root)) for root in roots]


def update(path_or_name: str) -> list[Path]:
    """Write the scripts of a model directory again, for the Python that runs this. Returns the files written.

    Raises ModelError for what is not an installed model, InstallerError while another process changes it.
    """
    found = _find(path_or_name)
    with directory_lock(found.root.name):
        undo_interrupted_swap(found)
        return write_scripts(found)


def remove(path_or_name: str) -> Path:
    """Delete a whole model directory, or what an interrupted install left. A folder it links to stays.

    Returns the folder that was deleted. Raises ModelError for what is not an installed model, TrainingError while it
    is being trained, InstallerError while another process changes it or where the disk refuses.
    """
    unfinished = staging_dir(path_or_name.replace("/", "_")).root
    root = unfinished if unfinished.is_dir() and not _candidates(path_or_name) else _find(path_or_name).root
    name = root.name.removeprefix(".").removesuffix(".installing")
    doomed = root.parent / f".{name}.removing"
    with directory_lock(name), only_training(ModelDir(root), "cannot be removed while it is being trained"):
        try:
            delete(doomed)
            os.rename(root, doomed)
            delete(doomed)
        except OSError as error:
            raise InstallerError(
                f"{short_path(root)} could not be removed completely ({error.strerror}: {error.filename})"
            ) from error
    return root


def _candidates(path_or_name: str) -> list[Path]:
    """The installed model directories that the words can mean: a path, then a name below LLM_HOME/models."""
    given = Path(path_or_name).expanduser()
    named = models_dir() / path_or_name.replace("/", "_")
    return [p for p in (given, named) if path_or_name.strip() and _is_ours(p)]


def _is_ours(root: Path) -> bool:
    """A record that can be read; a damaged one only counts where nothing but model directories lies."""
    info = root / "model_info.json"
    if not info.is_file():
        return False
    try:
        read_record(info)
    except ModelError:
        return root.resolve().parent == models_dir().resolve()
    return True


def _find(path_or_name: str) -> ModelDir:
    found = _candidates(path_or_name)
    if not found:
        raise ModelError(f"{path_or_name!r} is not an installed model; see the installed models with: {program()} list")
    if found[0].is_symlink():
        raise ModelError(f"{short_path(found[0])} is a link to {found[0].resolve()}; give that directory itself")
    return ModelDir(found[0].resolve())


def _installed(model_dir: ModelDir) -> Installed:
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
    )
