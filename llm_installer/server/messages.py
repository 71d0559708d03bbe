"""The conversation in a chat request, as this program's own messages; strict, since a client can be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from llm_installer.core.examples import Message, Role
from llm_installer.core.text import shortened
from llm_installer.data.formats.parts import IMAGE_MARK
from llm_installer.data.formats.tools import dump, read_calls, read_tools
from llm_installer.data.formats.values import SkipRecord
from llm_installer.server.fields import refuse_depth
from llm_installer.server.problems import Problem, invalid

ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_NAMES = 64
MOST_TOOLS = 128


def read_messages(value: object) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The turns, and the data: addresses of their images, for each of which a turn has a mark. Raises Problem."""
    images: list[str] = []
    turns = [_message(turn, f"messages[{i}]", images) for i, turn in enumerate(cast("list[object]", value))]
    if images and sum(turn.content.count(IMAGE_MARK) for turn in turns) != len(images):
        raise invalid(f"A text beside images may not contain {IMAGE_MARK}", "messages")
    return tuple(turns), tuple(images)


def read_tool_list(value: object) -> str:
    """Tool definitions as JSON text, as data has them; empty for none. Raises Problem."""
    if len(cast("list[object]", value or [])) > MOST_TOOLS:
        raise invalid(f"A request may have {MOST_TOOLS} tools", "tools")
    for i, tool in enumerate(cast("list[object]", value or [])):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(tool, dict) or tool.get("type", "function") != "function" or not isinstance(function, dict):
            raise invalid(f'tools[{i}] must be {{"type": "function", "function": {{...}}}}', "tools")
        name, parameters = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not 0 < len(name) <= _NAMES:
            raise invalid(f"tools[{i}].function.name must be a text of up to {_NAMES} characters", "tools")
        if parameters is not None and not isinstance(parameters, dict):
            raise invalid(f"tools[{i}].function.parameters must be an object", "tools")
    try:
        return read_tools(value, "tools")
    except SkipRecord as error:
        raise invalid(str(error), "tools") from None


def tool_names(tools: str) -> tuple[str, ...]:
    """The names in tool definitions."""
    return tuple(str(tool["function"]["name"]) for tool in json.loads(tools)) if tools else ()


def tool_arguments(tools: str) -> dict[str, Mapping[str, object]]:
    """The schemas of arguments in tool definitions, by the names of tools."""
    found: dict[str, Mapping[str, object]] = {}
    for tool in json.loads(tools) if tools else ():
        parameters = tool["function"].get("parameters") or {}
        properties = parameters.get("properties")
        found[str(tool["function"]["name"])] = properties if isinstance(properties, dict) else {}
    return found


def _message(turn: object, where: str, images: list[str]) -> Message:
    if not isinstance(turn, dict):
        raise invalid(f"{where} must be an object with role and content", "messages")
    role = ROLES.get(turn.get("role")) if isinstance(turn.get("role"), str) else None
    if role is None:
        raise invalid(f"{where}.role must be one of {', '.join(map(str, ROLES))}", "messages")
    calls = _calls(turn.get("tool_calls"), where) if role == "assistant" else ""
    content = turn.get("content")
    if content is None and not (role == "assistant" and (calls or "content" in turn)):
        raise invalid(f"{where}.content is missing", "messages")
    before = len(images)
    said = _content(content, f"{where}.content", images)
    if len(images) > before and role != "user":
        raise invalid(f"{where} has an image, and only users show images", "messages")
    thought, id = turn.get("reasoning_content"), turn.get("tool_call_id")
    return Message(
        role,
        said,
        calls,
        tool_call_id=id if role == "tool" and isinstance(id, str) else "",
        reasoning_content=thought if role == "assistant" and isinstance(thought, str) else "",
    )


def _calls(value: object, where: str) -> str:
    """Calls that come back from a client: their arguments as text become objects, as chat templates want them."""
    if not value:
        return ""
    if not isinstance(value, list):
        raise invalid(f"{where}.tool_calls must be a list", "messages")
    try:
        calls = read_calls(value, f"{where}.tool_calls")
        refuse_depth(list(calls), f"{where}.tool_calls", "messages")
        return dump(list(calls), f"{where}.tool_calls") if calls else ""
    except SkipRecord as error:
        raise invalid(str(error), "messages") from None


def _content(value: object, where: str, images: list[str]) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise invalid(f"{where} must be a text or a list of parts", "messages")
    return "".join(_part(part, f"{where}[{i}]", images) for i, part in enumerate(value))


def _part(part: object, where: str, images: list[str]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind in ("text", "refusal") and isinstance(part.get(kind), str):
        return str(part[kind])
    if not isinstance(part, dict) or kind != "image_url":
        raise invalid(f"{where} must be a text part or an image_url part", "messages")
    given = part.get("image_url")
    address = given.get("url") if isinstance(given, dict) else given
    if not isinstance(address, str) or not address.startswith("data:image/"):
        raise _not_inside(where, shortened(str(address), 60))
    images.append(address)
    return IMAGE_MARK


def _not_inside(where: str, shown: str) -> Problem:
    words = "an image must come inside the request, as data:image/png;base64,...; files and the web are not read"
    return invalid(f"{where}: {words}, not {shown}", "messages")
