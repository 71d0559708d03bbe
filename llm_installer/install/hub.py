"""Fill a staging folder from a model hub: list, choose, check the room, then fetch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from llm_installer.core.paths import ModelDir
from llm_installer.install.choose import choose
from llm_installer.install.files import discard, human, need_room, write_text
from llm_installer.install.hub_errors import explained
from llm_installer.install.resolve import Source
from llm_installer.install.transfer import Meter, RemoteFile, fetch, part_of

_MARKER = "source.json"
_PARTS = "parts"
_AT_ONCE = 4


def fill_from_hub(source: Source, staging: ModelDir, say: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Make `staging.weights` from a hub. Returns the sha256 of each weight file, and the commit."""
    no_telemetry()
    with explained(source):
        commit, files = list_files(source)
        parts = _prepare(staging.root, source.id, commit, say)
        small = Meter(say, 0)

        def read(name: str) -> str:
            fetch(files[name], staging.weights, parts, small)
            return (staging.weights / name).read_text(encoding="utf-8")

        chosen = choose(files, read, source.id)
        wanted = [files[name] for name in (*chosen.others, *chosen.weights)]
        missing = _missing(wanted, staging.weights, parts)
        need_room(staging.root, missing)
        say(f"Downloading {source.id} at {commit[:10]}: {len(wanted)} files, {human(missing)} to fetch")
        hashes = _fetch_all(wanted, staging.weights, parts, Meter(say, sum(f.size or 0 for f in wanted)))
    discard(parts)
    discard(staging.root / _MARKER)
    return {name: hashes[name] for name in chosen.weights}, commit


def no_telemetry() -> None:
    """Before the client is imported by its variable; after that by its constant."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


def list_files(source: Source) -> tuple[str, dict[str, RemoteFile]]:
    """The commit that the revision means now, and its files."""
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


def _prepare(root: Path, model: str, commit: str, say: Callable[[str], None]) -> Path:
    """Keep a staging folder of the same model and commit, and start a fresh one otherwise. Returns where parts go."""
    marker = json.dumps({"model": model, "commit": commit})
    known = root / _MARKER
    if root.exists() and not (known.is_file() and known.read_text(encoding="utf-8") == marker):
        say("An unfinished install of something else under this name was thrown away")
        discard(root)
    parts = root / _PARTS
    parts.mkdir(parents=True, exist_ok=True)
    write_text(known, marker)
    return parts


def _missing(wanted: Sequence[RemoteFile], folder: Path, parts: Path) -> int:
    """Bytes that are still to be fetched, counting what an interrupted download left."""
    here = [folder / f.name for f in wanted] + [part_of(parts, f.name) for f in wanted]
    return max(0, sum(f.size or 0 for f in wanted) - sum(p.stat().st_size for p in here if p.is_file()))


def _fetch_all(wanted: Sequence[RemoteFile], folder: Path, parts: Path, meter: Meter) -> Mapping[str, str]:
    """Fetch a few files at a time. When one fails or the user interrupts, the others stop with what they have."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pending = {pool.submit(fetch, file, folder, parts, meter): file.name for file in wanted}
        try:
            return {pending[done]: done.result() for done in as_completed(pending)}
        finally:
            meter.stop()
            pool.shutdown(wait=True, cancel_futures=True)
