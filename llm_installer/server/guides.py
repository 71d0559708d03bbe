"""What keeps an answer to JSON, or to a tool call: grammars of llguidance, which tells what may come next."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from llm_installer.core.hints import pip
from llm_installer.data.encoding.call_forms import ARGUMENTS, NAME, CallForm
from llm_installer.inference.engine.request import Guide
from llm_installer.server.problems import Problem, invalid
from llm_installer.server.voices import Voice

if TYPE_CHECKING:
    from llguidance import LLTokenizer

Tool = Mapping[str, Mapping[str, object]]
_SPACES = {"whitespace_pattern": r"[ \n]{0,2}"}
"""What may stand between the parts of JSON; without a bound a model may write spaces for ever."""


def require_llguidance(param: str) -> None:
    """Raise Problem where the package is not installed."""
    if importlib.util.find_spec("llguidance") is None:
        raise invalid(f"{param} needs the package llguidance on the server: {pip('llguidance')}", param)


def json_grammar(schema: str) -> str:
    """The grammar of JSON that obeys a schema. Raises Problem without llguidance."""
    require_llguidance("response_format")
    from llguidance import LLMatcher

    return str(
        LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _SPACES["whitespace_pattern"]})
    )


def call_grammar(voice: Voice, form: CallForm, tools: Sequence[Tool], several: bool) -> str:
    """The grammar of a call of one of the tools, as the template writes it. Raises Problem without llguidance."""
    require_llguidance("tool_choice")
    from llguidance import LLMatcher

    rules = [f"start: {_quoted(voice, form.lead)} {_calls(form, len(tools), several)}"]
    for i, tool in enumerate(tools):
        function = tool["function"]
        parameters = function.get("parameters") or {"type": "object"}
        schema = parameters if form.between is not None else _filled(form.example, function["name"], parameters)
        named = "" if form.between is None else f"{function['name']}{form.between}"
        rules.append(f"call{i}: {_quoted(voice, form.before + named)} json{i} {_quoted(voice, form.after)}")
        rules.append(f"json{i}: %json {json.dumps(_with_spaces(schema))}")
    return str(LLMatcher.grammar_from_lark("\n".join(rules) + "\n"))


def _calls(form: CallForm, tools: int, several: bool) -> str:
    one = " | ".join(f"call{i}" for i in range(tools))
    again = several and form.mark and form.after.strip()
    return f'({one}) ("\\n" ({one}))*' if again else one


def _quoted(voice: Voice, text: str) -> str:
    """A text in a grammar, in which special tokens are named by their ids; nothing for an empty one."""
    tokenizer, found, at = voice.encoder.tokenizer, list[str](), 0
    for special in voice.special.finditer(text):
        found += [json.dumps(text[at : special.start()]), f"<[{tokenizer.convert_tokens_to_ids(special[0])}]>"]
        at = special.end()
    return " ".join(each for each in [*found, json.dumps(text[at:])] if each != '""')


def _with_spaces(schema: object) -> object:
    return {**schema, "x-guidance": _SPACES} if isinstance(schema, dict) else schema


def _filled(example: object, name: object, parameters: object) -> object:
    """The schema of a call that looks like the made-up one, but calls `name`."""
    if example == ARGUMENTS:
        return parameters
    if isinstance(example, dict):
        inside = {key: _filled(value, name, parameters) for key, value in example.items()}
        fixed = {"type": "object", "required": [key for key in example if key != "id"], "additionalProperties": False}
        return {**fixed, "properties": inside | ({"id": {"type": "string", "pattern": "^[a-z0-9]{9}$"}})}
    if isinstance(example, list):
        return {"type": "array", "items": _filled(example[0], name, parameters), "minItems": 1}
    return {"const": name if example == NAME else example}


def guide_factory(grammar: str, voice: Voice) -> Callable[[], Guide]:
    """Makes the guide of each answer: a copy of one that is made here, which may take long where a copy does not.
    Raises Problem for a grammar that cannot be used."""
    from llguidance import LLMatcher

    matcher = LLMatcher(_tokenizer(voice), grammar)
    if wrong := str(matcher.get_error()):
        raise invalid(f"The schema cannot be obeyed: {wrong.splitlines()[0]}", "response_format")
    return lambda: _Matcher(matcher.deep_copy(), voice)


class _Matches(Protocol):
    """What is used of an LLMatcher."""

    def is_stopped(self) -> bool: ...
    def is_error(self) -> bool: ...
    def is_accepting(self) -> bool: ...
    def compute_bitmask(self) -> bytes: ...
    def consume_token(self, token: int) -> bool: ...


class _Matcher:
    """One answer's way through its grammar."""

    def __init__(self, matcher: _Matches, voice: Voice) -> None:
        self._matcher = matcher
        self._stops = voice.encoder.stop_ids
        self._vocabulary = voice.vocabulary

    def allowed(self) -> Tensor:
        """As in Guide: what the grammar allows; once it is complete, what ends an answer."""
        found = np.zeros(self._vocabulary, dtype=np.bool_)
        matcher = self._matcher
        if not matcher.is_stopped() and not matcher.is_error():
            bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            known = np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(np.bool_)
            found[: len(known)] = known
        if matcher.is_stopped() or matcher.is_error() or matcher.is_accepting():
            found[list(self._stops)] = True
        return torch.from_numpy(found)

    def accept(self, token: int) -> None:
        """As in Guide."""
        if token not in self._stops:
            self._matcher.consume_token(token)


@lru_cache(maxsize=8)
def _tokenizer(voice: Voice) -> LLTokenizer:
    """The tokenizer as llguidance knows it; making it takes a moment."""
    from llguidance import LLTokenizer

    if not voice.encoder.tokenizer.is_fast:
        raise Problem(400, "This model's tokenizer cannot be kept to a grammar", param="response_format")
    text = voice.encoder.tokenizer.backend_tokenizer.to_str()
    return LLTokenizer(text, n_vocab=voice.vocabulary, eos_token=list(voice.encoder.stop_ids))
