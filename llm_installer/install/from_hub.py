"""Fill a staging folder from a model hub: list, select, check the space, then download."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from llm_installer.core.files import write_text
from llm_installer.core.paths import ModelDir
from llm_installer.core.startup import no_telemetry
from llm_installer.core.text import counted, size
from llm_installer.install.disk import delete, require_space
from llm_installer.install.download import Meter, RemoteFile, download, partial_file
from llm_installer.install.hub_errors import explained
from llm_installer.install.resolve import Source
from llm_installer.install.select_files import select_files

_MARKER = "source.json"
_PARTIAL = "parts"
_AT_ONCE = 4


def fill_from_hub(source: Source, staging: ModelDir, say: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Make `staging.weights` from a hub. Returns the sha256 of each weight file, and the commit.

    Raises HubError in one sentence for whatever the hub or the network refuses, ModelError for a model that cannot be
    trained, InstallerError where the disk is too small.
    """
    no_telemetry()
    with explained(source):
        commit, files = list_files(source)
        partial = begin_staging(staging.root, source.id, commit, say)
        small = Meter(say, 0)

        def read(name: str) -> str:
            download(files[name], staging.weights, partial, small)
            return (staging.weights / name).read_text(encoding="utf-8")

        selected = select_files(files, read, source.id)
        wanted = [files[name] for name in (*selected.others, *selected.weights)]
        missing = _missing(wanted, staging.weights, partial)
        require_space(staging.root, missing)
        say(f"Downloading {source.id} at {commit[:10]}: {counted(len(wanted), 'file')}, {size(missing)} to download")
        hashes = _download_all(wanted, staging.weights, partial, Meter(say, sum(f.size or 0 for f in wanted)))
    delete(partial)
    delete(staging.root / _MARKER)
    return {name: hashes[name] for name in selected.weights}, commit


def list_files(source: Source) -> tuple[str, dict[str, RemoteFile]]:
    """The commit that the revision means now, and its files by name.

    Raises what the hub's client raises, and ValueError for an answer that makes no sense.
    """
    from huggingface_hub import HfApi, constants

    api, seconds = HfApi(library_name="llm-installer"), constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        found = api.model_info(source.id, revision=source.revision, files_metadata=True, timeout=seconds)
    except (KeyError, TypeError) as error:
        raise ValueError(f"its description of {source.id} makes no sense: {error}") from error
    commit = found.sha or ""
    files = {
        f.rfilename: RemoteFile(
            repo=source.id,
            commit=commit,
            name=f.rfilename,
            size=f.lfs.size if f.lfs else f.size,
            sha256=f.lfs.sha256 if f.lfs else "",
            blob_id="" if f.lfs else f.blob_id or "",
        )
        for f in found.siblings or []
    }
    return commit, files


def begin_staging(root: Path, model: str, commit: str, say: Callable[[str], None]) -> Path:
    """Keep a staging folder of the same model and commit, else make a new one. Returns where partial files go."""
    marker = json.dumps({"model": model, "commit": commit})
    known = root / _MARKER
    if root.exists() and not (known.is_file() and known.read_text(encoding="utf-8") == marker):
        say("An unfinished install of another model or version under this name is deleted")
        delete(root)
    partial = root / _PARTIAL
    partial.mkdir(parents=True, exist_ok=True)
    write_text(known, marker)
    return partial


def _missing(wanted: Sequence[RemoteFile], folder: Path, partial: Path) -> int:
    """Bytes still to be downloaded: what an interrupted download left is not downloaded again."""
    here = [folder / f.name for f in wanted] + [partial_file(partial, f.name) for f in wanted]
    return max(0, sum(f.size or 0 for f in wanted) - sum(p.stat().st_size for p in here if p.is_file()))


def _download_all(wanted: Sequence[RemoteFile], folder: Path, partial: Path, meter: Meter) -> Mapping[str, str]:
    """Download a few files at a time. When one fails or the user interrupts, the others stop with what they have."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pending = {pool.submit(download, file, folder, partial, meter): file.name for file in wanted}
        try:
            return {pending[done]: done.result() for done in as_completed(pending)}
        finally:
            meter.stop()
            pool.shutdown(wait=True, cancel_futures=True)
