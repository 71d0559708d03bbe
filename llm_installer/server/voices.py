"""How one served model is spoken with: messages and texts to prompts, tokens to bytes, answers to tool calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from llm_installer.core.errors import DataError, ModelError
from llm_installer.core.examples import Message
from llm_installer.data.encoding.call_forms import CallForm, call_form
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.encoding.thought_forms import ThoughtForm, thought_form
from llm_installer.data.reading.images import ImageError, pixels
from llm_installer.server.problems import invalid, too_long
from llm_installer.server.token_bytes import TokenBytes

MOST_PIXELS = 1 << 26
"""Pixels that the images of a request may have in all."""
_TAIL = 24
"""Tokens at the end of a prompt in which a thought is opened."""
_SLACK = 4
"""Characters that a tokenizer may leave out of a text, as a factor."""


class ServedVoice(Protocol):
    """What the engine knows of a model."""

    @property
    def encoder(self) -> Encoder: ...
    @property
    def style(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Voice:
    """One model's encoder, and what was found out about it."""

    encoder: Encoder
    style: str
    """`chat` through the template, `text` for plain continuation."""
    vocabulary: int
    """Tokens that the model knows; the tokenizer may know fewer."""

    @cached_property
    def bytes(self) -> TokenBytes:
        """The bytes of tokens."""
        return TokenBytes(self.encoder.tokenizer)

    @cached_property
    def calls(self) -> CallForm | None:
        """How its answers call tools."""
        return call_form(self.encoder.template)

    @cached_property
    def thoughts(self) -> ThoughtForm | None:
        """How its answers think."""
        return thought_form(self.encoder.template) if self.style == "chat" else None

    def opens_thought(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends within a thought."""
        if self.thoughts is None:
            return False
        end = str(self.encoder.tokenizer.decode([*ids[-_TAIL:]], skip_special_tokens=False))
        return end.rstrip().endswith(self.thoughts.before)

    @cached_property
    def special(self) -> re.Pattern[str]:
        """Its special tokens, in a text that has them."""
        added = self.encoder.tokenizer.added_tokens_decoder.values()
        names = sorted((str(token) for token in added if token.special), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or r"(?!)")

    @cached_property
    def longest(self) -> int:
        """Characters of the longest token."""
        return max(map(len, self.encoder.tokenizer.get_vocab()), default=1)

    def chat_ids(self, messages: Sequence[Message], tools: str, images: Sequence[str], most: int) -> tuple[int, ...]:
        """The ids of a conversation; at most `most`. Raises Problem for what cannot be rendered or is too long."""
        self._refuse_long(sum(len(m.content) + len(m.tool_calls) for m in messages) + len(tools), most)
        if images and self.encoder.vision is None:
            raise invalid(f"This model cannot be shown an image: {self.encoder.no_vision}", "messages")
        _refuse_large(images)
        if self.style == "text" and not images and not tools:
            return self.text_ids(continued(messages), most)
        try:
            return tuple(self.encoder.prompt_ids(messages, tools, images))
        except CannotRender as error:
            raise invalid(f"The model cannot be asked this: {error}", "messages") from None
        except (ModelError, DataError) as error:
            raise invalid(str(error), "messages") from None

    def text_ids(self, text: str, most: int) -> tuple[int, ...]:
        """The ids of plain text. Raises Problem for one of which nothing is left, or that is too long."""
        self._refuse_long(len(text), most)
        ids = tuple(self.encoder.text_ids(text))
        if not ids:
            raise invalid("The prompt is empty", "prompt")
        return ids

    def known_ids(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Ids that a request gives itself. Raises Problem for one that the model does not know."""
        unknown = next((i for i in ids if i >= self.vocabulary), None)
        if unknown is not None:
            raise invalid(f"The prompt has the token {unknown}, and the model knows {self.vocabulary:,}", "prompt")
        return tuple(ids)

    def _refuse_long(self, characters: int, most: int) -> None:
        """Raise Problem before any work for a text that cannot have as few tokens as the model reads."""
        least = characters // (self.longest * _SLACK)
        if least > most:
            raise too_long(f"The prompt has more than {least:,} tokens, and this model reads {most:,} with its answer")


def _refuse_large(images: Sequence[str]) -> None:
    """Raise Problem before any work for images that others would wait for: a few bytes can stand for very many pixels,
    of which a model sees few."""
    try:
        whole = sum(map(pixels, images))
    except ImageError as error:
        raise invalid(f"The model cannot be asked this: {error}", "messages") from None
    if whole > MOST_PIXELS:
        words = f"The images have {whole:,} pixels, and a request may have {MOST_PIXELS:,}; send smaller ones"
        raise invalid(words, "messages")


def voice_of(served: ServedVoice, vocabulary: int) -> Voice:
    """The voice of a served model."""
    return Voice(served.encoder, served.style, vocabulary or len(served.encoder.tokenizer.get_vocab()))


def continued(messages: Sequence[Message]) -> str:
    """A conversation as one text for a model that continues plain text: answers stand behind what they continue, and
    questions on a line of their own."""
    text = ""
    for message in messages:
        gap = text and message.role != "assistant" and not text[-1].isspace() and not message.content[:1].isspace()
        text += ("\n" if gap else "") + message.content
    return text
