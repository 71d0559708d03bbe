"""A cleaned copy of a dataset: every record that can be trained on, in one shape, and a list of all changes."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Message, Origin
from llm_installer.data.reading.json_errors import not_json
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Row, Source, data_suffix
from llm_installer.data.reading.text_files import text_lines
from llm_installer.data.store.conversion import Count, FileSummary, examples
from llm_installer.data.store.keys import row_key
from llm_installer.data.store.load import DataRequest, conversion_of

_IN_MEMORY = 1000
_AS_PYTHON = "was written as Python, not as JSON"
_TURNS = "turns were joined, renamed, or reduced to what is trained on"
_COPY = "an exact copy of an earlier record"
_HALF = "it contains half a character, as when a text is cut in the middle of an emoji"
_BY_LINE = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Change:
    """A record that is written differently from how it was read."""

    origin: Origin
    change: str


@dataclass
class Fixed:
    """What became of a dataset that was cleaned."""

    out: Path
    list_file: Path
    """Every change and every skipped record, one JSON object per line."""
    written: int = 0
    changed_count: int = 0
    skipped_count: int = 0
    changed: list[Change] = field(default_factory=list)
    """The first thousand."""
    skipped: list[Dropped] = field(default_factory=list)
    """The first thousand."""
    files: list[FileSummary] = field(default_factory=list)


def fix(asked: DataRequest, out: Path) -> Fixed:
    """Write every record of what is asked for that can be trained on to `out`, as JSON lines that any tool reads.

    Validation records go to a file of their own beside it. Lines that are not JSON are repaired where their meaning
    is plain. Raises DataError when nothing can be trained on, or when a file would be overwritten.
    """
    conversion = replace(conversion_of(asked)[0], strict=False, lenient=True)
    with ExitStack() as stack:
        copy = _Copy(out, stack)
        for source, reserved in conversion.sources:
            count = Count(source.name)
            for part, item in examples(source, copy.records(source), conversion, count):
                copy.take(part or reserved, item)
            copy.fixed.files.append(count.summary())
        if not copy.fixed.written:
            first = copy.fixed.skipped[:1]
            why = f"{first[0].origin}: {first[0].reason}" if first else "there are no records"
            raise DataError(f"Nothing in {asked.data} can be trained on, so {out} was not written; {why}")
        return copy.publish()


class _Copy:
    """The files being written; they get their names when everything is written, and are deleted after an error."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._out = out
        self._files: dict[Path, TextIO] = {}
        self._seen: set[int] = set()
        self._row: Row | None = None
        self.fixed = Fixed(out, out.with_name(f"{out.stem}.changes.jsonl"))
        self._list = self._open(self.fixed.list_file)

    def records(self, source: Source) -> Iterator[Row]:
        """The records of a source; the one that is being converted is remembered."""
        for item in _repaired(source):
            if isinstance(item, Dropped):
                self._skip(item)
                continue
            self._row, change = item
            if change:
                self._change(self._row.origin, change)
            yield self._row

    def take(self, part: str, item: Example | Dropped) -> None:
        """Write an example, or note why it is skipped."""
        if isinstance(item, Example):
            try:
                key = row_key(item)
            except UnicodeEncodeError:
                item = Dropped(item.origin, _HALF)
            else:
                if key in self._seen:
                    item = Dropped(item.origin, _COPY)
        if isinstance(item, Dropped):
            self._skip(item)
            return
        self._seen.add(key)
        record = plain(item)
        value = self._row.value if self._row else None
        if isinstance(value, Mapping) and "messages" in value and value["messages"] != record.get("messages"):
            self._change(item.origin, _TURNS)
        name = f"{self._out.stem}.validation{self._out.suffix}" if part == "validation" else self._out.name
        _write(self._open(self._out.with_name(name)), record)
        self.fixed.written += 1

    def publish(self) -> Fixed:
        """Give the files their names. What was written."""
        for path, file in self._files.items():
            file.close()
            os.replace(_unfinished(path), path)
        return self.fixed

    def _open(self, path: Path) -> TextIO:
        if path not in self._files:
            if path.exists():
                raise DataError(f"{path} exists and is not overwritten; name another file, or delete it")
            try:
                file = self._stack.enter_context(_unfinished(path).open("w", encoding="utf-8"))
            except OSError as error:
                raise DataError(f"{path} cannot be written ({error.strerror}); name another file") from None
            self._stack.callback(_unfinished(path).unlink, missing_ok=True)
            self._files[path] = file
        return self._files[path]

    def _change(self, origin: Origin, change: str) -> None:
        self.fixed.changed_count += 1
        if len(self.fixed.changed) < _IN_MEMORY:
            self.fixed.changed.append(Change(origin, change))
        _write(self._list, {**_place(origin), "change": change})

    def _skip(self, dropped: Dropped) -> None:
        self.fixed.skipped_count += 1
        if len(self.fixed.skipped) < _IN_MEMORY:
            self.fixed.skipped.append(dropped)
        _write(self._list, {**_place(dropped.origin), "left_out": dropped.reason})


def plain(example: Example) -> dict[str, object]:
    """The example in the shape that every tool knows: messages, prompt and completion, or text."""
    if example.kind == "text":
        return {"text": example.messages[-1].content}
    if example.kind == "completion":
        return {"prompt": example.messages[0].content, "completion": example.messages[-1].content}
    record: dict[str, object] = {"messages": [_turn(message) for message in example.messages]}
    if example.tools:
        record["tools"] = json.loads(example.tools)
    if example.images:
        record["images"] = list(example.images)
    return record


def _turn(message: Message) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = json.loads(message.tool_calls)
    aside = {"tool_call_id": message.tool_call_id, "reasoning_content": message.reasoning_content}
    turn |= {name: said for name, said in aside.items() if said}
    return turn if message.supervised else {**turn, "weight": 0}


def _repaired(source: Source) -> Iterator[tuple[Row, str] | Dropped]:
    """The records of a source, each with what was repaired. From the first broken line on, JSON lines are read one by
    one."""
    last = 0
    try:
        for row in read_rows(source):
            last = row.origin.line
            yield row, ""
        return
    except DataError:
        if data_suffix(source.member or source.path.name) not in _BY_LINE or _is_document(source):
            raise
    for number, line in text_lines(source):
        if number > last and line.strip():
            yield _repaired_line(line.strip(), Origin(source.name, number))


def _is_document(source: Source) -> bool:
    """Whether the file is one JSON value over many lines, in which single lines cannot be repaired."""
    first = next((line.strip() for _, line in text_lines(source) if line.strip()), "")
    return not first.startswith("{") or not first.rstrip(",").endswith("}")


def _repaired_line(line: str, origin: Origin) -> tuple[Row, str] | Dropped:
    try:
        return Row(json.loads(line), origin), ""
    except json.JSONDecodeError as error:
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(line.rstrip(","))
            if isinstance(value, dict):
                return Row(value, origin), _AS_PYTHON
        return Dropped(origin, str(not_json(error, origin.file, origin.line)).removeprefix(f"{origin}, "))
    except (ValueError, RecursionError):
        return Dropped(origin, "a number too long to read, or brackets nested too deeply")


def _write(file: TextIO, record: Mapping[str, object]) -> None:
    json.dump(record, file, ensure_ascii=False)
    file.write("\n")


def _place(origin: Origin) -> dict[str, object]:
    number = {"line": origin.line} if origin.line else {"record": origin.record} if origin.record else {}
    return {"file": origin.file, **number}


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
