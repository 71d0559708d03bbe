"""From the fields of a request to what the engine is asked: prompts, tools, grammars. Runs beside the loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from llm_installer.server.answers import Forms, Tooling
from llm_installer.server.asking import Prompted
from llm_installer.server.call_grammars import call_grammar
from llm_installer.server.catalogue import Entry
from llm_installer.server.fields import CHAT, COMPLETION, Body, checked, parsed
from llm_installer.server.guides import json_grammar
from llm_installer.server.messages import read_messages, read_tool_list, tool_arguments, tool_names
from llm_installer.server.problems import invalid, too_long
from llm_installer.server.request import ServeRequest
from llm_installer.server.tagged_grammars import NOT_ENFORCED
from llm_installer.server.voices import Voice
from llm_installer.server.wishes import Wish, chat_limits, read_wish

COMPLETION_TOKENS = 16
"""The API's own limit of a completion that names none."""
MOST_PROMPTS = 128


@dataclass(frozen=True)
class Prepared:
    """What is asked, and what of it shapes the answer."""

    prompted: Prompted
    forms: Forms = field(default_factory=Forms)
    echoed: Sequence[str] = ()
    """What stands before the answers to each prompt of a completion."""


@dataclass(frozen=True)
class _Choice:
    """What tool_choice came to."""

    tools: str = ""
    """Definitions that the prompt has."""
    forced: tuple[str, ...] = ()
    """Tools of which one must be called."""
    several: bool = True


def read_chat(body: bytes) -> Body:
    """The fields of a chat request. Raises Problem."""
    return checked(parsed(body), CHAT, "messages")


def read_completion(body: bytes) -> Body:
    """The fields of a completion request. Raises Problem."""
    return checked(parsed(body), COMPLETION, "prompt")


def prepare_chat(fields: Body, entry: Entry, settings: ServeRequest, positions: int) -> Prepared:
    """What the engine is asked for a chat. Raises Problem."""
    wish = read_wish(fields, *chat_limits(fields), settings.rows)
    count = len(cast("list[object]", fields["messages"]))
    if count > positions:  # each has a token at least
        raise too_long(f"The prompt has {count:,} messages, and this model reads {positions:,} tokens with its answer")
    messages, images = read_messages(fields["messages"])
    choice = _tool_choice(fields)
    voice = entry.voice
    ids = voice.chat_ids(messages, choice.tools, images, positions)
    forms = Forms() if wish.schema else _forms(voice, choice, ids)
    prompted = Prompted(
        entry,
        wish,
        [ids],
        settings.max_tokens,
        images,
        special=forms.special,
        grammar=_grammar(wish, voice, choice),
    )
    return Prepared(prompted, forms)


def prepare_completion(fields: Body, entry: Entry, settings: ServeRequest, positions: int) -> Prepared:
    """What the engine is asked for a completion. Raises Problem."""
    limit, logprobs = cast("int | None", fields.get("max_tokens")), cast("int | None", fields.get("logprobs"))
    wish = read_wish(fields, limit, logprobs, settings.rows)
    echo = fields.get("echo") is True
    if echo and logprobs is not None:
        raise invalid("echo cannot go with logprobs: the likelihoods of a prompt are not computed", "echo")
    prompts = _prompts(fields["prompt"])
    if len(prompts) > MOST_PROMPTS:
        raise invalid(f"A request may have {MOST_PROMPTS} prompts", "prompt")
    voice, decode = entry.voice, entry.voice.encoder.tokenizer.decode
    ids = [voice.text_ids(each, positions) if isinstance(each, str) else voice.known_ids(each) for each in prompts]
    echoed = [(each if isinstance(each, str) else decode(each)) if echo else "" for each in prompts]
    grammar = _grammar(wish, voice, _Choice())
    return Prepared(Prompted(entry, wish, ids, COMPLETION_TOKENS, grammar=grammar), echoed=echoed)


def _prompts(value: object) -> list[str | list[int]]:
    if isinstance(value, str):
        return [value]
    some = cast("list[object]", value)
    return cast("list[str | list[int]]", [some] if isinstance(some[0], int) else some)


def _tool_choice(fields: Body) -> _Choice:
    tools, wanted = read_tool_list(fields.get("tools")), fields.get("tool_choice", "auto")
    names, several = tool_names(tools), fields.get("parallel_tool_calls") is not False
    if wanted == "none":
        return _Choice()
    if wanted == "auto":
        return _Choice(tools, (), several)
    if not tools:
        raise invalid("tool_choice needs tools", "tool_choice")
    if wanted == "required":
        return _Choice(tools, names, several)
    function = wanted.get("function") if isinstance(wanted, dict) and wanted.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        words = 'tool_choice must be none, auto, required, or {"type": "function", "function": {"name": ...}}'
        raise invalid(words, "tool_choice")
    if name not in names:
        raise invalid(f"tool_choice names {name!r}, which is not among the tools", "tool_choice")
    return _Choice(tools, (name,), several=False)


def _forms(voice: Voice, choice: _Choice, ids: Sequence[int]) -> Forms:
    """What is told from text in answers: calls, in a form of the template that is known, and thoughts."""
    calls = voice.calls if choice.tools else None
    tooling = Tooling(calls, tool_arguments(choice.tools), None if choice.several else 1) if calls else None
    forms = Forms(tooling, voice.thoughts, voice.opens_thought(ids))
    return replace(forms, special=voice.special.search(forms.marks) is not None)


def _grammar(wish: Wish, voice: Voice, choice: _Choice) -> str:
    if wish.schema and choice.forced:
        raise invalid("response_format and tool_choice contradict each other", "tool_choice")
    if wish.schema:
        return json_grammar(wish.schema)
    if not choice.forced:
        return ""
    if voice.calls is None:
        raise invalid(NOT_ENFORCED, "tool_choice")
    tools = [tool for tool in json.loads(choice.tools) if tool["function"]["name"] in choice.forced]
    return call_grammar(voice, voice.calls, tools, choice.several)
