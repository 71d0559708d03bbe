"""Fill a staging folder from a folder on this machine: by copying what is needed, or by one link to all of it."""

from __future__ import annotations

from collections.abc import Callable

from llm_installer.core.errors import ModelError
from llm_installer.core.manifest import sha256_of
from llm_installer.core.model_info import read_model_info
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path, size
from llm_installer.install.disk import copy_hashed, delete, require_space
from llm_installer.install.resolve import Source
from llm_installer.install.select_files import Selection, select_files


def fill_from_folder(source: Source, staging: ModelDir, say: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Make `staging.weights` from the source's folder. Returns the sha256 of each weight file, and no revision.

    Raises ModelError for a folder that cannot be trained on, InstallerError where the disk is too small or refuses.
    """
    if not source.folder.is_dir():
        raise ModelError(f"{source.folder}, the folder of the model {source.id}, is missing; install the program again")
    selected = _select(source)
    delete(staging.root)
    staging.root.mkdir(parents=True)
    if source.link:
        say(f"Reading the weights in {short_path(source.folder)}")
        staging.weights.symlink_to(source.folder)
        return {name: sha256_of(source.folder / name) for name in selected.weights}, ""
    files = [*selected.others, *selected.weights]
    require_space(staging.root, sum((source.folder / name).stat().st_size for name in files))
    for name in selected.others:
        copy_hashed(source.folder / name, staging.weights / name)
    hashes = {}
    for name in selected.weights:
        say(f"Copying {name} ({size((source.folder / name).stat().st_size)})")
        hashes[name] = copy_hashed(source.folder / name, staging.weights / name)
    return hashes, ""


def _select(source: Source) -> Selection:
    """Select files of a folder, and refuse what could not be loaded before the first byte is copied."""
    folder = source.folder
    found = [p.relative_to(folder) for p in [*folder.glob("*"), *folder.glob("*/*.jinja")] if p.is_file()]
    selected = select_files(
        [p.as_posix() for p in found], lambda name: (folder / name).read_text(encoding="utf-8"), str(folder)
    )
    if source.kind != "built-in":
        from llm_installer.inference.loadable import check_loadable

        check_loadable(read_model_info(folder, source.id))
    return selected
