"""Answers in the two shapes of OpenAI's API: chats, and completions of a text; whole, and in pieces."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llm_installer.inference.engine.request import Token
from llm_installer.server.answers import Answer, Said, written_calls
from llm_installer.server.asking import Asked
from llm_installer.server.token_bytes import TokenBytes

LEAST = -9999.0
"""What stands for the logarithm of zero, which JSON has no word for."""
Json = dict[str, object]


class Shape(Protocol):
    """How answers look."""

    def first(self, index: int) -> list[Json]:
        """What a stream says of an answer before its text."""

    def piece(self, index: int, said: Said, tokens: Sequence[Token]) -> Json:
        """Some more of an answer."""

    def last(self, answer: Answer) -> list[Json]:
        """How a stream ends an answer."""

    def whole(self, answers: Sequence[Answer]) -> Json:
        """All answers at once."""

    def chunk(self, choices: Sequence[Json]) -> Json:
        """Pieces as a stream sends them."""

    def usage(self, answers: Sequence[Answer]) -> Json:
        """What a stream ends with, where it was asked for."""


def usage_of(asked: Asked, answers: Sequence[Answer]) -> Json:
    """How many tokens there were."""
    prompt, made = asked.prompt_tokens, sum(answer.made for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": asked.reused_tokens},
    }


@dataclass
class _Named:
    """What every piece of one response has."""

    asked: Asked
    id: str
    object: str
    created: int = field(default_factory=lambda: int(time.time()))

    def with_choices(self, choices: Sequence[Json]) -> Json:
        entry = self.asked.entry
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": entry.id,
            "system_fingerprint": entry.fingerprint,
            "choices": [*choices],
        }


class ChatShape:
    """/v1/chat/completions."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        id = f"chatcmpl-{secrets.token_hex(12)}"
        self._chunk = _Named(asked, id, "chat.completion.chunk")
        self._whole = _Named(asked, id, "chat.completion")

    def first(self, index: int) -> list[Json]:
        """The role."""
        return [_choice(index, {"role": "assistant", "content": ""})]

    def piece(self, index: int, said: Said, tokens: Sequence[Token]) -> Json:
        """A delta of text, of a thought, or of both."""
        delta: Json = {"reasoning_content": said.thought} if said.thought else {}
        if said.text or not said.thought:
            delta["content"] = said.text
        return _choice(index, delta, self._logprobs(tokens))

    def last(self, answer: Answer) -> list[Json]:
        """The calls, each as its name and then its arguments; and an empty delta with the reason."""
        deltas: list[Json] = []
        for i, call in enumerate(written_calls(answer.calls)):
            function = call["function"]
            assert isinstance(function, dict)
            deltas.append({"tool_calls": [{"index": i, **call, "function": {**function, "arguments": ""}}]})
            deltas.append({"tool_calls": [{"index": i, "function": {"arguments": function["arguments"]}}]})
        chosen = [_choice(answer.index, delta) for delta in deltas]
        return [*chosen, {**_choice(answer.index, {}), "finish_reason": answer.finish}]

    def whole(self, answers: Sequence[Answer]) -> Json:
        """A message for each answer."""
        found = self._whole.with_choices([self._message(answer) for answer in answers])
        return found | {"usage": usage_of(self._asked, answers)}

    def chunk(self, choices: Sequence[Json]) -> Json:
        """One event of the stream."""
        return self._chunk.with_choices(choices) | ({"usage": None} if self._asked.wish.usage else {})

    def usage(self, answers: Sequence[Answer]) -> Json:
        """No choices, and the usage."""
        return self._chunk.with_choices([]) | {"usage": usage_of(self._asked, answers)}

    def _message(self, answer: Answer) -> Json:
        content = answer.text if answer.text or not answer.calls else None
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if answer.thought:
            message["reasoning_content"] = answer.thought
        if answer.calls:
            message["tool_calls"] = written_calls(answer.calls)
        return {
            "index": answer.index,
            "message": message,
            "logprobs": self._logprobs(answer.tokens),
            "finish_reason": answer.finish,
        }

    def _logprobs(self, tokens: Sequence[Token]) -> Json | None:
        if self._asked.wish.logprobs is None:
            return None
        bytes = self._asked.entry.voice.bytes
        return {"content": [_token(bytes, token) for token in tokens], "refusal": None}


class TextShape:
    """/v1/completions."""

    def __init__(self, asked: Asked, echoed: Sequence[str]) -> None:
        """`echoed` stands before the answers to each prompt; empty texts where nothing is repeated."""
        self._asked, self._echoed = asked, echoed
        self._named = _Named(asked, f"cmpl-{secrets.token_hex(12)}", "text_completion")
        self._bytes: dict[int, bytes] = {}
        """Of each answer what its tokens were so far, to know where the next one begins."""

    def first(self, index: int) -> list[Json]:
        """The prompt, where it is repeated."""
        before = self._before(index)
        return [self._choice(index, before)] if before else []

    def piece(self, index: int, said: Said, tokens: Sequence[Token]) -> Json:
        """Some text."""
        return self._choice(index, said.text, tokens)

    def last(self, answer: Answer) -> list[Json]:
        """No text, and the reason."""
        return [{**self._choice(answer.index, ""), "finish_reason": answer.finish}]

    def whole(self, answers: Sequence[Answer]) -> Json:
        """A text for each answer."""
        choices = [
            {
                **self._choice(answer.index, self._before(answer.index) + answer.text, answer.tokens),
                "finish_reason": answer.finish,
            }
            for answer in answers
        ]
        return self._named.with_choices(choices) | {"usage": usage_of(self._asked, answers)}

    def chunk(self, choices: Sequence[Json]) -> Json:
        """One event of the stream."""
        return self._named.with_choices(choices) | ({"usage": None} if self._asked.wish.usage else {})

    def usage(self, answers: Sequence[Answer]) -> Json:
        """No choices, and the usage."""
        return self._named.with_choices([]) | {"usage": usage_of(self._asked, answers)}

    def _before(self, index: int) -> str:
        return self._echoed[index // self._asked.wish.n]

    def _choice(self, index: int, text: str, tokens: Sequence[Token] = ()) -> Json:
        return {"index": index, "text": text, "logprobs": self._logprobs(index, tokens), "finish_reason": None}

    def _logprobs(self, index: int, tokens: Sequence[Token]) -> Json | None:
        if self._asked.wish.logprobs is None:
            return None
        known = self._asked.entry.voice.bytes
        offsets, before = list[int](), self._bytes.get(index, b"")
        start = len(self._before(index))
        for token in tokens:
            offsets.append(start + len(before.decode("utf-8", "ignore")))
            before += known.of(token.id)
        self._bytes[index] = before
        return {
            "tokens": [known.text(token.id) for token in tokens],
            "token_logprobs": [max(LEAST, token.logprob) for token in tokens],
            "top_logprobs": [{known.text(i): max(LEAST, value) for i, value in token.top} for token in tokens],
            "text_offset": offsets,
        }


def _choice(index: int, delta: Json, logprobs: Json | None = None) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _token(known: TokenBytes, token: Token) -> Json:
    return {**_likely(known, token.id, token.logprob), "top_logprobs": [_likely(known, *each) for each in token.top]}


def _likely(known: TokenBytes, id: int, logprob: float) -> Json:
    return {"token": known.text(id), "logprob": max(LEAST, logprob), "bytes": [*known.of(id)]}
