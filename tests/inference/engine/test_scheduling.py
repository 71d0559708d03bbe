"""Who is read and who answers: within the memory that is allowed, long prompts in pieces beside the answers of others,
and nobody longer than somebody wants it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Limits, Piece, Request, Ticket, TooLong
from tests.inference.engine.conftest import Heard, Stories

TEXT = "Once upon a time, there was a little girl who lived in a house at the edge of a big forest."
Made = Callable[[Limits], Engine]


@pytest.fixture
def made(stories: Stories) -> Iterator[Made]:
    """Makes engines of the base alone."""
    engines: list[Engine] = []

    def make(limits: Limits) -> Engine:
        engines.append(Engine(stories.folder, limits))
        return engines[-1]

    yield make
    for each in engines:
        each.close()


def test_rows_share_the_memory_that_is_allowed_and_those_without_room_wait(made: Made, engine: Engine) -> None:
    ids = tuple(engine.served[BASE].encoder.text_ids(TEXT))
    tokens, token_bytes = 30, engine._models.tried.token_bytes
    room = 4 * (len(ids) + tokens) * token_bytes
    small = made(Limits(rows=16, cache_bytes=room, kept=4))
    alone, heard, most = Heard(), [Heard() for _ in range(12)], [0]
    engine.submit(Request(BASE, ids, tokens), alone.events.put)

    def hears(number: int) -> Callable[[Event], None]:
        def hear(event: Event) -> None:
            most[0] = max(most[0], small.counts().answering)  # on the engine's own thread, so it is so now
            heard[number].events.put(event)

        return hear

    for number in range(12):
        small.submit(Request(BASE, ids, tokens), hears(number))
    wanted = alone.ends()[0]
    assert [each.ends()[0] for each in heard] == [wanted] * 12
    assert 2 <= most[0] <= 4
    with pytest.raises(TooLong, match="There is no memory for 9 answers"):
        small.submit(Request(BASE, ids, tokens, n=9), print)


def test_a_long_prompt_is_read_in_pieces_beside_the_answers_of_others(made: Made, engine: Engine) -> None:
    chunked, encoder = made(Limits(chunk=16)), engine.served[BASE].encoder
    long, short = tuple(encoder.text_ids(TEXT * 7)), tuple(encoder.text_ids("The sun"))
    assert len(long) > 15 * 16
    told: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
    pieces = count(1)

    def begins(event: Event) -> None:
        """The long one comes when the short one has begun."""
        if next(pieces) == 1:
            chunked.submit(Request(BASE, long, 4), lambda event: told.put(("long", event)))
        told.put(("short", event))

    chunked.submit(Request(BASE, short, 60), begins)
    order, text = list[str](), ""
    while order.count("end") < 2:
        who, event = told.get(timeout=60)
        order.append("end" if isinstance(event, Done) else who)
        text += event.text if isinstance(event, Piece) and who == "long" else ""
    reads = -(-len(long) // 16)
    assert reads - 2 <= order[: order.index("long")].count("short") <= reads + 2, "a token beside each piece"
    whole = Heard()
    engine.submit(Request(BASE, long, 4), whole.events.put)
    assert whole.ends()[0][0] == text


def test_a_row_that_nobody_wants_leaves_within_two_steps(engine: Engine) -> None:
    ids, heard = tuple(engine.served[BASE].encoder.text_ids("The sun")), Heard()
    tickets: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
    made = count(1)

    def hear(event: Event) -> None:
        heard.events.put(event)
        if next(made) == 5:
            tickets.get(timeout=60).cancel()

    tickets.put(engine.submit(Request(BASE, ids, 400), hear))
    assert heard.ends_cancelled() <= 7
