"""A conversation with a model: its turns, and as many of them as the model can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from llm_installer.core.errors import UsageError
from llm_installer.core.examples import Message
from llm_installer.data.encoding.template_probes import CannotRender
from llm_installer.data.formats.turns import IMAGE_MARK
from llm_installer.inference.before_after import question_ids
from llm_installer.inference.generate import Answer, Sampling, answer
from llm_installer.inference.load import Assistant

DEFAULT_POSITIONS = 4096
"""Tokens that a model is taken to read where its config does not say."""


@dataclass
class Conversation:
    """The turns so far."""

    assistant: Assistant
    sampling: Sampling
    system: str = ""
    turns: list[Message] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """The pictures of the turns, in order; a mark in a turn stands for each."""
    last: Answer | None = None
    """The last answer, with what it took."""

    def ask(self, text: str, on_text: Callable[[str], None] | None = None, images: Sequence[str] = ()) -> str:
        """Answer `text`, asked about `images`, with the earlier turns as context; a plain-text model just continues
        it. `on_text` gets the answer piece by piece. Raises UsageError when the model cannot be shown the question, or
        not all of it."""
        _refuse_bytes(self.system + text)
        if self.assistant.style == "text" and not images:
            ids = question_ids(self.assistant.encoder, text, "text")
        else:
            marks = "" if text.count(IMAGE_MARK) == len(images) else f"{IMAGE_MARK}\n" * len(images)
            self.turns.append(Message("user", marks + text))
            self.images += images
            try:
                ids = self._fitting_ids()
            except CannotRender as error:
                self.take_back()
                raise UsageError(f"The model cannot be asked this: {error}; ask something else") from None
        self.last = answer(self.assistant.model, self.assistant.encoder, ids, self.room(len(ids)), on_text, self.images)
        reply = self.last.text
        if self.assistant.style == "chat":
            self.turns.append(Message("assistant", reply))
        return reply

    def room(self, tokens: int) -> Sampling:
        """How an answer is chosen after so many tokens: not longer than the model can read. Raises UsageError, and
        forgets the question, where no answer fits behind them."""
        self._refuse_too_long(tokens)
        room = self._positions() - tokens
        return replace(self.sampling, max_new_tokens=max(1, min(self.sampling.max_new_tokens, room)))

    def take_back(self) -> None:
        """Forget the last question if it has no answer yet."""
        if self.turns and self.turns[-1].role == "user":
            del self.images[len(self.images) - self.turns.pop().content.count(IMAGE_MARK) :]

    def undo(self) -> bool:
        """Forget the last question and its answer. Returns whether there was one."""
        if not self.turns:
            return False
        self.turns.pop()
        self.take_back()
        return True

    def restart(self, system: str | None = None) -> None:
        """Forget the turns; a new system text replaces the old one."""
        self.turns.clear()
        self.images.clear()
        if system is not None:
            self.system = system

    def _fitting_ids(self) -> list[int]:
        """The prompt; the oldest turns are forgotten when it would leave no room for an answer."""
        while True:
            head = [Message("system", self.system)] if self.system else []
            ids = self.assistant.encoder.prompt_ids([*head, *self.turns], images=self.images)
            if len(ids) <= self._positions() * 3 // 4 or len(self.turns) < 3:
                return ids
            del self.images[: sum(turn.content.count(IMAGE_MARK) for turn in self.turns[:2])]
            del self.turns[:2]

    def _refuse_too_long(self, tokens: int) -> None:
        """Raise UsageError, and forget the question, where it leaves no room for an answer."""
        most = self._known_positions()
        if most and tokens >= most:
            self.take_back()
            raise UsageError(
                f"The question takes {tokens:,} tokens, and this model reads {most:,} with its answer; shorten it"
            )

    def _positions(self) -> int:
        return self._known_positions() or DEFAULT_POSITIONS

    def _known_positions(self) -> int:
        """Tokens that the model reads as its config says; 0 where it does not."""
        config = self.assistant.model.config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return int(getattr(text, "max_position_embeddings", 0) or 0)


def _refuse_bytes(text: str) -> None:
    """Raise UsageError for a text that was typed or piped in another encoding than UTF-8, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("The question, or the instructions, are not in UTF-8; write them in it") from None
