"""The page that takes a job to Colab and its result back: by a pairing code, or by two files that a person carries."""

from __future__ import annotations

import shutil

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from llm_installer.core.errors import DataError
from llm_installer.studio.api.receiving import form_of, room
from llm_installer.studio.colab.returned import returned
from llm_installer.studio.colab.routes import SECONDS, leave_to_colab
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.states import CLAIMABLE
from llm_installer.studio.store import files, jobs


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)

    @router.get("/jobs/{job_id}/colab")
    def look(job_id: str) -> Response:
        return _page(studio, job_id)

    @router.post("/jobs/{job_id}/colab")
    def leave(job_id: str) -> Response:
        return _page(studio, job_id, leave_to_colab(studio, job_id))

    @router.post("/jobs/{job_id}/result")
    async def result(request: Request, job_id: str) -> Response:
        async with form_of(studio, request, files=1, fields=2) as form:
            await run_in_threadpool(_take, studio, job_id, form)
        return to(f"/runs/{job_id}")

    return router


def _page(studio: Studio, job_id: str, code: str = "") -> Response:
    with studio.store.reading() as session:
        job = jobs.find(session, job_id)
    values = {"job": job, "waits": job.state in CLAIMABLE, "public": bool(studio.settings.public_url)}
    return drawn("colab.html", here="Runs", code=code, minutes=SECONDS // 60, **values)


def _take(studio: Studio, job_id: str, form: FormData) -> None:
    """The file that was dropped, as the result of the job."""
    sent = form.get("file")
    if not isinstance(sent, UploadFile) or not sent.filename:
        raise DataError("There is no file yet; choose the one that the notebook has left in your downloads")
    room(studio, sent.size or 0)
    place = files.receiving(studio.folder)
    try:
        with place.open("xb") as out:
            shutil.copyfileobj(sent.file, out, 1 << 20)
        returned(studio, job_id, place)
    finally:
        place.unlink(missing_ok=True)
    studio.tail.wake(job_id)
