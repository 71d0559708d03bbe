"""From what --data names to stores of examples, converted once and found again by their content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import xxhash

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped
from llm_installer.core.home import cache_dir
from llm_installer.core.text import counted
from llm_installer.data.formats import FORMATS, find_format
from llm_installer.data.formats.answers import AS_JSON, could_be_json
from llm_installer.data.formats.columns import columns_by_file
from llm_installer.data.reading.archives import broken
from llm_installer.data.reading.rows import Source
from llm_installer.data.reading.sources import find_sources
from llm_installer.data.reading.text_notices import text_notices
from llm_installer.data.store.arrow import ExampleStore
from llm_installer.data.store.cache import cached, code_hash, content_hash
from llm_installer.data.store.conversion import Conversion, FileSummary
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

IN_MEMORY = 1000
"""Skipped records that are kept in memory; all of them are on file."""


@dataclass(frozen=True)
class DataRequest:
    """What to read, as the user named it."""

    data: str
    """What --data names: files, folders, globs and hub ids, joined by commas."""
    base: Path
    """The folder below which relative paths are."""
    dataset_format: str | None = None
    """Name of the format of every record; without it each record's own is detected."""
    columns: str | None = None
    """The user's names for what a record holds, as in prompt=Question,answer=Reply."""
    answers_as: str = "text"
    """What becomes of answers that are objects or lists, one of formats.answers.CHOICES."""
    validation_data: str | None = None
    """Like `data`, for the validation rows."""
    strict: bool = False
    """Whether the first record that would be skipped is an error."""
    text_rows: str | None = None
    """What a row of plain text is, a name of text_rows.ROWS; decided from each file without it."""


@dataclass(frozen=True)
class Loaded:
    """Everything that was read, before any split."""

    train: ExampleStore
    validation: ExampleStore | None
    """What the data themselves, or --validation-data, reserve for validation."""
    dropped: list[Dropped]
    """The first thousand records that are skipped."""
    reasons: dict[str, int]
    """How many are skipped, by reason, the most frequent first."""
    dropped_file: Path
    """All of them, one JSON object per line."""
    files: tuple[FileSummary, ...]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]
    paths: dict[str, Path]
    """Where each local file is, by the name it is shown under."""

    @property
    def dropped_count(self) -> int:
        """How many records are skipped."""
        return sum(self.reasons.values())


def load_examples(asked: DataRequest, workdir: Path | None = None) -> Loaded:
    """Read all the data into stores below `workdir`, by default in the cache.

    Raises DataError for what cannot be found or understood, or when nothing is left to train on; UsageError where it
    is said how plain text is read, and there is none.
    """
    conversion, notes = conversion_of(asked)
    folder = _converted(conversion, workdir or cache_dir() / "datasets")
    return _loaded(folder, conversion, notes)


def conversion_of(asked: DataRequest) -> tuple[Conversion, list[str]]:
    """What is to be read and how, and what there is to say about it. Raises DataError and UsageError."""
    sources, notes = find_sources(asked.data, asked.base)
    wanted = [(replace(source, text_rows=asked.text_rows or ""), source.part) for source in sources]
    if asked.validation_data:
        validation, more = find_sources(asked.validation_data, asked.base)
        wanted += [(replace(source, text_rows=asked.text_rows or ""), "validation") for source in validation]
        notes = [*notes, *(note for note in more if note not in notes)]
    forced = find_format(asked.dataset_format) if asked.dataset_format else None
    notes = [*notes, *text_notices([source for source, _ in wanted])]
    names = [source.name for source, _ in wanted]
    columns = columns_by_file(asked.columns, names, asked.base) if asked.columns is not None else {}
    return Conversion(asked.base.absolute(), tuple(wanted), forced, columns, asked.answers_as, asked.strict), notes


def _converted(conversion: Conversion, folder: Path) -> Path:
    """The folder with the stores: the one made before from the same bytes, or a new one."""
    hub = any(source.hub for source, _ in conversion.sources)
    before = _stamps(conversion)
    key = _key(conversion)
    try:
        found = cached(folder, key, lambda work: _build(conversion, work) and not hub)
    except OSError as error:
        raise DataError(
            f"The converted data cannot be kept in {folder} ({error.strerror or error}); "
            f"make room there, or set LLM_HOME to a folder on another disk"
        ) from None
    changed = [name for name, stamp in _stamps(conversion).items() if stamp != before[name]]
    if changed:
        raise DataError(f"{changed[0]} changed while it was being read; run the command again")
    return found


