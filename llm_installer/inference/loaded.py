"""A model that is ready to answer, as Python uses it: one question, a conversation, or many texts at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from llm_installer.core.errors import UsageError
from llm_installer.data.encoding.tokenizer import Tokenizer
from llm_installer.inference.before_after import question_ids
from llm_installer.inference.chat import Conversation
from llm_installer.inference.generate import Answer, Model, Sampling, answers
from llm_installer.inference.load import Assistant

MOST_NEW = 512
"""Tokens of an answer where nothing else is said, as in `start`."""
_ADDED = (".lora_", ".modules_to_save.", "trainable_tokens_delta")
"""What the names of an adapter's parameters have in them."""


@dataclass(frozen=True)
class Loaded:
    """A base and, if there is one, the adapter on it."""

    assistant: Assistant

    @property
    def model(self) -> Model:
        """The model itself, of transformers or PEFT."""
        return self.assistant.model

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, with the chat template that it was trained with."""
        return self.assistant.encoder.tokenizer

    @property
    def adapter(self) -> str:
        """Which adapter is active, in words; empty for none."""
        return self.assistant.adapter

    def ask(
        self,
        question: str,
        *,
        system: str = "",
        max_new_tokens: int = MOST_NEW,
        temperature: float = 0.0,
        top_p: float = 1.0,
    ) -> str:
        """The answer to one question, as a chat gives it: through the chat template, or, where the adapter was trained
        on plain text, as its continuation. Temperature 0 always gives the likeliest answer.

        Raises UsageError where the question leaves no room for an answer, or the template refuses it.
        """
        return Conversation(self.assistant, _sampling(max_new_tokens, temperature, top_p), system).ask(question)

    def conversation(
        self, system: str = "", *, max_new_tokens: int = MOST_NEW, temperature: float = 0.0, top_p: float = 1.0
    ) -> Conversation:
        """A conversation, which remembers its turns: each `.ask(text)` has the earlier ones as context."""
        return Conversation(self.assistant, _sampling(max_new_tokens, temperature, top_p), system)

    def generate(
        self, prompt: str, *, max_new_tokens: int = MOST_NEW, temperature: float = 0.0, top_p: float = 1.0
    ) -> str:
        """What follows a text, without a chat template; the text itself is not repeated.

        Raises UsageError where the text is empty, or leaves no room for more.
        """
        return self._continued([prompt], _sampling(max_new_tokens, temperature, top_p))[0].text

    def generate_all(
        self, prompts: Sequence[str], *, max_new_tokens: int = MOST_NEW, temperature: float = 0.0, top_p: float = 1.0
    ) -> list[str]:
        """The same for several texts, which are computed together."""
        if isinstance(prompts, str):
            raise UsageError("generate_all takes a list of texts; use generate for one")
        return [one.text for one in self._continued(prompts, _sampling(max_new_tokens, temperature, top_p))]

    def _continued(self, texts: Sequence[str], sampling: Sampling) -> list[Answer]:
        encoder = self.assistant.encoder
        ids = [question_ids(encoder, text, "text") for text in texts]
        empty = next((number for number, each in enumerate(ids, 1) if not each), 0)
        if empty:
            raise UsageError(f"Text {empty} is empty, and there is nothing to continue; give it a beginning")
        room = Conversation(self.assistant, sampling).room(max(map(len, ids), default=0))
        return answers(self.model, encoder, ids, room)


def _sampling(max_new_tokens: int, temperature: float, top_p: float) -> Sampling:
    """How tokens are chosen. Raises UsageError for numbers out of range."""
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise UsageError(f"max_new_tokens={max_new_tokens!r}: it must be a whole number from 1")
    if not temperature >= 0:
        raise UsageError(f"temperature={temperature!r}: it must be 0 or more")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p={top_p!r}: it must be more than 0 and at most 1")
    return Sampling(max_new_tokens, temperature, top_p)


def counts(model: nn.Module) -> tuple[int, int]:
    """(parameters of the adapter, or those with a gradient where there is none; all parameters) of a model.

    A weight in 4 bits counts as the numbers that it stands for.
    """
    sizes = {name: _numbers(each) for name, each in model.named_parameters()}
    added = [n for name, n in sizes.items() if any(part in name for part in _ADDED)]
    trained = sum(added) or sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(sizes.values())


def _numbers(parameter: Tensor) -> int:
    shape = getattr(getattr(parameter, "quant_state", None), "shape", None)
    return math.prod(shape) if shape is not None else parameter.numel()
