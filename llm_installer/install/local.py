"""Fill a staging folder from a folder on this machine: by copying what is needed, or by one link to all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.model_info import read_header
from llm_installer.core.paths import ModelDir
from llm_installer.install.choose import Chosen, choose
from llm_installer.install.files import copy_hashed, discard, human, need_room, sha256_of
from llm_installer.install.resolve import Source


def fill_from_folder(source: Source, staging: ModelDir, say: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Make `staging.weights` from the source's folder. Returns the sha256 of each weight file, and no revision."""
    if not source.folder.is_dir():
        raise ModelError(f"{source.folder}, the folder of the model {source.id}, is missing; install the program again")
    chosen = _choose(source.folder)
    discard(staging.root)
    staging.root.mkdir(parents=True)
    if source.link:
        say(f"Reading {source.folder} for its record")
        staging.weights.symlink_to(source.folder)
        return {name: sha256_of(source.folder / name) for name in chosen.weights}, ""
    files = [*chosen.others, *chosen.weights]
    need_room(staging.root, sum((source.folder / name).stat().st_size for name in files))
    for name in chosen.others:
        copy_hashed(source.folder / name, staging.weights / name)
    hashes = {}
    for name in chosen.weights:
        say(f"Copying {name} ({human((source.folder / name).stat().st_size)})")
        hashes[name] = copy_hashed(source.folder / name, staging.weights / name)
    return hashes, ""


def _choose(folder: Path) -> Chosen:
    """Choose from a folder, and refuse torn weights before the first byte is copied."""
    names = [str(p.relative_to(folder)) for p in [*folder.glob("*"), *folder.glob("*/*.jinja")] if p.is_file()]
    chosen = choose(names, lambda name: (folder / name).read_text(encoding="utf-8"), str(folder))
    for name in chosen.weights:
        if name.endswith(".safetensors"):
            read_header(folder / name)
    return chosen
