"""The story of an install: resolve, fill a staging folder, record, write scripts, publish."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

from llm_installer.core.errors import ModelError
from llm_installer.core.home import models_dir
from llm_installer.core.model_info import read_model_info
from llm_installer.core.outward import guard_the_hub
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.lock import only_training, refuse_while_training
from llm_installer.core.startup import no_telemetry
from llm_installer.core.text import short_path
from llm_installer.core.user_config import offer_token
from llm_installer.install.advice import advising
from llm_installer.install.disk import delete
from llm_installer.install.from_folder import fill_from_folder
from llm_installer.install.from_hub import fill_from_hub
from llm_installer.install.model_record import ModelRecord, make_record, read_record, write_record
from llm_installer.install.resolve import Source, resolve
from llm_installer.install.scripts import write_scripts
from llm_installer.install.staging import directory_lock, publish, staging_dir, undo_interrupted_swap

Fill = Callable[[Source, ModelDir, Callable[[str], None]], tuple[dict[str, str], str]]
"""Makes `weights` in a staging folder; returns the sha256 of each weight file, and the commit if there is one."""

IN_TRAINING = "cannot be replaced while it is being trained"
IN_USE = "is already installed, and is being trained now"

FILL: dict[str, Fill] = {"built-in": fill_from_folder, "folder": fill_from_folder, "hub": fill_from_hub}


def install(
    model: str,
    *,
    name: str | None = None,
    force: bool = False,
    revision: str | None = None,
    link: bool = False,
    say: Callable[[str], None] = print,
) -> ModelDir:
    """Make a model directory from a hub id, a folder or `tiny`; it is complete or absent.

    `force` replaces the model of an existing directory once the new one is complete, and keeps its runs and links.
    `link` uses a folder in place. `say` gets a line whenever there is news. Raises UsageError for words that
    contradict each other, ModelError for what cannot be trained or is in the way, HubError for what a hub or the
    network refuses, TrainingError while the model to replace is being trained, InstallerError where the disk refuses.
    """
    no_telemetry()
    offer_token()
    guard_the_hub()
    source = resolve(model, name=name, revision=revision, link=link)
    target = ModelDir(models_dir() / source.dirname)
    with directory_lock(source.dirname), advising(source):
        refuse_while_training(target, IN_TRAINING if force else IN_USE)
        undo_interrupted_swap(target)
        _refuse_target(source, target, force)
        staging = staging_dir(source.dirname)
        hashes, commit = FILL[source.kind](source, staging, say)
        if source.kind == "hub":
            _refuse_unloadable(source, staging)
        record = make_record(source, staging.weights, hashes, commit)
        write_record(staging.info, record)
        write_scripts(staging)
        _warn_about_runs(target, record, say)
        with only_training(target, IN_TRAINING) if target.root.is_dir() else nullcontext():
            publish(staging, target)
        write_scripts(target)  # a replaced model keeps its directory, and with it its old scripts
    say(f"Installed {record.id} ({record.size} parameters) in {short_path(target.root)}")
    return target


def _refuse_unloadable(source: Source, staging: ModelDir) -> None:
    """Before the model gets its name: what was downloaded is of no use to a second try, and goes."""
    from llm_installer.inference.loadable import check_loadable

    try:
        check_loadable(read_model_info(staging.weights, source.id))
    except ModelError:
        delete(staging.root)
        raise


def _refuse_target(source: Source, target: ModelDir, force: bool) -> None:
    """Before the first byte: never replace what was not asked to be replaced, and never what is not a model."""
    if source.link and source.folder.is_relative_to(target.root.resolve()):
        raise ModelError(f"{short_path(source.folder)} is in this model directory, which cannot be linked to itself")
    if not os.path.lexists(target.root):
        return
    if not target.info.exists():
        raise ModelError(
            f"{short_path(target.root)} is in the way and is not an installed model; move it, or choose another --name"
        )
    if not force:
        raise ModelError(
            f"{source.dirname} is already installed in {short_path(target.root)}; replace its model with --force "
            f"(its runs are kept), or choose another --name"
        )


def _warn_about_runs(target: ModelDir, record: ModelRecord, say: Callable[[str], None]) -> None:
    """Adapters belong to the weights they were trained on: say so when the new weights are others."""
    if not target.info.exists() or not (target.runs.is_dir() and any(target.runs.iterdir())):
        return
    try:
        known = read_record(target.info).fingerprint
    except ModelError:
        known = ""
    if known != record.fingerprint:
        say(f"The adapters in {short_path(target.runs)} were trained on the old weights, and the new ones differ")
