"""Tool definitions and tool calls of every shape, as JSON text of OpenAI-style lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from llm_installer.data.formats.values import SkipRecord, absent, kind_of, missing, parsed, render

Call = Mapping[str, object]
_ARGUMENTS = ("arguments", "parameters", "args", "kwargs", "input", "inputs", "params")
"""Keys at which a call has its arguments."""
_MAY_BE_NULL = ("default", "const")
_NAMES = ("properties", "$defs", "definitions")
"""Keys of a JSON schema below which keys are names."""


def dump(value: object, what: str = "a tool or tool call") -> str:
    """JSON with the letters of every alphabet unescaped; what only tables have, such as dates, becomes text.

    Raises SkipRecord for what JSON cannot hold.
    """
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, default=lambda inner: render(inner, f"a value of {what}")
        )
    except (ValueError, TypeError):
        raise SkipRecord(f"{what} has a value that JSON cannot hold, such as NaN or infinity") from None


def read_calls(value: object, where: str) -> tuple[Call, ...]:
    """The calls in an object, a list or JSON text of either, none when it is missing. `where` is for messages.

    Arguments become objects, as chat templates expect. Raises SkipRecord for what is not a call.
    """
    value = parsed(value)
    if value is None or absent(value):
        return ()
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(_call(item, where) for item in given if not absent(item))


def _call(item: object, where: str) -> Call:
    body = item.get("function", item) if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
        raise SkipRecord(f"{where} is not a tool call with a 'name'")
    arguments = parsed(next((body[key] for key in _ARGUMENTS if not missing(body.get(key))), None))
    identity = {"id": item["id"]} if isinstance(item.get("id"), str) else {}
    function = {"name": body["name"], "arguments": {} if missing(arguments) else arguments}
    return {**identity, "type": "function", "function": function}


def read_tools(value: object, where: str) -> str:
    """Tool definitions as JSON text, "" when there are none. Raises SkipRecord for what is not a tool."""
    if isinstance(value, str):
        return _tools_from_text(value, where)
    if absent(value):
        return ""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise SkipRecord(f"{where} is {kind_of(value)} where a list of tools is expected")
    tools = [_tool(tool, where) for tool in value if not absent(tool)]
    return dump(tools) if tools else ""


# Datasets repeat the same few definitions in every row.
@lru_cache(maxsize=512)
def _tools_from_text(value: str, where: str) -> str:
    if absent(value):
        return ""
    inner = parsed(value)
    if isinstance(inner, str):
        raise SkipRecord(f"{where} is text that is not JSON")
    return read_tools(inner, where)


def _tool(tool: object, where: str) -> object:
    if not isinstance(tool, Mapping) or not ("function" in tool or "name" in tool):
        raise SkipRecord(f"{where} holds something that is not a tool with a 'name'")
    sound = _without_nulls(tool)
    return sound if "function" in tool else {"type": "function", "function": sound}


def _without_nulls(value: object, inside: str = "") -> object:
    """A definition without keys that are null. Only tables that give every tool the keys of all others write them.

    A property may be named default; the value of a parameter of that name may be null, and stays.
    """
    if isinstance(value, Mapping):
        return {
            key: _without_nulls(inner, key)
            for key, inner in value.items()
            if inner is not None or (key in _MAY_BE_NULL and inside not in _NAMES)
        }
    return [_without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value
