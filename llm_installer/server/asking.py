"""A request on its way through the engine: taken, waited for, and given up the moment that nobody wants it any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from llm_installer.inference.engine.request import (
    Counts,
    EngineEnded,
    Listener,
    QueueFull,
    Request,
    Ticket,
    TooLong,
    UnknownModel,
)
from llm_installer.server.catalogue import Entry
from llm_installer.server.guides import guide_factory
from llm_installer.server.mailbox import Mail, Mailbox
from llm_installer.server.problems import Problem, busy, ended, too_long, unknown_model
from llm_installer.server.wishes import Wish

Submit = Callable[[Request, Listener], Ticket]
LONGEST_WAIT = 30
"""Seconds after which a client is told to try again, at most."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What a client waits for."""

    entry: Entry
    wish: Wish
    prompts: Sequence[tuple[int, ...]]
    tickets: Sequence[Ticket]
    mailbox: Mailbox

    async def news(self, seconds: float | None = None) -> list[Mail]:
        """What has come; see Mailbox.take. Raises Problem where the client has read nothing for too long."""
        mail = await self.mailbox.take(seconds)
        if self.mailbox.overflown:
            raise ended("The client read too slowly")
        return mail

    def cancel(self) -> None:
        """Nobody waits any more; after the end it changes nothing."""
        for ticket in self.tickets:
            ticket.cancel()

    @property
    def answers(self) -> int:
        """How many there will be."""
        return len(self.prompts) * self.wish.n

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt) for prompt in self.prompts)

    @property
    def reused_tokens(self) -> int:
        return sum(ticket.reused_tokens for ticket in self.tickets)


@dataclass(frozen=True)
class Prompted:
    """Everything that the engine must be asked, found out before."""

    entry: Entry
    wish: Wish
    prompts: Sequence[tuple[int, ...]]
    max_tokens: int
    """Where the wish names no limit; less where the model reads less."""
    images: tuple[str, ...] = ()
    special: bool = False
    grammar: str = ""
    """What answers must obey, for llguidance; empty for nothing."""

    def requests(self, positions: int) -> list[Request]:
        """One for each prompt. Raises Problem for a prompt that leaves no room, or a grammar that cannot be used."""
        return [self._request(prompt, positions) for prompt in self.prompts]

    def _request(self, ids: tuple[int, ...], positions: int) -> Request:
        wish, room = self.wish, positions - len(ids)
        if room < 1:
            raise too_long(f"The prompt has {len(ids):,} tokens, and this model reads {positions:,} with its answer")
        limit = min(room, self.max_tokens) if wish.max_tokens is None else wish.max_tokens
        if limit > room:
            raise too_long(
                f"The prompt has {len(ids):,} tokens and its answer may have {limit:,}; "
                f"this model reads {positions:,} in all"
            )
        param = "response_format" if wish.schema else "tools"
        return Request(
            model=self.entry.inside,
            ids=ids,
            max_new_tokens=limit,
            sampling=wish.sampling,
            stop=wish.stop,
            n=wish.n,
            logprobs=wish.logprobs,
            guide=guide_factory(self.grammar, self.entry.voice, param) if self.grammar else None,
            images=self.images,
            special=self.special,
        )


def ask(submit: Submit, counts: Callable[[], Counts], prompted: Prompted, requests: Sequence[Request]) -> Asked:
    """Hand the requests to the engine, all or none. Raises Problem where it does not take them."""
    mailbox, tickets = Mailbox(), list[Ticket]()
    try:
        for i, request in enumerate(requests):
            tickets.append(submit(request, mailbox.listener(i)))
    except (QueueFull, TooLong, UnknownModel, EngineEnded) as error:
        for ticket in tickets:
            ticket.cancel()
        raise _problem(error, prompted.entry, counts) from None
    return Asked(prompted.entry, prompted.wish, prompted.prompts, tickets, mailbox)


def _problem(error: Exception, entry: Entry, counts: Callable[[], Counts]) -> Problem:
    if isinstance(error, QueueFull):
        return busy(_patience(counts()))
    if isinstance(error, TooLong):
        return too_long(str(error))
    if isinstance(error, UnknownModel):  # it was removed this moment
        return unknown_model(entry.id, [])
    return ended("The engine has ended; restart the server")


def _patience(now: Counts) -> int:
    """Seconds after which half of those who wait will have been begun, so that those who come again find room."""
    return max(1, min(LONGEST_WAIT, ceil(now.pace * now.waiting / 2)))
