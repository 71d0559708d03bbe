"""From what --data names to stores of examples, converted once and found again by their content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped
from llm_installer.core.paths import cache_dir
from llm_installer.data.formats import FORMATS, find_format, parse_columns
from llm_installer.data.formats.columns import renamed
from llm_installer.data.reading.archives import broken
from llm_installer.data.reading.rows import Source
from llm_installer.data.reading.sources import find_sources
from llm_installer.data.store.arrow import ExampleStore
from llm_installer.data.store.cache import cached, code_hash, content_hash
from llm_installer.data.store.conversion import FileReport, Request
from llm_installer.data.store.gather import (
    ACCOUNT,
    DROPPED,
    TRAIN,
    VALIDATION,
    Account,
    gather,
    origins,
    read_dropped,
    refused,
)

SHOWN = 1000
"""Left-out records that are kept in memory; the rest is on file."""


@dataclass(frozen=True)
class Loaded:
    """Everything that was read, before any split."""

    train: ExampleStore
    validation: ExampleStore | None
    """What the data themselves, or --validation-data, set aside for measuring."""
    dropped: list[Dropped]
    """The first thousand records left out."""
    reasons: dict[str, int]
    """How many were left out, by reason, the most frequent first."""
    dropped_file: Path
    """All of them, a JSON object a line."""
    files: tuple[FileReport, ...]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    paths: dict[str, Path]
    """Where each local file lies, by the name it is reported under."""

    @property
    def dropped_count(self) -> int:
        """How many records were left out."""
        return sum(self.reasons.values())


def load_examples(
    data: str,
    *,
    base: Path,
    dataset_format: str | None = None,
    columns: str | None = None,
    validation_data: str | None = None,
    strict: bool = False,
    workdir: Path | None = None,
) -> Loaded:
    """Read all of `data` (relative paths are below `base`) into stores below `workdir`, by default in the cache.

    Raises DataError for what cannot be found or understood, or when nothing is left to learn from; `strict` makes the
    first record that would be left out an error too.
    """
    sources, notes = find_sources(data, base)
    wanted = [(source, source.part) for source in sources]
    if validation_data:
        held_out, more = find_sources(validation_data, base)
        wanted += [(source, "validation") for source in held_out]
        notes = [*notes, *(note for note in more if note not in notes)]
    forced = find_format(dataset_format) if dataset_format else None
    named = parse_columns(columns) if columns else None
    if named:
        _, forced = renamed(dict.fromkeys(named.values()), named, forced)
    base = base.absolute()
    request = Request(base, tuple(wanted), forced, named, strict)
    folder = _converted(request, workdir or cache_dir() / "datasets")
    return _loaded(folder, request, notes)


def _converted(request: Request, folder: Path) -> Path:
    """The folder with the stores of this request: the one made before from the same bytes, or a new one."""
    hub = any(source.hub for source, _ in request.sources)
    before = _stamps(request)
    key = _key(request)
    try:
        found = cached(folder, key, lambda work: _build(request, work) and not hub)
    except OSError as error:
        raise DataError(
            f"The converted data cannot be kept in {folder} ({error.strerror or error}); "
            f"make room there, or let LLM_HOME name a folder on another disk"
        ) from None
    changed = [name for name, stamp in _stamps(request).items() if stamp != before[name]]
    if changed:
        raise DataError(f"{changed[0]} changed while it was read; run the command again")
    return found


def _build(request: Request, work: Path) -> bool:
    """Convert everything. True when the result may be used again. What is refused must not take up room."""
    account = gather(request, work)
    if not (work / TRAIN).exists():
        dropped = list(read_dropped(work / DROPPED, 1))
        raise _nothing(request, account, dropped, held_out=(work / VALIDATION).exists())
    return account.complete


def _key(request: Request) -> str:
    """A name for the result: the same bytes, read the same way by the same code, have the same."""
    contents: dict[Path, str] = {}
    parts: list[object] = [
        code_hash(),
        str(request.base),
        request.forced and request.forced.name,
        sorted((request.columns or {}).items()),
    ]
    for source, part in request.sources:
        if source.path not in contents:
            contents[source.path] = "" if source.hub else _content(source)
        parts.append([*map(str, asdict(source).values()), part, contents[source.path]])
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _content(source: Source) -> str:
    try:
        return content_hash(source.path)
    except OSError as error:
        raise broken(source.name, error) from None


def _stamps(request: Request) -> dict[str, tuple[int, int]]:
    """Size and time of every file, to notice that one is written to while it is read."""
    stamps = {}
    for source, _ in request.sources:
        if not source.hub:
            try:
                stat = source.path.stat()
            except OSError as error:
                raise broken(source.name, error) from None
            stamps[source.name] = (stat.st_size, stat.st_mtime_ns)
    return stamps


def _loaded(folder: Path, request: Request, notes: Sequence[str]) -> Loaded:
    account = Account.read(folder / ACCOUNT)
    dropped = list(read_dropped(folder / DROPPED, SHOWN))
    if request.strict and dropped:
        raise refused(dropped[0])
    met = {name for file in account.files for name in file.formats}
    return Loaded(
        train=ExampleStore(folder / TRAIN),
        validation=ExampleStore(folder / VALIDATION) if (folder / VALIDATION).exists() else None,
        dropped=dropped,
        reasons=account.reasons,
        dropped_file=folder / DROPPED,
        files=account.files,
        warnings=tuple(_warnings(account)),
        notices=(*notes, *(f"{row.name}: {row.notice}" for row in FORMATS if row.notice and row.name in met)),
        paths={source.name: source.path for source, _ in request.sources if not source.hub},
    )


def _warnings(account: Account) -> Iterator[str]:
    for file in account.files:
        if not file.records:
            yield f"{file.name} holds no records"
        elif file.unknown:
            yield f"{file.name}: {file.unknown:,} of {file.records:,} records are of no known format and left out"


def _nothing(request: Request, account: Account, dropped: Sequence[Dropped], held_out: bool) -> DataError:
    """The error when no example is left to train on: what was read, and what became of it."""
    records = sum(file.records for file in account.files)
    names = origins(request.sources)
    if not records:
        return DataError(f"{names} holds no records; give a file with examples to learn from")
    if held_out:
        return DataError(f"{names}: every example is set aside for validation; name the training data with --data too")
    reasons = "; ".join(f"{reason} ({count:,}x)" for reason, count in list(account.reasons.items())[:3])
    return DataError(
        f"Nothing can be learned from {names} (records: {records:,}, left out: all, the first at {dropped[0].origin}): "
        f"{reasons}; correct the data, or read them another way with --dataset-format or --columns"
    )
