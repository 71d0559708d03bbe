"""Messages as the turns that a chat template takes: what it has no place for goes where it has one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from llm_installer.core.examples import Example, Message
from llm_installer.data.encoding.template_probes import Abilities, CannotRender, Turns
from llm_installer.data.formats.tools import dump

_WRITTEN_THOUGHT = re.compile(r"\s*(?:<think>)?((?:(?!<think>).)*?)</think>\s*", re.DOTALL)
"""What an answer begins with; a model whose prompt opens the thought writes its end alone."""
_ID_LENGTH = 9
_Calls: TypeAlias = "list[dict[str, object]]"


def adapt(messages: Sequence[Message], tools: str, takes_tools: bool, can: Abilities) -> tuple[Turns, object]:
    """The turns for a template that can do this, and tool definitions where it takes them.

    The system text comes first, in the first question where there is no system role. Raises CannotRender when there is
    nowhere to put it.
    """
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    if tools and not takes_tools:
        system = "\n\n".join(filter(None, [system, f"You can call these tools:\n{tools}"]))
    said = _with_ids([m for m in messages if m.role != "system"]) if can.short_ids else messages
    turns = _joined((m, _turn(m, can)) for m in said if m.role != "system")
    if system and can.system:
        turns.insert(0, {"role": "system", "content": system})
    elif system:
        first = next((t for t in turns if t["role"] == "user"), None)
        if first is None:
            raise CannotRender("its chat template has no system role and there is no user turn to put the text in")
        first["content"] = f"{system}\n\n{first['content']}"
    return turns, (json.loads(tools) if tools and takes_tools else None)


def thought_apart(message: Message, can: Abilities) -> Message:
    """An answer whose thought, written in <think> marks, is in its own place, where the template knows thoughts."""
    if not can.thought and not can.removes_thoughts:
        return message
    found = _WRITTEN_THOUGHT.match(message.content) if "</think>" in message.content else None
    if message.role != "assistant" or not found:
        return message
    thought, given = found[1].strip("\n"), message.reasoning_content
    if not thought.strip() or thought.strip() in given:
        thought = given
    elif given:
        thought = f"{given}\n\n{thought}"
    return replace(message, content=message.content[found.end() :], reasoning_content=thought)


def thought_ends(message: Message, can: Abilities) -> bool:
    """Whether an answer that begins with a thought, for a template that knows thoughts, ends it."""
    opens = message.content.lstrip().startswith("<think>") and "</think>" not in message.content
    return not (opens and (can.thought or can.removes_thoughts))


def with_thought(example: Example) -> bool:
    """Whether its last answer begins with a thought."""
    last = example.messages[-1]
    return bool(last.reasoning_content) or _WRITTEN_THOUGHT.match(last.content) is not None


def _turn(message: Message, can: Abilities) -> dict[str, object]:
    turn: dict[str, object] = {"role": message.role, "content": message.content}
    if message.role == "tool":
        if not can.tool_role:
            return turn | {"role": "user"}
        return turn | {"tool_call_id": message.tool_call_id} if message.tool_call_id else turn
    message = thought_apart(message, can)
    turn["content"] = message.content
    if message.reasoning_content and can.thought:
        turn[can.thought] = message.reasoning_content
    if message.tool_calls and can.calls is None:
        turn["content"] = "\n".join(filter(None, [str(turn["content"]), message.tool_calls]))
    elif message.tool_calls and can.calls:
        calls: _Calls = json.loads(message.tool_calls)
        turn["tool_calls"] = [_with_text(one) for one in calls] if can.calls.as_text else calls
        if not turn["content"] or not can.calls.beside_text:
            turn["content"] = can.calls.empty
    return turn


def _with_text(call: dict[str, object]) -> dict[str, object]:
    """A call whose arguments are JSON text."""
    function = call["function"]
    assert isinstance(function, dict)
    return {**call, "function": {**function, "arguments": dump(function["arguments"])}}


def _joined(turns: Iterable[tuple[Message, dict[str, object]]]) -> Turns:
    """The turns, with results of tools that became questions joined to the questions beside them."""
    made: Turns = []
    became = False
    for message, turn in turns:
        result = message.role == "tool" and turn["role"] == "user"
        if made and made[-1]["role"] == "user" == turn["role"] and (result or became):
            made[-1]["content"] = f"{made[-1]['content']}\n\n{turn['content']}"
        else:
            made.append(turn)
        became = result or (became and turn["role"] == "user")
    return made


def _with_ids(messages: Sequence[Message]) -> list[Message]:
    """The messages with an id of nine characters for every call and its result, those given where they fit.

    A result that names no call answers the first that has no answer yet.
    """
    fitting: dict[str, str] = {}
    waiting: list[str] = []
    made: list[Message] = []
    for message in messages:
        if message.tool_calls:
            calls: _Calls = json.loads(message.tool_calls)
            waiting = []
            for one in calls:
                given = str(one.get("id") or "")
                fits = len(given) == _ID_LENGTH and given.isalnum()
                one["id"] = fitting[given] = given if fits else f"made{len(fitting):05}"
                waiting.append(fitting[given])
                fitting[waiting[-1]] = waiting[-1]
            message = replace(message, tool_calls=dump(calls))
        elif message.role == "tool":
            id = fitting.get(message.tool_call_id) if message.tool_call_id else next(iter(waiting), None)
            message = replace(message, tool_call_id=id or f"made{len(fitting):05}")
            waiting = [each for each in waiting if each != id]
        made.append(message)
    return made
