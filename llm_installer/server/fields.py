"""The fields of requests: what each takes, in one row; the OpenAPI document is made of the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from llm_installer.core.text import shortened
from llm_installer.server.problems import invalid

Body = Mapping[str, object]
DEEPEST = 64
"""Levels of brackets that a request may have."""
MOST_STOPS = 4
MOST_BIASES = 1024
"""Each is added at each token, while others wait."""
MOST_TOP = 20
SEEDS = 1 << 63


@dataclass(frozen=True)
class Kind:
    """What a field may be: in words, as a test, and as JSON Schema."""

    words: str
    fits: Callable[[object], bool]
    schema: Mapping[str, object]


def number(low: float, high: float) -> Kind:
    """From `low` to `high`, both included."""
    return Kind(
        f"a number from {low:g} to {high:g}",
        lambda value: type(value) in (int, float) and low <= value <= high,  # type: ignore[operator]
        {"type": "number", "minimum": low, "maximum": high},
    )


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number from `low`, to `high` where there is one."""
    most = math.inf if high is None else high
    words = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    schema = {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high})
    return Kind(words, lambda value: type(value) is int and low <= value <= most, schema)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _stops(value: object) -> bool:
    some = [value] if isinstance(value, str) else value
    return isinstance(some, list) and len(some) <= MOST_STOPS and _texts(some) and all(some)


def _biases(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MOST_BIASES
        and all(
            key.isdecimal() and key.isascii() and len(key) < 10 and type(bias) in (int, float) and -100 <= bias <= 100
            for key, bias in value.items()
        )
    )


def _ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int and each >= 0 for each in value)


def _prompts(value: object) -> bool:
    if isinstance(value, str) or _ids(value):
        return True
    return isinstance(value, list) and bool(value) and (_texts(value) or all(map(_ids, value)))


_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
TEXT = Kind("a text", lambda value: isinstance(value, str), {"type": "string"})
FLAG = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
OBJECT = Kind("an object", lambda value: isinstance(value, dict), {"type": "object"})
LIST = Kind("a list", lambda value: isinstance(value, list), {"type": "array", "items": {"type": "object"}})
FILLED = Kind("a list that is not empty", lambda v: isinstance(v, list) and bool(v), {**LIST.schema, "minItems": 1})
STOP = Kind(
    f"a text, or up to {MOST_STOPS} of them, none empty",
    _stops,
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": MOST_STOPS}]},
)
BIAS = Kind(
    "an object of token ids, each with a number from -100 to 100",
    _biases,
    {"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
)
CHOICE = Kind(
    "a text or an object",
    lambda value: isinstance(value, (str, dict)),
    {"anyOf": [{"type": "string"}, {"type": "object"}]},
)
PROMPT = Kind(
    "a text, a list of texts, a list of token ids, or a list of such lists",
    _prompts,
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            _IDS,
            {"type": "array", "items": _IDS, "minItems": 1},
        ]
    },
)

COMMON: Mapping[str, Kind] = {
    "model": TEXT,
    "stream": FLAG,
    "stream_options": OBJECT,
    "max_tokens": whole(1),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "top_k": whole(-1),
    "min_p": number(0, 1),
    "seed": whole(-SEEDS, SEEDS - 1),
    "n": whole(1),
    "stop": STOP,
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "logit_bias": BIAS,
    "response_format": OBJECT,
}
CHAT: Mapping[str, Kind] = {
    **COMMON,
    "messages": FILLED,
    "max_completion_tokens": whole(1),
    "logprobs": FLAG,
    "top_logprobs": whole(0, MOST_TOP),
    "tools": LIST,
    "tool_choice": CHOICE,
    "parallel_tool_calls": FLAG,
}
COMPLETION: Mapping[str, Kind] = {**COMMON, "prompt": PROMPT, "logprobs": whole(0, MOST_TOP), "echo": FLAG}

_NONE: tuple[object, ...] = ()
_GRAMMARS = ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"]
REFUSED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "audio": (_NONE, "answers are text"),
    "modalities": ((["text"],), "answers are text"),
    "functions": (([],), "use tools"),
    "function_call": (("none",), "use tool_choice"),
    "web_search_options": (_NONE, "this server looks nothing up"),
    "suffix": (("",), "models here continue a text and do not fill a gap in it"),
    "repetition_penalty": ((1,), "use presence_penalty or frequency_penalty"),
    "length_penalty": ((1,), "there is no beam search here"),
    "use_beam_search": ((False,), "there is no beam search here"),
    "min_tokens": ((0,), "an answer ends where the model ends it"),
    "ignore_eos": ((False,), "an answer ends where the model ends it"),
    "stop_token_ids": (([],), "use stop"),
    "prompt_logprobs": (_NONE, "the likelihoods of a prompt are not computed"),
    "chat_template_kwargs": (({},), "conversations are rendered as in training"),
    "chat_template": (_NONE, "conversations are rendered as in training"),
    "continue_final_message": ((False,), "use /v1/completions"),
    **dict.fromkeys(_GRAMMARS, (_NONE, "use response_format")),
}
"""Fields that would change what an answer means and cannot be obeyed: the values that ask for nothing, and why."""


def parsed(text: bytes) -> Body:
    """The object in a request's body. Raises Problem for what is no JSON (NaN and lone surrogates are not), for
    another value, and for one that is too deep."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not JSON: {shortened(str(error), 200)}") from None
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object")
    refuse_depth(value, "The body")
    return value


def refuse_depth(value: object, what: str, param: str | None = None) -> None:
    """Raise Problem where `value` has so many levels of brackets that reading it further could fail."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise invalid(f"{what} has more than {DEEPEST} levels of brackets", param)


def checked(body: Body, kinds: Mapping[str, Kind], needed: str) -> Body:
    """The fields of `kinds` that are there and not null; other names are ignored. `needed` is the one besides the
    model. Raises Problem for a value that a field does not take, and for what cannot be obeyed."""
    for name in ("model", needed):
        if body.get(name) is None:
            raise invalid(f"{name} is missing; it must be {kinds[name].words}", name)
    for name, kind in kinds.items():
        value = body.get(name)
        if value is not None and not kind.fits(value):
            raise invalid(f"{name} must be {kind.words}, not {_said(value)}", name)
    for name, (nothing, instead) in REFUSED.items():
        value = body.get(name)
        if value is not None and value not in nothing:
            raise invalid(f"{name} cannot be obeyed: {instead}", name)
    return {name: body[name] for name in kinds if body.get(name) is not None}


def document(kinds: Mapping[str, Kind], needed: str) -> dict[str, object]:
    """The request's body for the OpenAPI document."""
    fields = {name: dict(kind.schema) for name, kind in kinds.items()}
    schema = {"type": "object", "properties": fields, "required": ["model", needed]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _said(value: object) -> str:
    return shortened(orjson.dumps(value).decode(), 60)
