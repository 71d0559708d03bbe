"""The events of a job as server-sent events, from any number on.

Written here and not with fastapi.sse, which the FastAPI of Python 3.10 does not have.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from starlette.concurrency import run_in_threadpool

from llm_installer.studio.api.curves import thinned
from llm_installer.studio.api.shapes import event_json, job_json
from llm_installer.studio.api.tail import SNAPSHOT, Tail
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.states import ENDED
from llm_installer.studio.store import events
from llm_installer.studio.store.refusals import Unknown
from llm_installer.studio.store.tables import Event

RETRY_MS = 2000


async def stream(tail: Tail, studio: Studio, job_id: str, last: int) -> AsyncIterator[str]:
    """The pieces of an answer. Raises Unknown before the first."""
    await run_in_threadpool(tail.missed, job_id, last)
    return _pieces(tail, studio, job_id, last)


async def _pieces(tail: Tail, studio: Studio, job_id: str, last: int) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MS}\n\n"
    job, count, newest = await run_in_threadpool(tail.missed, job_id, last)
    if count > SNAPSHOT:
        metrics = await run_in_threadpool(_metrics, studio, job_id, newest)
        yield piece("snapshot", {"job": job_json(studio, job), "metrics": metrics}, newest)
        last = newest
    if job.state in ENDED and last >= newest:
        yield piece("end", {"state": job.state, "status": job.status}, last)
        return
    try:
        async for found in tail.follow(job_id, last):
            if found is None:
                yield ": still here\n\n"
                continue
            for text in _texts(found):
                yield text
            if _ends(found[-1]):
                return
    except Unknown:
        yield piece("end", {"state": "deleted"}, last)


def _texts(found: Sequence[Event]) -> list[str]:
    texts = [piece(event.type, event_json(event), event.id) for event in found]
    if _ends(found[-1]):
        texts.append(piece("end", found[-1].data, found[-1].id))
    return texts


def _ends(event: Event) -> bool:
    return event.type == events.STATE and event.data.get("state") in ENDED


def _metrics(studio: Studio, job_id: str, newest: int) -> list[Json]:
    with studio.store.reading() as session:
        found = [event.data for event in events.of_type(session, job_id, events.METRICS) if event.id <= newest]
    return thinned(found)


def piece(name: str, data: Json, number: int) -> str:
    """One event; JSON has no line breaks of its own."""
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
