"""How a chat template writes tool calls into an answer, found out with a made-up one, and calls read out of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.chat_template import Template
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.formats.tools import Call, dump, read_calls
from llm_installer.data.formats.values import SkipRecord

NAME, VALUE = "qwertz", "zwtreq"
"""Of the made-up call: its name, and the value of its one argument."""
ARGUMENTS = {"b": VALUE}
_CALL = {"id": "call00001", "type": "function", "function": {"name": NAME, "arguments": ARGUMENTS}}
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class CallForm:
    """What stands around the JSON of a call."""

    before: str
    """Up to the JSON, or up to the name where that stands outside of it."""
    between: str | None
    """From the name to the JSON of the arguments; None where the JSON has the name."""
    after: str
    example: object
    """The JSON of the made-up call, or of its arguments."""

    @property
    def mark(self) -> str:
        """What no text before a call contains; empty where a call begins with its JSON."""
        return self.before.strip()

    def read(self, text: str, known: Collection[str]) -> tuple[str, tuple[Call, ...]]:
        """The text before the calls of an answer, and the calls; all of it and none where it does not read as calls.

        JSON without a mark is a call only by one of the `known` names.
        """
        found = self._marked(text) if self.mark else _bare(text, known)
        return found or (text, ())

    def may_begin(self, text: str) -> int:
        """Where in the text of an answer so far a call begins, or may; its length where none does."""
        if not self.mark:
            return next((found.start() for found in re.finditer(r"(?:^|\n)\s*(?:[\[{]|$)", text)), len(text))
        at = text.find(self.mark)
        if at >= 0:
            return at
        longest = min(len(text), len(self.mark) - 1)
        return len(text) - next((n for n in range(longest, 0, -1) if self.mark.startswith(text[-n:])), 0)

    def _marked(self, text: str) -> tuple[str, tuple[Call, ...]] | None:
        first, calls = text.find(self.mark), list[Call]()
        at = first
        while at >= 0:
            read = self._call(text, at + len(self.mark))
            if read is None:
                return None
            at = text.find(self.mark, read[1])
            calls += read[0]
        return (text[:first].rstrip(), tuple(calls)) if calls else None

    def _call(self, text: str, at: int) -> tuple[Sequence[Call], int] | None:
        """The calls in the JSON that begins at or behind `at`, and where it ends."""
        name = ""
        if self.between is not None:
            named = re.compile(rf"\s*([^\s<>\[\]{{}}|]+)\s*{re.escape(self.between.strip())}").match(text, at)
            if named is None:
                return None
            name, at = named[1], named.end()
        try:
            value, end = _DECODER.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
            return read_calls({"name": name, "arguments": value} if name else value, ""), end
        except (ValueError, RecursionError, SkipRecord):
            return None


def call_form(template: Template) -> CallForm | None:
    """How answers call tools under this template; None where it does so in a form that is not JSON."""
    calls = dump([_CALL])
    messages = (Message("user", "a"), Message("assistant", "", calls))
    tools = dump([{"type": "function", "function": {"name": NAME, "description": "c", "parameters": {}}}])
    for given in (tools, ""):
        try:
            row = template.rows(Example(messages, Origin(""), tools=given))[-1]
        except CannotRender:
            continue
        start, end = row.supervised[-1]
        answer = row.text[start:end].removesuffix(template.end)
        return next(_forms(answer), None)
    return None


def _forms(answer: str) -> Iterator[CallForm]:
    """The readings of an answer that is the made-up call."""
    for found in re.finditer(r"[\[{]", answer):
        try:
            value, end = _DECODER.raw_decode(answer, found.start())
        except ValueError:
            continue
        before, after = answer[: found.start()], answer[end:]
        if _names(value) == [NAME]:
            yield CallForm(before, None, after, value)
        elif value == ARGUMENTS and NAME in before:
            head, _, between = before.rpartition(NAME)
            if head.strip() and between.strip():
                yield CallForm(head, between, after, value)


def _names(value: object) -> list[object]:
    try:
        calls = read_calls(value, "")
    except SkipRecord:
        return []
    bodies = [call["function"] for call in calls]
    return [body.get("name") for body in bodies if isinstance(body, dict)]


def _bare(text: str, known: Collection[str]) -> tuple[str, tuple[Call, ...]] | None:
    """Calls that are the rest of a text from the beginning of a line on."""
    for found in re.finditer(r"(?:^|\n)\s*(?=[\[{])", text):
        try:
            calls = read_calls(_DECODER.decode(text[found.end() :].strip()), "")
        except (ValueError, RecursionError, SkipRecord):
            continue
        names = [body.get("name") for call in calls if isinstance(body := call["function"], dict)]
        if names and set(names) <= set(known):
            return text[: found.start()].rstrip(), calls
    return None
