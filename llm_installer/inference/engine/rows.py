"""One answer on its way, and the rows that share a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag

from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.engine.request import Done, Listener, Piece, Reason, Request, Token
from llm_installer.inference.engine.sampling import Chooser, chooser
from llm_installer.inference.engine.text import Text


@dataclass(frozen=True)
class Served:
    """A model that requests may name."""

    name: str
    encoder: Encoder
    style: str
    """`chat` through the template, `text` for plain continuation."""
    words: str
    """What it is, for people."""
    path: Path | None = None
    """The adapter's folder; None for the base."""


@dataclass(eq=False)
class Taken:
    """A request that was taken (a Ticket)."""

    request: Request
    listener: Listener
    prompt_tokens: int
    reused_tokens: int = 0
    unwanted: Flag = field(default_factory=Flag)

    def cancel(self) -> None:
        """Nobody wants the answers any more."""
        self.unwanted.set()


@dataclass(eq=False)
class Row:
    """One answer of a request."""

    taken: Taken
    index: int
    chooser: Chooser
    text: Text
    stops: frozenset[int]
    """Tokens that end it."""
    ids: list[int]
    """The prompt and what was made; the model has read all but the last."""
    made: int = 0
    reason: Reason | None = None
    """Why it has ended; None while it has not."""

    @property
    def name(self) -> str:
        """The model it is answered by."""
        return self.taken.request.model

    @property
    def most(self) -> int:
        """Positions that it may come to need."""
        return self.taken.prompt_tokens + self.taken.request.max_new_tokens

    def take(self, token: Token) -> None:
        """The next token: tell what is certain of the text, and whether the answer has ended."""
        self.made += 1
        self.ids.append(token.id)
        ended = token.id in self.stops
        text = "" if ended else self.text.add(token.id)
        if ended or self.text.stopped:
            self.reason = "stop"
        elif self.made >= self.taken.request.max_new_tokens:
            self.reason = "length"
        if self.reason and not self.text.stopped:
            text += self.text.end()
            self.reason = "stop" if self.text.stopped else self.reason
        self.taken.listener(Piece(self.index, text, (token,)))
        if self.reason:
            self.taken.listener(Done(self.index, self.reason, self.made))

    def drop(self, reason: Reason, fault: str = "") -> None:
        """It ends before its end."""
        self.reason = reason
        self.taken.listener(Done(self.index, reason, self.made, fault))


@dataclass(eq=False)
class Family:
    """The rows of one prompt, which is read once for all of them."""

    taken: Taken
    rows: list[Row]

    @property
    def ids(self) -> tuple[int, ...]:
        """The prompt."""
        return self.taken.request.ids


def family(taken: Taken, served: Served, indices: Sequence[int]) -> Family:
    """The answers `indices` of a request, to be made by `served`."""
    request = taken.request
    stops = frozenset(served.encoder.stop_ids)
    decode = decoder(served.encoder, request.special)
    return Family(
        taken,
        [
            Row(
                taken,
                index,
                chooser(request.sampling, index, request.guide() if request.guide else None, request.logprobs),
                Text(decode, request.stop),
                stops,
                list(request.ids),
            )
            for index in indices
        ],
    )


def decoder(encoder: Encoder, special: bool) -> Callable[[list[int]], str]:
    """Ids to text by the encoder's tokenizer, with special tokens or without them."""
    tokenizer = encoder.tokenizer
    skip = not special
    if tokenizer.is_fast and not getattr(tokenizer, "clean_up_tokenization_spaces", False):
        backend = tokenizer.backend_tokenizer  # what tokenizer.decode calls, less ten times its own cost
        return lambda ids: str(backend.decode(ids, skip_special_tokens=skip))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=skip))
