"""Jobs over HTTP: list, create, cancel, queue again, follow, download."""

from __future__ import annotations

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from llm_installer.server.problems import invalid
from llm_installer.studio.api.downloads import result_file
from llm_installer.studio.api.shapes import event_json, job_json
from llm_installer.studio.api.stream import stream
from llm_installer.studio.context import Studio
from llm_installer.studio.curated import CURATED
from llm_installer.studio.options import checked, checked_model
from llm_installer.studio.plain import ENGINES, Json
from llm_installer.studio.states import STATES
from llm_installer.studio.store import cleaning, events, jobs
from llm_installer.studio.store.jobs import NewJob, Wanted

WHOLE = (1 << 31) - 1


class Asked(BaseModel):
    """A new job."""

    model: str
    file_id: str
    """Of a file that was uploaded to /v1/files."""
    options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    suffix: str = Field("", max_length=64)
    priority: int = Field(0, ge=-100, le=100)
    engine: str = "local"


def new_job(asked: Asked, key: str | None = None) -> NewJob:
    """What is asked, checked. Raises Problem and BadOption."""
    if asked.engine not in ENGINES:
        raise invalid(f"engine must be one of {', '.join(ENGINES)}", "engine")
    model = CURATED.get(asked.model.lower(), checked_model(asked.model))
    return NewJob(model, asked.file_id, checked(asked.options), asked.suffix, asked.priority, asked.engine, key=key)


def router_of(studio: Studio) -> APIRouter:
    """The routes below /api/jobs."""
    router = APIRouter(prefix="/api/jobs", tags=["jobs"])

    @router.get("")
    def listed(
        limit: int = Query(50, ge=1, le=200),
        after: str = "",
        state: list[str] = Query([]),  # noqa: B008
    ) -> Json:
        """Jobs, the newest first; `after` is the id of the last one that is known."""
        if strange := set(state) - set(STATES):
            raise invalid(f"There is no state {sorted(strange)[0]!r}", "state")
        with studio.store.reading() as session:
            found = jobs.listed(session, Wanted(tuple(state), most=limit + 1, after=after))
            data = [job_json(studio, job) for job in found[:limit]]
        return {"data": data, "has_more": len(found) > limit}

    @router.post("", status_code=201)
    def create(asked: Asked, idempotency_key: str | None = Header(None, max_length=255)) -> Json:
        """Create a job on a file that is there already."""
        return job_json(studio, jobs.create(studio.store, new_job(asked, idempotency_key))[0])

    @router.get("/{job_id}")
    def one(job_id: str) -> Json:
        """A job."""
        with studio.store.reading() as session:
            return job_json(studio, jobs.find(session, job_id))

    _acts(router, studio)
    _seen(router, studio)
    return router


def _acts(router: APIRouter, studio: Studio) -> None:
    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> Json:
        """Cancel a job."""
        with studio.store.writing() as session:
            job = jobs.cancel(studio.store, session, job_id)
        studio.tail.wake(job_id)
        return job_json(studio, job)

    @router.delete("/{job_id}")
    def remove(job_id: str) -> Json:
        """Delete a job that has ended, with its result; the run in its model directory stays."""
        cleaning.delete_job(studio.store, job_id)
        studio.tail.wake(job_id)
        return {"job_id": job_id, "deleted": True}

    @router.post("/{job_id}/again")
    def again(job_id: str) -> Json:
        """Queue a job once more that failed or was cancelled; it resumes where it can."""
        with studio.store.writing() as session:
            job = jobs.again(studio.store, session, job_id)
        studio.tail.wake(job_id)
        return job_json(studio, job)


def _seen(router: APIRouter, studio: Studio) -> None:
    @router.get("/{job_id}/events")
    async def follow(job_id: str, request: Request, last: int = Query(0, ge=0, le=1 << 62)) -> Response:
        """The events of a job as they come (server-sent events), after the number `last` or Last-Event-ID; the event
        `end` is the last one."""
        given = request.headers.get("last-event-id", "")
        start = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else last
        pieces = await stream(studio.tail, studio, job_id, start)
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(pieces, media_type="text/event-stream", headers=headers)

    @router.get("/{job_id}/log")
    def log(job_id: str, after: int = Query(0, ge=0, le=1 << 62), limit: int = Query(1000, ge=1, le=1000)) -> Json:
        """The events of a job with a number above `after`, without waiting."""
        with studio.store.reading() as session:
            jobs.find(session, job_id)
            found = events.after(session, job_id, after, limit)
        return {"data": [event_json(event) for event in found]}

    @router.get("/{job_id}/files/{path:path}")
    def file(job_id: str, path: str) -> Response:
        """A file of a job's result."""
        return result_file(studio, job_id, path)
