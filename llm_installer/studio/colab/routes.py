"""Colab over HTTP: the wheel, the notebooks, pairing codes, and the result that somebody drops.

There is a notebook for each job, and one for all jobs, which a code pairs with one of them.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from fastapi import APIRouter, Body
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from llm_installer.studio.api.receiving import full, room
from llm_installer.studio.api.shapes import job_json
from llm_installer.studio.colab.notebook import notebook, paired_notebook
from llm_installer.studio.colab.returned import refuse_unless_wanted, returned, to_carry
from llm_installer.studio.colab.unpack import LARGEST
from llm_installer.studio.colab.wheel import Wheel, build_wheel, running_version
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.states import CLAIMABLE
from llm_installer.studio.store import files, jobs, tokens
from llm_installer.studio.store.refusals import NotAllowed, Refused

SECONDS = 600
"""How long a pairing code can be used."""
WRONG = 1.0
"""Seconds that the answer to a wrong code takes; one is answered at a time."""
NOTEBOOK = "application/x-ipynb+json"


class WrongCode(Refused):
    """No job has this pairing code."""

    status = 401
    code = "wrong_code"


class OtherCode(Refused):
    """The files of this server are not those that it runs."""

    status = 503
    code = "code_changed"


def router_of(studio: Studio) -> APIRouter:
    """The routes of wheels, notebooks, pairing and results."""
    running_version()  # what runs from here on, whatever is edited later
    router, wheels = APIRouter(tags=["colab"]), _Wheels(studio)
    wrong = asyncio.Lock()

    @router.get("/api/workers/wheel")
    def wheel() -> Response:
        """This program, as pip installs it."""
        made = wheels.get()
        headers = {"x-wheel": made.path.name, "x-sha256": made.sha256}
        return FileResponse(made.path, filename=made.path.name, media_type="application/zip", headers=headers)

    @router.post("/api/workers/pair")
    async def pair(code: str = Body(embed=True, max_length=100)) -> Json:
        """The token of a job for its pairing code, once."""
        found = await run_in_threadpool(_exchanged, studio, code)
        if found is None:
            async with wrong:
                await asyncio.sleep(WRONG)
            raise WrongCode("This code is wrong, has been used, or is older than ten minutes; take a new one")
        return {"job": found[0], "token": found[1], "version": running_version()}

    @router.get("/api/colab/notebook")
    def fixed() -> Response:
        """The one notebook for all jobs of this server."""
        return _download(paired_notebook(studio.base), "llm-installer.ipynb")

    _of_a_job(router, studio, wheels)
    return router


def _of_a_job(router: APIRouter, studio: Studio, wheels: _Wheels) -> None:
    @router.post("/api/jobs/{job_id}/colab")
    def colab(job_id: str) -> Json:
        """Leave a job to Colab: where its notebook is and, on a server with a public address, a pairing code."""
        code = leave_to_colab(studio, job_id)
        return {
            "notebook": f"/api/jobs/{job_id}/notebook",
            "paired_notebook": "/api/colab/notebook" if code else None,
            "code": code or None,
            "seconds": SECONDS if code else None,
        }

    @router.get("/api/jobs/{job_id}/notebook")
    def own(job_id: str) -> Response:
        """A notebook for one job, which carries its data and this program."""
        return _download(notebook(to_carry(studio, job_id), wheels.get()), f"{job_id[:8]}.ipynb")

    @router.post("/api/jobs/{job_id}/result")
    async def result(job_id: str, request: Request) -> Json:
        """The result file of a notebook, as the body: checked, and made a run of the model."""
        with studio.store.reading() as session:
            refuse_unless_wanted(jobs.find(session, job_id))
        place = files.receiving(studio.folder)
        try:
            await _received(studio, request, place)
            job = await run_in_threadpool(returned, studio, job_id, place)
        finally:
            place.unlink(missing_ok=True)
        studio.tail.wake(job_id)
        return job_json(studio, job)


def leave_to_colab(studio: Studio, job_id: str) -> str:
    """No worker takes this job from here on. A pairing code on a server with a public address, else nothing. Raises
    Unknown, and NotAllowed for a job that does not wait."""
    with studio.store.writing() as session:
        job = jobs.locked(session, job_id)
        if job.state not in CLAIMABLE:
            raise NotAllowed(f"Job {job.id} is not waiting for anybody, so Colab cannot have it")
        job.engine = "colab"
        if not studio.settings.public_url:
            return ""
        code = tokens.make(studio.store, session, job.id, tokens.PAIRING, SECONDS)
        return f"{code[:5]}-{code[5:]}"


class _Wheels:
    """The wheel of this server, built when somebody wants it."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._lock = studio, threading.Lock()
        self._made: Wheel | None = None

    def get(self) -> Wheel:
        """Raises OtherCode where the files have changed since the server began: they are not what it runs; and
        Problem where the disk is full."""
        with self._lock:
            if self._made is None or not self._made.path.is_file():
                room(self._studio, 0)
                made = build_wheel(self._studio.folder / "wheel")
                if made.version != running_version():
                    raise OtherCode("The files of this program have changed since the studio began; start it again")
                self._made = made
            return self._made


def _exchanged(studio: Studio, code: str) -> tuple[str, str] | None:
    with studio.store.writing() as session:
        return tokens.exchange(studio.store, session, code)


async def _received(studio: Studio, request: Request, place: Path) -> None:
    """Write the body to a file. Raises Problem where it is too large for a result, or for the disk."""
    count = 0
    with place.open("xb") as out:
        async for piece in request.stream():
            count += len(piece)
            if count > LARGEST:
                raise full()
            room(studio, len(piece))
            await run_in_threadpool(out.write, piece)


def _download(content: bytes, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=NOTEBOOK, headers=headers)
