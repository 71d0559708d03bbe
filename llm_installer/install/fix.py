"""Mend a model directory: half-done swaps, scripts, links to what is gone, broken or missing model files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.files import unwritable
from llm_installer.core.hints import program
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir, reinstall
from llm_installer.core.run.lock import refuse_while_training
from llm_installer.core.text import counted, short_path
from llm_installer.install.doctor import Check
from llm_installer.install.from_hub import begin_staging
from llm_installer.install.installed import find_installed
from llm_installer.install.installer import install
from llm_installer.install.model_record import ModelRecord, is_complete, read_record
from llm_installer.install.scripts import write_scripts
from llm_installer.install.staging import directory_lock, staging_dir, undo_interrupted_swap

IN_TRAINING = "cannot be mended while it is being trained"


def fix_model(path_or_name: str, again: bool, say: Callable[[str], None]) -> list[Check]:
    """Mend what can be mended without a download, and with `again` get what is broken of the model's files once more.

    Runs and `lora` are not touched, only links to what is gone. Returns what was found; raises ModelError for what is
    not an installed model, TrainingError while it is being trained, and what `install` raises for the download.
    """
    found = find_installed(path_or_name)
    refuse_while_training(found, IN_TRAINING)
    with directory_lock(found.root.name):
        try:
            undo_interrupted_swap(found)
            loose = list(_loosened(found))
        except OSError as error:
            raise unwritable(found.root, error) from None
        scripts = write_scripts(found)
    done = f"{counted(len(scripts), 'script')} written again"
    links = [Check("links", True, f"{name} named what is gone, and was removed") for name in loose]
    return [Check("scripts", True, done), *links, _model_files(found, again, say)]


def _loosened(found: ModelDir) -> Iterator[str]:
    """Remove the links of the directory that name nothing; their names."""
    for link in (found.lora, found.root / "checkpoints", found.root / "training_history.png"):
        if link.is_symlink() and not link.exists():
            link.unlink()
            yield f"./{link.name}"


def _model_files(found: ModelDir, again: bool, say: Callable[[str], None]) -> Check:
    try:
        record = read_record(found.info)
    except ModelError:
        name = shlex.quote(found.root.name)
        mend = f"say it yourself: {program()} install MODEL --name {name} --force (its runs stay)"
        return Check(
            "model files", False, "model_info.json is damaged, so that nothing tells where they came from", mend
        )
    if again:
        _get_again(found, record, say)
        return Check("model files", True, f"those of {record.id}, complete and checked")
    if is_complete(found.weights, record):
        return Check("model files", True, "all are there, in their full size (--reinstall compares their content, too)")
    lost = [name for name in record.weights if not (found.weights / name).is_file()]
    what = "the folder model/ is gone" if not found.weights.is_dir() else "config.json or weights are missing or cut"
    return Check("model files", False, f"{lost[0]} is missing" if len(lost) == 1 and found.weights.is_dir() else what,
                 f"get them again with: {reinstall(found)}")  # fmt: skip


def _get_again(found: ModelDir, record: ModelRecord, say: Callable[[str], None]) -> None:
    """Install the same model at the same revision over itself; from a hub only what is broken is downloaded."""
    root = found.root
    if root.parent != models_dir().resolve():
        raise ModelError(
            f"{short_path(root)} does not lie in {short_path(models_dir())}, where models are installed; move it "
            "there, or set LLM_HOME to where it is"
        )
    if record.lineage:
        raise ModelError(
            f"{root.name} was merged here, from {record.lineage.base} and {record.lineage.adapter}, so that its files "
            "are nowhere else; remove it, and merge it again with: "
            f"{program()} merge {shlex.quote(record.lineage.base)} --run RUN"
        )
    if record.source == "folder" and not Path(record.id).is_dir():
        raise ModelError(
            f"{short_path(record.id)}, which {root.name} came from, is gone; install it from another folder with: "
            f"{program()} install FOLDER --name {shlex.quote(root.name)} --force (its runs stay)"
        )
    if record.source == "hub" and not record.linked:
        _offer_good_files(found, record, say)
    revision = record.revision or None if record.source == "hub" else None
    install(record.id, name=root.name, force=True, revision=revision, link=record.linked, say=say)


def _offer_good_files(found: ModelDir, record: ModelRecord, say: Callable[[str], None]) -> None:
    """Link the weights that are here into the folder of the download, which checks them and keeps those that are right.

    A wrong one loses its name there only: the model stays as it was until the new one is complete.
    """
    staging = staging_dir(found.root.name)
    with directory_lock(found.root.name):
        begin_staging(staging.root, record.id, record.revision, say)
        for name in record.weights:
            old, new = found.weights / name, staging.weights / name
            if Path(name).is_absolute() or ".." in Path(name).parts or not old.is_file() or os.path.lexists(new):
                continue
            with suppress(OSError):  # then it is downloaded
                new.parent.mkdir(parents=True, exist_ok=True)
                os.link(old.resolve(), new)
