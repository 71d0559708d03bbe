"""How a chat template writes tool calls into an answer, found out with a made-up one, and calls read out of answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.encoding.chat_template import Template
from llm_installer.data.encoding.tagged_calls import Tags, tags_of, typed
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.encoding.thought_forms import ThoughtForm, thought_form
from llm_installer.data.formats.tools import Call, dump, read_calls
from llm_installer.data.formats.values import SkipRecord

NAME, VALUE = "qwertz", "zwtreq"
"""Of the made-up call: its name, and the value of its one argument."""
ARGUMENTS = {"b": VALUE}
_TWO = {"wertzu": VALUE, "ertzui": "reqzwt"}
_ID = "call00001"
Tools = Mapping[str, Mapping[str, object]]
"""Tools by name, each with the schemas of its arguments."""
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class CallForm:
    """What stands around a call, which is JSON or has tags around its arguments."""

    before: str
    """Up to the JSON, or up to the name where that stands outside of it."""
    between: str | None
    """From the name to the JSON of the arguments; None where the JSON has the name, or there are tags."""
    after: str
    example: object
    """The JSON of the made-up call, or of its arguments; None where there are tags."""
    lead: str = ""
    """What an answer that is a call begins with, such as the end of a thought that its prompt opens."""
    tags: Tags | None = None

    @property
    def mark(self) -> str:
        """What no text before a call contains; empty where a call begins with its JSON."""
        return self.before.strip()

    @property
    def marks(self) -> str:
        """All that is written around a call."""
        return self.tags.marks if self.tags else f"{self.before}{self.between or ''}{self.after}"

    def read(self, text: str, known: Tools) -> tuple[str, tuple[Call, ...]]:
        """The text before the calls of an answer, and the calls; all of it and none where it does not read as calls.

        JSON without a mark is a call only by one of the `known` names.
        """
        found = self._marked(text, known) if self.mark else _bare(text, known)
        return found or (text, ())

    def may_begin(self, text: str) -> int:
        """Where in the text of an answer so far a call begins, or may, and the spaces before it; its length where none
        does."""
        if not self.mark:
            at = next((found.start() for found in re.finditer(r"(?:^|\n)\s*(?:[\[{]|$)", text)), len(text))
        elif (at := text.find(self.mark)) < 0:
            longest = min(len(text), len(self.mark) - 1)
            at = len(text) - next((n for n in range(longest, 0, -1) if self.mark.startswith(text[-n:])), 0)
        return len(text[:at].rstrip())

    def _marked(self, text: str, known: Tools) -> tuple[str, tuple[Call, ...]] | None:
        first, calls = text.find(self.mark), list[Call]()
        at = first
        while at >= 0:
            read = self._call(text, at + len(self.mark), known)
            if read is None:
                return None
            at = text.find(self.mark, read[1])
            calls += read[0]
        return (text[:first].rstrip(), tuple(calls)) if calls else None

    def _call(self, text: str, at: int, known: Tools) -> tuple[Sequence[Call], int] | None:
        """The calls in what begins at or behind `at`, and where it ends."""
        try:
            return self._tagged(self.tags, text, at, known) if self.tags else self._json(text, at)
        except (ValueError, RecursionError, SkipRecord):
            return None

    def _tagged(self, tags: Tags, text: str, at: int, known: Tools) -> tuple[Sequence[Call], int] | None:
        found = tags.calls(text, at)
        if found is None:
            return None
        calls = [
            {
                "name": name,
                "arguments": {key: typed(value, known.get(name, {}).get(key)) for key, value in given.items()},
            }
            for name, given in found[0]
        ]
        return read_calls(calls, ""), found[1]

    def _json(self, text: str, at: int) -> tuple[Sequence[Call], int] | None:
        name = ""
        if self.between is not None:
            between = re.escape(self.between.strip()).replace(_ID, r"[\w-]+")
            named = re.compile(rf"\s*([^\s<>\[\]{{}}|]+)\s*{between}").match(text, at)
            if named is None:
                return None
            name, at = named[1], named.end()
        value, end = _DECODER.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        return read_calls({"name": name, "arguments": value} if name else value, ""), end


def call_form(template: Template) -> CallForm | None:
    """How answers call tools under this template; None where it does so in a form that is not known."""
    wanted: tuple[list[dict[str, str]], ...] = ([ARGUMENTS], [_TWO], [{}], [_TWO, _TWO])
    for given in (True, False):
        answer, two, none, twice = (_answer(template, calls, given) for calls in wanted)
        if answer is None:
            continue
        tags = tags_of(two, none or "", twice or "", NAME, _TWO) if two else None
        tagged = CallForm(tags.before, None, tags.close, None, tags=tags) if tags else None
        found = next(_forms(answer), None) or tagged
        return found and _led(found, thought_form(template))
    return None


def _answer(template: Template, arguments: Sequence[Mapping[str, str]], with_tools: bool) -> str | None:
    """An answer of a call with each of these arguments; None where the template does not render it."""
    calls = [{"id": _ID, "type": "function", "function": {"name": NAME, "arguments": one}} for one in arguments]
    messages = (Message("user", "a"), Message("assistant", "", dump(calls)))
    tools = dump([{"type": "function", "function": {"name": NAME, "description": "c", "parameters": {}}}])
    try:
        row = template.rows(Example(messages, Origin(""), tools=tools if with_tools else ""))[-1]
    except CannotRender:
        return None
    start, end = row.supervised[-1]
    return row.text[start:end].removesuffix(template.end)


def _led(form: CallForm, thoughts: ThoughtForm | None) -> CallForm:
    """The form with what belongs to a thought, or opens every answer, apart from what begins a call."""
    before = form.before
    for mark in (thoughts.after, thoughts.head) if thoughts else ():
        at = before.rfind(mark) + len(mark) if mark and mark in before else 0
        if at and before[at:].strip():
            tags = form.tags and replace(form.tags, before=before[at:])
            return replace(form, before=before[at:], lead=before[:at], tags=tags)
    return form


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
            if head.strip():
                yield CallForm(head, between, after, value)


def _names(value: object) -> list[object]:
    try:
        calls = read_calls(value, "")
    except SkipRecord:
        return []
    bodies = [call["function"] for call in calls]
    return [body.get("name") for body in bodies if isinstance(body, dict)]


def _bare(text: str, known: Tools) -> tuple[str, tuple[Call, ...]] | None:
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
