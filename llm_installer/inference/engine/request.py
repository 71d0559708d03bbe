"""What the engine is asked and what it tells, as plain values; light to import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from llm_installer.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Reason = Literal["stop", "length", "cancelled", "error"]
"""Why a row ended: by itself or at a stop string, at its limit, because nobody wants it any more, by a fault."""

BASE = "base"
"""The name of the model without any adapter."""


class Guide(Protocol):
    """What keeps a row to a grammar; one of its own for each row, asked on the engine's thread alone."""

    def allowed(self) -> Tensor:
        """Which tokens may come next: a boolean tensor [vocabulary]."""

    def accept(self, token: int) -> None:
        """Token `token` was chosen."""


@dataclass(frozen=True)
class Sampling:
    """How a row chooses its tokens; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all of them."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest are left out."""
    seed: int | None = None
    """None: another answer each time. Row i of a request takes seed + i."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """A prompt to continue."""

    model: str
    """A name that the engine serves: BASE or that of an adapter."""
    ids: tuple[int, ...]
    """The prompt; at least one token."""
    max_new_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it. The model's stop tokens end it anyway."""
    n: int = 1
    """Answers wanted to the same prompt."""
    logprobs: int | None = None
    """None: none. k: that of each chosen token and of the k likeliest (before temperature and penalties)."""
    guide: Callable[[], Guide] | None = None
    """Makes the guide of each answer; called by whoever submits the request, so it must return at once."""
    images: tuple[str, ...] = ()
    """Paths or data: addresses of the pictures that the prompt is about."""
    special: bool = False
    """Special tokens are part of the text, for who reads tool calls out of it."""


@dataclass(frozen=True)
class Token:
    """A chosen token and, where they were asked for, its natural logarithm of probability and the likeliest others."""

    id: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Some more of answer `index`: text that is certain, and the tokens since the last piece (the text may lag)."""

    index: int
    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Done:
    """Answer `index` has ended; `text` pieces before it are all there is of it."""

    index: int
    reason: Reason
    tokens: int
    """How many it made, with the one that ended it."""
    fault: str = ""
    """What went wrong, for reason `error`."""


Event = Piece | Done
Listener = Callable[[Event], None]
"""Called on the engine's thread; must return at once and never raise."""


class Ticket(Protocol):
    """A request that was taken."""

    prompt_tokens: int
    reused_tokens: int
    """Tokens of the prompt that were still known from an earlier request; final when the first piece comes."""

    def cancel(self) -> None:
        """Nobody wants the answers any more: its rows leave before the step after the next. From any thread."""


class QueueFull(UsageError):
    """As many requests wait as may."""


class TooLong(UsageError):
    """The prompt with its answer is longer than the model reads, or than the memory holds."""


class UnknownModel(UsageError):
    """No model is served by that name."""


class EngineEnded(RuntimeError):
    """The engine answers nobody any more."""


@dataclass(frozen=True)
class Limits:
    """What the engine may take."""

    rows: int = 32
    """Answers generated at the same time."""
    queue: int = 256
    """Requests that may wait."""
    cache_bytes: int = 2 << 30
    """Keys and values, those kept of earlier conversations included."""
    kept: int = 16
    """Conversations whose keys and values are kept."""
    chunk: int = 256
    """Prompt tokens read between two steps of those that are answering."""


@dataclass(frozen=True)
class Counts:
    """What the engine does now and has done."""

    answering: int
    """Rows that make tokens."""
    reading: int
    """Rows whose prompt is being read."""
    waiting: int
    """Requests in the queue."""
    requests: int
    """Taken since the start."""
    prompt_tokens: int
    reused_tokens: int
    new_tokens: int
    cache_bytes: int
    """Held now."""
    kept: int
    """Conversations kept."""
    pace: float = 0.0
    """Seconds between two requests that were begun, lately; 0 where that is not known."""