def _build(conversion: Conversion, work: Path) -> bool:
    """Convert everything. True when the result may be used again. What is refused must not take up disk space."""
    account = gather(conversion, work)
    if not (work / TRAIN).exists():
        dropped = list(read_dropped(work / DROPPED, 1))
        raise _nothing(conversion, account, dropped, only_validation=(work / VALIDATION).exists())
    return account.complete


def _key(conversion: Conversion) -> str:
    """A name for the result, the same for the same bytes read the same way by the same code."""
    contents: dict[Path, str] = {}
    parts: list[object] = [
        code_hash(),
        str(conversion.base),
        conversion.forced and conversion.forced.name,
        sorted((file, sorted(columns.items())) for file, columns in conversion.columns.items()),
        conversion.answers_as,
    ]
    for source, part in conversion.sources:
        if source.path not in contents:
            contents[source.path] = "" if source.hub else _content(source)
        parts.append([*map(str, asdict(source).values()), part, contents[source.path]])
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _content(source: Source) -> str:
    try:
        return content_hash(source.path)
    except OSError as error:
        raise broken(source.name, error) from None


def _stamps(conversion: Conversion) -> dict[str, tuple[int, int]]:
    """Size in bytes and modification time in ns of every file, to notice that one is written to while it is read."""
    stamps = {}
    for source, _ in conversion.sources:
        if not source.hub:
            try:
                stat = source.path.stat()
            except OSError as error:
                raise broken(source.name, error) from None
            stamps[source.name] = (stat.st_size, stat.st_mtime_ns)
    return stamps


def _loaded(folder: Path, conversion: Conversion, notes: Sequence[str]) -> Loaded:
    account = Account.read(folder / ACCOUNT)
    dropped = list(read_dropped(folder / DROPPED, IN_MEMORY))
    if conversion.strict and dropped:
        raise refused(dropped[0])
    found = {name for file in account.files for name in file.formats}
    return Loaded(
        train=ExampleStore(folder / TRAIN),
        validation=ExampleStore(folder / VALIDATION) if (folder / VALIDATION).exists() else None,
        dropped=dropped,
        reasons=account.reasons,
        dropped_file=folder / DROPPED,
        files=account.files,
        warnings=(*_warnings(account), *_not_json(account)),
        notices=(*notes, *(row.said for row in FORMATS if row.said and row.name in found)),
        paths={source.name: source.path for source, _ in conversion.sources if not source.hub},
    )


def _warnings(account: Account) -> Iterator[str]:
    for file in account.files:
        if not file.records:
            yield f"{file.name} holds no records"
        elif file.unknown:
            yield f"{file.name}: {file.unknown:,} of {counted(file.records, 'record')} skipped, as no known format fits"
        for remark, records in file.remarks.items():
            of = f"{records:,} of {counted(file.records, 'record')}, the first at {file.remarked[remark]}"
            yield f"{file.name}: {remark} ({of})"


def _not_json(account: Account) -> Iterator[str]:
    objects = sum(count for reason, count in account.reasons.items() if could_be_json(reason))
    if objects:
        are = counted(objects, "answer is an object or a list", "answers are objects or lists")
        yield f"{are}, and skipped; to train on them as JSON text, add {AS_JSON}"


def _nothing(conversion: Conversion, account: Account, dropped: Sequence[Dropped], only_validation: bool) -> DataError:
    """The error when no example is left to train on: what was read, and what became of it."""
    records = sum(file.records for file in account.files)
    names = origins(conversion.sources)
    if not records:
        return DataError(f"{names} holds no records; give a file with examples to train on")
    if only_validation:
        return DataError(f"{names}: every example is reserved for validation; name the training data, too")
    json = f"add {AS_JSON} to train on them as JSON text, " if any(map(could_be_json, account.reasons)) else ""
    reasons = "; ".join(f"{reason} ({count:,}x)" for reason, count in list(account.reasons.items())[:3])
    return DataError(
        f"Nothing in {names} can be trained on ({counted(records, 'record')} skipped, the first at "
        f"{dropped[0].origin}): {reasons}; {json}correct the data, or have it read another way with --dataset-format "
        "or --columns"
    )
