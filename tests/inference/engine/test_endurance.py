"""Thousands of short requests leave nothing behind."""

from __future__ import annotations

import os
import queue
import random
from pathlib import Path

import pytest

from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import BASE, Done, Event, Request
from llm_installer.inference.engine.request import Sampling as RowSampling
from tests.inference.engine.conftest import KINDS

WARM, COUNT = (1_000, 10_000) if os.environ.get("LLM_FUZZ") else (500, 1_500)


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_as_it_is(engine: Engine) -> None:
    chance, heard = random.Random(0), queue.SimpleQueue[Event]()

    def ask(count: int) -> None:
        """So many requests, at most 40 at a time; some are given up."""
        open_requests = 0
        for _ in range(count):
            ids = tuple(chance.randrange(3, 500) for _ in range(chance.randrange(1, 60)))
            sampling = RowSampling(chance.choice([0.0, 1.0]), seed=1)
            request = Request(chance.choice([BASE, *KINDS]), ids, chance.randrange(1, 8), sampling)
            ticket = engine.submit(request, lambda event: heard.put(event) if isinstance(event, Done) else None)
            open_requests += 1
            if chance.random() < 0.1:
                ticket.cancel()
            while open_requests >= 40:
                heard.get(timeout=60)
                open_requests -= 1
        for _ in range(open_requests):
            heard.get(timeout=60)

    ask(WARM)
    before = resident()
    ask(COUNT)
    engine._thread.submit(str).result()  # a row leaves after its end is told, in the same step
    after, counts = resident(), engine.counts()
    assert after < 1.05 * before, f"{before:,} -> {after:,}"
    assert (counts.answering, counts.reading, counts.waiting) == (0, 0, 0)
