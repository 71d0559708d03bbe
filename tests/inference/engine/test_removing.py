"""An adapter that is removed while somebody waits for it answers first, and not the base in its place."""

from __future__ import annotations

import queue

from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Limits, Request, Token
from tests.inference.engine.conftest import Stories


def ids_of(heard: queue.SimpleQueue[Event]) -> list[int]:
    """The tokens of an answer that is heard to its end."""
    tokens: list[Token] = []
    while not isinstance(event := heard.get(timeout=60), Done):
        tokens += event.tokens
    assert event.reason == "length" and not event.fault
    return [token.id for token in tokens]


def test_who_waits_is_answered_by_what_was_asked_for(stories: Stories) -> None:
    engine = Engine(stories.folder, Limits(rows=1))
    engine.add("patterned", stories.adapters["patterned"])
    ids = tuple(engine.served[BASE].encoder.text_ids("Once upon a time"))

    def asked(model: str, tokens: int) -> queue.SimpleQueue[Event]:
        heard = queue.SimpleQueue[Event]()
        engine.submit(Request(model, ids, tokens), heard.put)
        return heard

    alone, base = ids_of(asked("patterned", 24)), ids_of(asked(BASE, 24))
    long, waits = asked(BASE, 100), asked("patterned", 24)
    engine.remove("patterned")
    engine.add("plain", stories.adapters["plain"])
    assert set(engine.served) == {BASE, "plain"}  # what is leaving has not come back
    assert ids_of(waits) == alone != base
    assert len(ids_of(long)) == 100
    engine.add("patterned", stories.adapters["patterned"])  # the name is free again
    assert ids_of(asked("patterned", 24)) == alone
    engine.close()
