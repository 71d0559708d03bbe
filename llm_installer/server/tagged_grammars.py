"""The grammar of calls whose arguments stand between tags: names and arguments as the tools have them, in their order.

A text stands there as it is, without quotes, and ends where its tag comes; every other value is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import cast

from llm_installer.core.text import shortened
from llm_installer.data.encoding.tagged_calls import Tags, can_be_key, can_be_named
from llm_installer.server.guides import json_rule, quoted
from llm_installer.server.problems import Problem, invalid
from llm_installer.server.voices import Voice

NOT_ENFORCED = "This model's chat template writes calls in a form that cannot be enforced; let tool_choice be auto"
_MOST = 10_000
"""The longest text of which characters are counted."""
_REFERENCES = 8
"""How often one schema may name the next."""
SHARED = ("$defs", "definitions")
"""Where a tool defines schemas that those of its arguments name."""
Schema = Mapping[str, object]


@dataclass(frozen=True)
class _Writing:
    """How values end, as this template writes it."""

    voice: Voice
    tags: Tags
    mark: str
    """The tag behind a value, whatever comes then."""
    tail: str
    """That, and the spaces before it."""

    def literal(self, text: str) -> str:
        """A text in a rule."""
        return quoted(self.voice, text) or '""'


def tagged_rules(voice: Voice, tags: Tags, functions: Sequence[Mapping[str, object]], several: bool) -> list[str]:
    """Rules of which `calls` is a call of one of the functions, or of `several`. Raises Problem for what cannot be
    written so."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(tags.next, tags.close, strict=False))
    ends = "".join(letter for letter, _ in same)
    mark = next(iter(ends.split()), "")
    if not mark:
        raise invalid(NOT_ENFORCED, "tool_choice")
    writing = _Writing(voice, tags, mark, ends[: ends.index(mark) + len(mark)])
    again = several and tags.again.startswith(writing.tail)
    rules = [f"calls: {quoted(voice, tags.before)} call"]
    rules.append("call: " + " | ".join(f"call{i}" for i in range(len(functions))))
    for i, function in enumerate(functions):
        rules += _call_rules(writing, f"call{i}", function, again)
    return rules


def _call_rules(writing: _Writing, call: str, function: Mapping[str, object], again: bool) -> Iterator[str]:
    """A call of one function: `first` rules for what may come behind its name, `more` rules behind an argument."""
    tags, tail, literal = writing.tags, len(writing.tail), writing.literal
    name = str(function["name"])
    if not can_be_named(name):
        raise _cannot_stand(name)
    given = function.get("parameters")
    parameters = cast(Schema, given) if isinstance(given, dict) else {}
    needed = parameters.get("required")
    arguments = parameters.get("properties")
    schemas = cast("Mapping[str, object]", arguments) if isinstance(arguments, dict) else {}
    yield f"{call}: {literal(name)} {call}_first0"
    for at, (key, schema) in enumerate(schemas.items()):
        if not can_be_key(key):
            raise _cannot_stand(key)
        left_out = not (isinstance(needed, list) and key in needed)
        written = f"{literal(key + tags.middle)} {call}_value{at} {call}_more{at + 1}"
        for kind, before in (("first", tags.opening), ("more", tags.next[tail:])):
            yield f"{call}_{kind}{at}: {literal(before)} {written}" + (f" | {call}_{kind}{at + 1}" if left_out else "")
        yield from _value_rules(writing, f"{call}_value{at}", schema, parameters)
    yield f"{call}_first{len(schemas)}: {literal(tags.empty)}"
    another = f" | {literal(tags.again[tail:])} call" if again else ""
    yield f"{call}_more{len(schemas)}: {literal(tags.close[tail:])}{another}"


def _value_rules(writing: _Writing, name: str, given: object, parameters: Schema) -> Iterator[str]:
    """A value up to the end of the tag behind it, as the reader of calls understands it by its schema."""
    schema = _meant(given, parameters)
    texts = [text for text in _choices(schema) if writing.mark not in text]
    kinds = _kinds(schema)
    if texts:
        yield f"{name}: {' | '.join(writing.literal(text + writing.tail) for text in texts)}"
    elif kinds and "string" not in kinds:
        shared = {key: parameters[key] for key in SHARED if key in parameters}
        yield f"{name}: {name}_json {writing.literal(writing.tail)}"
        yield f"{name}_json: {json_rule({**schema, **shared})}"
    else:
        yield from _text_rules(writing, name, schema)


def _meant(given: object, parameters: Schema) -> Schema:
    """The schema of a value; one that only names another, which the tool defines beside its arguments, is that one."""
    for _ in range(_REFERENCES):
        named = given.get("$ref") if isinstance(given, dict) else None
        if not isinstance(given, dict) or not isinstance(named, str):
            break
        place, _, name = named.removeprefix("#/").partition("/")
        shared = parameters.get(place) if place in SHARED else None
        found = shared.get(name) if isinstance(shared, dict) else None
        if not isinstance(found, dict):
            break
        given = {**found, **{key: value for key, value in given.items() if key != "$ref"}}
    return cast(Schema, given) if isinstance(given, dict) else {}


def _text_rules(writing: _Writing, name: str, schema: Schema) -> Iterator[str]:
    """A text in which the tag behind it is nowhere, so that its end is found."""
    mark = re.escape(writing.mark).replace("/", r"\/")
    some = f"( /(?s:.{_length(schema)})/ & ~/(?s:.*){mark}(?s:.*)/ )"
    spaces = writing.tail[: len(writing.tail) - len(writing.mark)]
    if writing.voice.special.search(writing.mark):  # a token of its own, which ends every text
        yield f"{name}: {name.upper()} {writing.literal(writing.mark)}"
        yield f"{name.upper()}: {some} {json.dumps(spaces) if spaces else ''}"
    else:
        yield f"{name}: {name.upper()}"
        yield f"{name.upper()}: {some} {json.dumps(writing.tail)}"


def _length(schema: Schema) -> str:
    """How many characters a text may have, for a pattern."""
    low, high = schema.get("minLength", 0), schema.get("maxLength", _MOST)
    if type(low) is not int or type(high) is not int or not 0 <= low <= high:
        return "*"
    return f"{{{low},{high}}}" if high < _MOST else f"{{{low},}}" if low < _MOST else "*"


def _choices(schema: Schema) -> list[str]:
    """The values that a schema lists, as they are written; none where it lists none."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    values = cast("list[object]", listed) if isinstance(listed, list) else []
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]


def _kinds(schema: Schema) -> set[object]:
    """The types that a value may have; none where that is not known."""
    listed = schema.get("type")
    if isinstance(listed, (str, list)):
        return set(cast("list[object]", listed)) if isinstance(listed, list) else {listed}
    either = schema.get("anyOf", schema.get("oneOf"))
    found = [_kinds(each) if isinstance(each, dict) else set() for each in either] if isinstance(either, list) else []
    return set().union(*found) if found and all(found) else set()


def _cannot_stand(name: str) -> Problem:
    words = f"{shortened(name, 80)!r} cannot stand in a call as this model's chat template writes them"
    return invalid(f"{words}; rename it, or let tool_choice be auto", "tools")
