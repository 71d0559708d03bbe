"""Records in, two stores and an account out: what became an example, what is skipped, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.core.garbage import rare_collections
from llm_installer.data.formats.answers import AS_JSON, could_be_json
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Source
from llm_installer.data.store.arrow import ExampleWriter
from llm_installer.data.store.conversion import Conversion, Count, FileSummary, Waiting, examples, put_together
from llm_installer.data.store.gather_parallel import Converted, convert_apart

TRAIN, VALIDATION, DROPPED, ACCOUNT = "train.arrow", "validation.arrow", "dropped.jsonl", "account.json"
_KINDS_OF_REASONS = 1000
OTHER_REASONS = "other reasons"
_ANY_NAME = "surrogatepass"
"""File names need not be text at all; they are written as Python holds them."""


@dataclass(frozen=True)
class Account:
    """What became of all records."""

    files: tuple[FileSummary, ...]
    reasons: dict[str, int]
    """How many records are skipped, by reason, the most frequent first."""
    complete: bool
    """False when images were missing: they may be there the next time."""

    @classmethod
    def read(cls, file: Path) -> Account:
        """The account that `gather` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(FileSummary(**file) for file in found["files"]), found["reasons"], found["complete"])


def gather(conversion: Conversion, folder: Path) -> Account:
    """Read everything into stores in `folder`, with an account of it. Raises DataError for what cannot be understood.

    A part without examples gets no store.
    """
    with ExitStack() as stack:
        stack.enter_context(rare_collections())
        out = _Out(folder, conversion.strict, stack)
        for source, part in conversion.sources:
            out.add(_take(source, part, conversion, out))
        account = out.account()
    (folder / ACCOUNT).write_text(json.dumps(asdict(account)), encoding="utf-8")
    return account


def _take(source: Source, part: str, conversion: Conversion, out: _Out) -> Count:
    """Write everything that is in a source; what was counted."""
    count = Count(source.name)
    apart = convert_apart(source, conversion)
    if apart is None:
        rest = examples(source, read_rows(source), conversion, count)
    else:
        waiting: Waiting = {}
        with closing(apart):
            for found in apart:
                _take_converted(found, part, out)
                count.add(found.count)
                for key, rows in found.waiting.items():
                    waiting.setdefault(key, []).extend(rows)
        rest = put_together(source, waiting, conversion, count)
    for side, item in rest:
        if isinstance(item, Example):
            out.writer(part or side).append(item)
        else:
            out.drop(item)
    return count


def _take_converted(found: Converted, part: str, out: _Out) -> None:
    for side, packed in found.stores.items():
        out.writer(part or side).append_packed(packed)
    for dropped in found.dropped:
        out.drop(dropped)
    if found.error:
        raise found.error


class _Out:
    """Where examples and skipped records go."""

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
        """Skip a record, with its reason on file; in a strict conversion the first one is an error."""
        if self._strict:
            raise refused(dropped)
        json.dump({**asdict(dropped.origin), "reason": dropped.reason}, self._dropped, ensure_ascii=False)
        self._dropped.write("\n")
        known = dropped.reason in self._reasons or len(self._reasons) < _KINDS_OF_REASONS
        self._reasons[dropped.reason if known else OTHER_REASONS] += 1

    def add(self, count: Count) -> None:
        """Count what came out of a source; a file with several splits is one file."""
        if count.name in self._counts:
            self._counts[count.name].add(count)
        else:
            self._counts[count.name] = count

    def account(self) -> Account:
        """All of it, in the order of the files."""
        files = tuple(count.summary() for count in self._counts.values())
        complete = not any(count.images_gone for count in self._counts.values())
        return Account(files, dict(self._reasons.most_common()), complete)


def refused(dropped: Dropped) -> DataError:
    """The error for a record that --strict does not allow to be skipped."""
    json = f"add {AS_JSON} to train on it as JSON text, " if could_be_json(dropped.reason) else ""
    return DataError(f"{dropped.origin}: {dropped.reason}; {json}correct it, or run without --strict to skip it")


def read_dropped(file: Path, limit: int) -> Iterator[Dropped]:
    """The first `limit` records that were skipped."""
    with file.open(encoding="utf-8", errors=_ANY_NAME) as lines:
        for _, line in zip(range(limit), lines, strict=False):
            found = json.loads(line)
            yield Dropped(Origin(found["file"], found["line"], found["record"]), found["reason"])


def origins(sources: Sequence[tuple[Source, str]]) -> str:
    """The names of what was read, for a sentence."""
    names = list(dict.fromkeys(source.name for source, _ in sources))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
