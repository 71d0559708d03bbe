"""Rows in, two stores and an account out: what became an example, what was left out, and why."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import Format, convert, detect, unknown_shape
from llm_installer.data.images import ImageGone, placed
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.store import ExampleWriter

TRAIN, VALIDATION, DROPPED, ACCOUNT = "train.arrow", "validation.arrow", "dropped.jsonl", "account.json"
_KINDS_OF_REASONS = 1000
OTHER_REASONS = "other reasons"
_ANY_NAME = "surrogatepass"
"""File names need not be text at all; they are written as Python holds them."""


@dataclass(frozen=True)
class Request:
    """What to read and how to take it."""

    base: Path
    """The caller's folder."""
    sources: tuple[tuple[Source, str], ...]
    """Each with the part its rows are for where they do not say: "" or "validation"."""
    forced: Format | None = None
    columns: Mapping[str, str] | None = None
    strict: bool = False
    """Whether the first record that would be left out is an error."""
    lenient: bool = False
    """Whether even what cannot be understood is left out, instead of being an error."""


@dataclass(frozen=True)
class FileReport:
    """What was found in one file."""

    name: str
    formats: dict[str, int] = field(default_factory=dict)
    """Records by the format they were read as."""
    records: int = 0
    examples: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Account:
    """What became of all records."""

    files: tuple[FileReport, ...]
    reasons: dict[str, int]
    """How often something was left out, by reason, the most frequent first."""
    complete: bool
    """False when images were missing: they may be there the next time."""

    @classmethod
    def read(cls, file: Path) -> Account:
        """The account that `gather` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(FileReport(**report) for report in found["files"]), found["reasons"], found["complete"])


def gather(request: Request, folder: Path) -> Account:
    """Read everything into stores in `folder`, with an account of it. Raises DataError for what cannot be understood.

    A side without examples gets no store.
    """
    with ExitStack() as stack:
        stack.enter_context(_rare_collections())
        out = _Out(folder, request.strict, stack)
        for source, part in request.sources:
            count = Count(source.name)
            for side, item in examples(source, read_rows(source), request, count):
                if isinstance(item, Example):
                    out.writer(part or side).append(item)
                else:
                    out.drop(item)
            out.add(count)
        account = out.account()
    (folder / ACCOUNT).write_text(json.dumps(asdict(account)), encoding="utf-8")
    return account


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Rows make no cycles, and looking for some every 700 objects takes a fifth of the time."""
    usual = gc.get_threshold()
    gc.set_threshold(200_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@dataclass
class Count:
    """What came out of a source so far."""

    name: str
    formats: Counter[str] = field(default_factory=Counter)
    examples: int = 0
    dropped: int = 0
    images_gone: bool = False
    """Whether something was left out that the next look may find."""

    def report(self) -> FileReport:
        """The final figures."""
        formats = dict(self.formats.most_common())
        return FileReport(self.name, formats, self.formats.total(), self.examples, self.dropped)


class _Out:
    """Where examples and left-out records go."""

    def __init__(self, folder: Path, strict: bool, stack: ExitStack) -> None:
        self._folder, self._strict, self._stack = folder, strict, stack
        self._writers: dict[str, ExampleWriter] = {}
        self._dropped: TextIO = stack.enter_context((folder / DROPPED).open("w", encoding="utf-8", errors=_ANY_NAME))
        self._reasons: Counter[str] = Counter()
        self._counts: dict[str, Count] = {}

    def writer(self, part: str) -> ExampleWriter:
        """The store of a part, begun with its first example."""
        if part not in self._writers:
            name = VALIDATION if part == "validation" else TRAIN
            self._writers[part] = self._stack.enter_context(ExampleWriter(self._folder / name))
        return self._writers[part]

    def drop(self, dropped: Dropped) -> None:
        """Leave a record out, with its reason on file; the first one is an error when the user asked for that."""
        if self._strict:
            raise refused(dropped)
        json.dump({**asdict(dropped.origin), "reason": dropped.reason}, self._dropped, ensure_ascii=False)
        self._dropped.write("\n")
        known = dropped.reason in self._reasons or len(self._reasons) < _KINDS_OF_REASONS
        self._reasons[dropped.reason if known else OTHER_REASONS] += 1

    def add(self, count: Count) -> None:
        """Count what came out of a source; a file with several splits is one file."""
        if count.name in self._counts:
            before = self._counts[count.name]
            count.formats += before.formats
            count.examples += before.examples
            count.dropped += before.dropped
            count.images_gone |= before.images_gone
        self._counts[count.name] = count

    def account(self) -> Account:
        """All of it, in the order of the files."""
        files = tuple(count.report() for count in self._counts.values())
        complete = not any(count.images_gone for count in self._counts.values())
        return Account(files, dict(self._reasons.most_common()), complete)


def examples(
    source: Source, rows: Iterable[Row], request: Request, count: Count
) -> Iterator[tuple[str, Example | Dropped]]:
    """What is in the rows of a source, each with the part it is for, counted.

    Rows that mean nothing alone wait for the end of their file, to be put together. Raises DataError for what cannot
    be understood, unless the request is lenient.
    """
    waiting: dict[tuple[Format, str], list[tuple[object, Origin]]] = {}
    for row in rows:
        try:
            format = request.forced or detect(row.value)
            if format is None:
                raise unknown_shape(row.value, row.origin)
            count.formats[format.name] += 1
            if format.group:
                waiting.setdefault((format, row.part), []).append((row.value, row.origin))
                continue
            for item in convert(row.value, row.origin, format, request.columns):
                yield row.part, _settled(item, source, request, count)
        except DataError as error:
            yield row.part, _forgiven(error, row.origin, request, count)
    for (format, part), group in waiting.items():
        assert format.group
        for value, origin in format.group(group):
            try:
                for item in convert(value, origin, format, request.columns):
                    yield part, _settled(item, source, request, count)
            except DataError as error:
                yield part, _forgiven(error, origin, request, count)


def _settled(item: Example | Dropped, source: Source, request: Request, count: Count) -> Example | Dropped:
    """The item with its images found, counted."""
    if isinstance(item, Example) and item.images:
        try:
            item = placed(item, source, request.base)
        except ImageGone as gone:
            count.images_gone = True
            item = Dropped(item.origin, str(gone))
    if isinstance(item, Example):
        count.examples += 1
    else:
        count.dropped += 1
    return item


def _forgiven(error: DataError, origin: Origin, request: Request, count: Count) -> Dropped:
    if not request.lenient:
        raise error
    count.dropped += 1
    return Dropped(origin, str(error).removeprefix(f"{origin}: "))


def refused(dropped: Dropped) -> DataError:
    """The error for a record that --strict does not let pass."""
    return DataError(f"{dropped.origin}: {dropped.reason}; correct it, or leave out --strict to go on without it")


def read_dropped(file: Path, limit: int) -> Iterator[Dropped]:
    """The first records that were left out."""
    with file.open(encoding="utf-8", errors=_ANY_NAME) as lines:
        for _, line in zip(range(limit), lines, strict=False):
            found = json.loads(line)
            yield Dropped(Origin(found["file"], found["line"], found["record"]), found["reason"])


def origins(sources: Sequence[tuple[Source, str]]) -> str:
    """The names of what was read, for a sentence."""
    names = list(dict.fromkeys(source.name for source, _ in sources))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
