"""What keeps an answer to a grammar, by llguidance, which tells what may come next; and the grammar of JSON."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from llm_installer.core.hints import pip
from llm_installer.inference.engine.request import Guide
from llm_installer.server.problems import Problem, invalid
from llm_installer.server.voices import Voice

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_SPACES = r"[ \n]{0,2}"
"""What may stand between the parts of JSON; without a bound a model may write spaces for ever."""
_ON_A_LINE = r" ?"
"""And in a call, whose answer may have few tokens: templates write calls on one line."""


def require_llguidance(param: str) -> None:
    """Raise Problem where the package is not installed."""
    if importlib.util.find_spec("llguidance") is None:
        raise invalid(f"{param} needs the package llguidance on the server: {pip('llguidance')}", param)


def json_grammar(schema: str) -> str:
    """The grammar of JSON that obeys a schema. Raises Problem without llguidance."""
    require_llguidance("response_format")
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _SPACES}))


def json_rule(schema: object) -> str:
    """What stands behind a rule's colon for JSON on a line that obeys a schema."""
    spaced = {"whitespace_pattern": _ON_A_LINE}
    return f"%json {json.dumps({**schema, 'x-guidance': spaced} if isinstance(schema, dict) else schema)}"


def quoted(voice: Voice, text: str) -> str:
    """A text in a rule, in which special tokens are named by their ids; nothing for an empty one."""
    tokenizer, found, at = voice.encoder.tokenizer, list[str](), 0
    for special in voice.special.finditer(text):
        found += [json.dumps(text[at : special.start()]), f"<[{tokenizer.convert_tokens_to_ids(special[0])}]>"]
        at = special.end()
    return " ".join(each for each in [*found, json.dumps(text[at:])] if each != '""')


def guide_factory(grammar: str, voice: Voice, param: str) -> Callable[[], Guide]:
    """Makes the guide of each answer: a copy of one that is made here, which may take long where a copy does not.
    Raises Problem, which names `param`, for a grammar that cannot be used."""
    from llguidance import LLMatcher

    matcher = LLMatcher(_tokenizer(voice), grammar)
    if wrong := str(matcher.get_error()):
        raise invalid(f"The schema cannot be obeyed: {wrong.splitlines()[0]}", param)
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
